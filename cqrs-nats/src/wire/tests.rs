use std::sync::Arc;

use cqrs_core::{
    CausationId, CommandId, CorrelationId, EventId, Events, Metadata,
    log::{BINCODE, Origin, RecordedEvent},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::{
    attributes::{Value, own, shared},
    json::BATCH,
    *,
};

fn origins() -> impl Strategy<Value = Arc<Origin>> {
    let metadata = vec(("[a-z0-9]{1,20}", any::<String>()), 0..4);
    (any::<[u128; 2]>(), "[a-z_]{1,12}", option::of(any::<u128>()), metadata).prop_map(
        |(ids, command, causation, metadata)| {
            let mut origin = Origin {
                time: "2026-01-02T03:04:05.678901234Z".parse().expect("a time"),
                command: command.into(),
                command_id: CommandId(Uuid::from_u128(ids[0])),
                fingerprint: u64::try_from(ids[1] >> 64).expect("64 bits"),
                correlation_id: CorrelationId(Uuid::from_u128(ids[1])),
                causation_id: causation.map(|id| CausationId(Uuid::from_u128(id))),
                metadata: Metadata::default(),
            };
            for (name, value) in metadata {
                let _ = origin.metadata.insert(name, value);
            }
            Arc::new(origin)
        },
    )
}

/// Encoded payloads with their content type: JSON, bytes, text, and no payload.
fn payloads() -> impl Strategy<Value = (&'static str, Bytes)> {
    prop_oneof![
        any::<String>().prop_map(|text| (JSON, serde_json::to_vec(&text).expect("JSON").into())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| ("application/octet-stream", bytes.into())),
        any::<String>().prop_map(|text| ("text/plain; charset=utf-8", text.into())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| (BINCODE, bytes.into())),
        Just((JSON, Bytes::new())),
        Just(("application/json; charset=utf-8", Bytes::from_static(b"{}"))),
        Just(("application/vnd.thing+json", Bytes::from_static(b"null"))),
    ]
}

fn events() -> impl Strategy<Value = RecordedEvent> {
    let event_type = "[a-z]{1,8}(\\.[a-z_]{1,8})?";
    (any::<u128>(), origins(), event_type, 1_u32..9, payloads()).prop_map(
        |(id, origin, event_type, schema_version, (content_type, data))| RecordedEvent {
            id: EventId(Uuid::from_u128(id)),
            origin,
            event_type: event_type.into(),
            schema_version,
            content_type: content_type.into(),
            data,
        },
    )
}

fn commits() -> impl Strategy<Value = Commit> {
    (any::<String>(), 1_u64..1_000_000, vec(events(), 1..5), any::<[bool; 5]>()).prop_filter_map(
        "the id is too long",
        |(id, first_version, mut events, same)| {
            let aggregate = AggregateKey::new("order", id).ok()?;
            // Some events have the same command as the one before.
            for index in (1..events.len()).filter(|index| same[*index]) {
                events[index].origin = Arc::clone(&events[index - 1].origin);
            }
            Some(Commit { aggregate, first_version, source: "/shop".into(), events: events.into() })
        },
    )
}

fn format(content_type: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type);
    headers
}

/// The text that the content of a JSON string says.
fn said(value: Value<'_>) -> String {
    let mut json = vec![b'"'];
    value.write(&mut json);
    json.push(b'"');
    serde_json::from_slice(&json).unwrap()
}

