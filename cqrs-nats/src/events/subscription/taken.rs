//! Whether a client reads from a consumer, for a process that does not subscribe itself.

use async_nats::jetstream::{ErrorCode, consumer::Info};
use cqrs_core::StoreError;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    client::{
        api::Api,
        connection::{Connection, NoAnswer},
        errors::no_answer,
    },
    events::subscription::{consumer, reader::LOOK},
};

/// Whether a client reads from the consumer of this name, or waits for its first message; `None` if the user may not
/// ask.
pub(crate) async fn is_taken(
    connection: &Connection,
    stream: &str,
    subscriber: &str,
) -> Result<Option<bool>, StoreError> {
    let first = look(connection, stream, subscriber).await?;
    if first != Some(false) {
        return Ok(first);
    }
    // Between two requests of a client without a pin, the consumer looks free for a moment; so does a consumer that its
    // subscriber creates again.
    sleep(LOOK).await;
    look(connection, stream, subscriber).await
}

async fn look(connection: &Connection, stream: &str, subscriber: &str) -> Result<Option<bool>, StoreError> {
    let what = || format!("looking at consumer {subscriber} of stream {stream}");
    let place = format!("{stream}.{subscriber}");
    let nothing = json!({});
    let asked = connection.ask::<Info>(&connection.jetstream, Api::ConsumerInfo, &place, &nothing);
    match Box::pin(asked).await {
        Ok(Ok(info)) => Ok(Some(consumer::is_taken(&info))),
        Ok(Err(failure)) if failure.code() == Some(ErrorCode::CONSUMER_NOT_FOUND) => Ok(Some(false)),
        Ok(Err(failure)) => Err(failure.into_store_error(what())),
        Err(NoAnswer::NotPermitted(_)) => Ok(None),
        Err(why) => Err(no_answer(what(), why)),
    }
}
