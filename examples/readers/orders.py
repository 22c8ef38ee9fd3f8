#!/usr/bin/env python3
"""Prints every event of a context as one JSON object a line: python3 orders.py nats://localhost:4222 orders"""

import asyncio
import json
import sys
from base64 import b64decode
from urllib.parse import unquote

import nats
from nats.js.api import DeliverPolicy


def events(headers, payload):
    """The CloudEvents in a message of the stream, whichever of the three forms it has."""
    headers = {name.lower(): value for name, value in (headers or {}).items()}
    content_type = headers.get("content-type", "application/json")
    media_type = content_type.split(";")[0].strip().lower()
    if media_type == "application/cloudevents-batch+json":
        return [whole(with_data(event)) for event in json.loads(payload)]
    if media_type == "application/cloudevents+json":
        return [whole(with_data(json.loads(payload)))]
    event = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    event.setdefault("datacontenttype", content_type)
    return [whole({**event, "data": data(event["datacontenttype"], payload)})]


def whole(event):
    """An event with the attributes that are not written when they have their usual values."""
    usual = {"datacontenttype": "application/json", "schemaversion": "1", "correlationid": event["commandid"]}
    return {**usual, **event}


def with_data(event):
    """An event in the JSON format, whose data may stand in either of two members."""
    if "data_base64" in event:
        event["data"] = data(event.get("datacontenttype", ""), b64decode(event.pop("data_base64")))
    return {"data": None, **event}


def data(content_type, payload):
    """JSON as it is, and what is not JSON as its bytes in hexadecimal digits."""
    if not payload:
        return None
    is_json = content_type.split(";")[0].strip().lower().endswith(("/json", "+json"))
    return json.loads(payload) if is_json else payload.hex()


async def main(url, context):
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    stream = context.upper()
    last = (await jetstream.stream_info(stream)).state.last_seq
    # An ordered consumer: the server keeps nothing, and a gap is noticed and read again.
    subscription = await jetstream.subscribe(
        f"{context}.event.>", stream=stream, ordered_consumer=True, deliver_policy=DeliverPolicy.ALL
    )
    sequence = 0
    while sequence < last:
        message = await subscription.next_msg(timeout=10)
        sequence = message.metadata.sequence.stream
        for event in events(message.headers, message.data):
            print(json.dumps({"sequence": sequence, **event}, ensure_ascii=False, sort_keys=True))
    await connection.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: orders.py URL CONTEXT")
    asyncio.run(main(*sys.argv[1:]))