/// The first event as another program may write it: in binary mode, with its attributes in headers.
fn binary(commit: &Commit) -> (HeaderMap, Bytes) {
    let event = &commit.events[0];
    let mut headers = format(&event.content_type);
    let mut add = |name: &str, value: Value<'_>| {
        // A header of its own.
        if name == "datacontenttype" {
            return;
        }
        let value = utf8_percent_encode(&said(value), NON_ALPHANUMERIC).to_string();
        headers.insert(format!("{PREFIX}{name}"), value);
    };
    own(commit, 0, &mut add);
    shared(commit, &event.origin, &mut add);
    for (name, value) in event.origin.metadata.iter() {
        add(name, Value::Text(value));
    }
    (headers, event.data.clone())
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(commit in commits()) {
        let (content_type, payload) = encode(&commit).unwrap();
        let read = decode(commit.aggregate.clone(), &format(content_type), payload);
        prop_assert_eq!(read, Ok(commit));
    }

    #[test]
    fn an_event_in_binary_mode_is_read(mut commit in commits()) {
        commit.events = commit.events[0].clone().into();
        let (headers, payload) = binary(&commit);
        prop_assert_eq!(decode(commit.aggregate.clone(), &headers, payload), Ok(commit));
    }

    #[test]
    fn a_business_transaction_is_found_without_decoding(commit in commits()) {
        let (content_type, payload) = encode(&commit).unwrap();
        for event in &commit.events {
            let id = event.origin.correlation_id.to_string();
            prop_assert!(may_mention(&format(content_type), &payload, &id));
        }
        let other = "0190a5f3-0000-7000-8000-00000000000f";
        prop_assert!(!may_mention(&format(content_type), &payload, other));
    }

    #[test]
    fn no_payload_makes_the_reader_panic(payload in vec(any::<u8>(), 0..200), format_of in 0..3_usize) {
        let headers = format([BATCH, json::EVENT, JSON][format_of]);
        let key = AggregateKey::new("order", "1").unwrap();
        prop_assert!(decode(key, &headers, payload.into()).is_err());
    }
}

#[test]
fn a_commit_on_another_aggregates_subject_is_refused() {
    let (headers, payload, _) = one_event();
    for (name, id) in [("order", "2"), ("order", ""), ("orders", "1"), ("orde", "r/1")] {
        let key = AggregateKey::new(name, id).unwrap();
        let error = decode(key.clone(), &headers, payload.clone()).unwrap_err();
        assert_eq!(error, format!("it is about order/1, but stands where {key} does"));
    }
}

/// A change of these bytes is another layout.
#[test]
fn the_bytes_of_a_message() {
    let (_, _, read) = one_event();
    let mut commit = read(&one_event().0).expect("a commit");
    let text = |commit: &Commit| {
        let (content_type, payload) = encode(commit).expect("a message");
        (content_type, String::from_utf8(payload.to_vec()).expect("text"))
    };
    let id = "00000000-0000-0000-0000-000000000000";
    let shared = format!(
        r#""specversion":"1.0","source":"/x","subject":"order/1","time":"2026-01-02T03:04:05Z","command":"create","commandid":"{id}","commandhash":"0000000000000000","user":"anna""#
    );
    let one = format!(r#"{{"id":"{id}","type":"created","aggregateversion":"1",{shared},"data":{{}}}}"#);
    assert_eq!(text(&commit), ("application/cloudevents+json", one.clone()));

    // What is not the usual is written.
    let mut other = commit.events[0].clone();
    other.schema_version = 2;
    (other.content_type, other.data) = (BINCODE.into(), Bytes::from_static(b"\x01"));
    let origin = Arc::make_mut(&mut other.origin);
    origin.correlation_id = CorrelationId(Uuid::from_u128(1));
    origin.causation_id = Some(CausationId(Uuid::from_u128(2)));
    origin.metadata = Metadata::default();
    commit.events.extend(Events::from(other));
    let caused = "00000000-0000-0000-0000-00000000000";
    let two = format!(
        r#"{{"id":"{id}","type":"created","aggregateversion":"2","schemaversion":"2","datacontenttype":"{BINCODE}","specversion":"1.0","source":"/x","subject":"order/1","time":"2026-01-02T03:04:05Z","command":"create","commandid":"{id}","commandhash":"0000000000000000","correlationid":"{caused}1","causationid":"{caused}2","data_base64":"AQ=="}}"#
    );
    assert_eq!(text(&commit), ("application/cloudevents-batch+json", format!("[{one},{two}]")));
}

/// The headers and the payload of one event in binary mode, and a function that reads it with other headers.
fn one_event() -> (HeaderMap, Bytes, impl Fn(&HeaderMap) -> Result<Commit, String>) {
    let mut origin = Origin {
        time: "2026-01-02T03:04:05Z".parse().expect("a time"),
        command: "create".into(),
        command_id: CommandId(Uuid::nil()),
        fingerprint: 0,
        correlation_id: CorrelationId(Uuid::nil()),
        causation_id: None,
        metadata: Metadata::default(),
    };
    origin.metadata.insert("user", "anna").expect("a name");
    let event = RecordedEvent {
        id: EventId(Uuid::nil()),
        origin: Arc::new(origin),
        event_type: "created".into(),
        schema_version: 1,
        content_type: JSON.into(),
        data: Bytes::from_static(b"{}"),
    };
    let aggregate = AggregateKey::new("order", "1").expect("a key");
    let commit =
        Commit { aggregate: aggregate.clone(), first_version: 1, source: "/x".into(), events: event.into() };
    let (headers, payload) = binary(&commit);
    let read = {
        let payload = payload.clone();
        move |headers: &HeaderMap| decode(aggregate.clone(), headers, payload.clone())
    };
    (headers, payload, read)
}

/// Otherwise the order of a hash table would decide which of the two is used.
#[test]
fn a_header_that_is_there_more_than_once_is_refused() {
    let (headers, _, read) = one_event();
    read(&headers).expect("a commit");
    let names: Vec<String> = headers.iter().map(|(name, _)| AsRef::<str>::as_ref(name).to_owned()).collect();
    for name in names {
        let once = headers.get(name.as_str()).expect("a value").clone();
        let expected = Err(format!("header {name} is there more than once"));
        for other in [name.to_uppercase(), name.replace('c', "C")] {
            for value in [once.as_str(), "other"] {
                let mut twice = headers.clone();
                twice.insert(other.as_str(), value);
                assert_eq!(read(&twice), expected);
            }
        }
        let mut twice = headers.clone();
        twice.append(name.as_str(), once);
        assert_eq!(read(&twice), expected);
    }
    // In one spelling, of any case, it is the same; a header that is no attribute may occur any number of times.
    let mut loud = HeaderMap::new();
    for (name, values) in headers.iter() {
        loud.insert(AsRef::<str>::as_ref(name).to_uppercase(), values[0].as_str());
    }
    loud.append("Nats-Msg-Id", "1");
    loud.append("Nats-Msg-Id", "2");
    assert_eq!(read(&loud), read(&headers));
}

#[test]
fn a_member_that_is_there_more_than_once_is_refused() {
    let (mut headers, _, read) = one_event();
    let commit = read(&headers).expect("a commit");
    let mut two = commit.clone();
    two.events.extend(commit.events.clone());
    let json = String::from_utf8(encode(&two).expect("a batch").1.to_vec()).expect("text");
    let decoded = |headers: &HeaderMap, json: &str| {
        decode(commit.aggregate.clone(), headers, Bytes::copy_from_slice(json.as_bytes()))
    };
    headers = format(BATCH);
    decoded(&headers, &json).expect("a batch");
    for (member, again) in [
        ("id", r#""id":"x""#),
        ("id", r#""id":null"#),
        ("id", r#""\u0069d":"x""#),
        ("data", r#""data":1"#),
        ("data", r#""data":null"#),
        ("user", r#""user":"ben""#),
        ("user", r#""user":null"#),
        ("none", r#""none":null,"none":null"#),
        ("none", r#""none":null,"none":"1""#),
        ("data_base64", r#""data_base64":"","data_base64":null"#),
    ] {
        let twice = json.replacen('{', &format!("{{{again},"), 1);
        let error = decoded(&headers, &twice).expect_err("it is there twice");
        assert!(error.contains(&format!("member {member:?} is there more than once")), "{error}");
    }
    // A member without a value counts as missing.
    let without = json.replacen('{', r#"{"none":null,"causationid":null,"data_base64":null,"#, 1);
    assert_eq!(decoded(&headers, &without), decoded(&headers, &json));
}

#[test]
fn a_version_that_no_log_reaches_is_refused() {
    let (headers, _, read) = one_event();
    let of = |version: &str| {
        let mut headers = headers.clone();
        headers.insert("ce-aggregateversion", version);
        read(&headers).map(|commit| commit.last_version())
    };
    assert_eq!(of("9223372036854775807"), Ok(i64::MAX as u64));
    for version in ["0", "9223372036854775808", "18446744073709551615", "18446744073709551616", "-1", "1.0"] {
        assert_eq!(of(version), Err(format!("attribute aggregateversion has the value {version:?}")));
    }
}

#[test]
fn a_format_that_is_not_read_is_named() {
    let headers = format("application/cloudevents+protobuf");
    let error = decode(AggregateKey::new("order", "1").unwrap(), &headers, Bytes::new()).unwrap_err();
    assert_eq!(error, "events in the format \"application/cloudevents+protobuf\" are not read");
}
