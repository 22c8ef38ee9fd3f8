//! What a stream is, in its metadata: the layout of what is stored, the context, and the purpose. Programs and operators
//! recognize the streams of a context by it, and a program does not read a layout that it does not know.

use std::collections::HashMap;

use async_nats::jetstream::stream::Config;
use serde_json::{Map, Value};

use crate::client::settings::Kind;

/// The layout that this program writes and reads; the guide `wire` describes it.
pub(crate) const LAYOUT: &str = "2";

/// The key of the layout.
const KEY: &str = "cqrs.layout";

/// The key of a log's number of slices; without it there is one.
const SLICES: &str = "cqrs.slices";

/// A log without slices is one slice.
const ONE: &str = "1";

/// The metadata of a log.
pub(crate) fn of_log(context: &str, purpose: &str, slices: u16) -> HashMap<String, String> {
    let mut metadata = metadata(context, purpose);
    metadata.insert(SLICES.to_owned(), slices.to_string());
    metadata
}

/// The metadata of a stream of `context` for this purpose.
pub(crate) fn metadata(context: &str, purpose: &str) -> HashMap<String, String> {
    let created_by = concat!("cqrs-nats ", env!("CARGO_PKG_VERSION"));
    let metadata =
        [(KEY, LAYOUT), ("cqrs.context", context), ("cqrs.kind", purpose), ("cqrs.created-by", created_by)];
    metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// Fails with the number of slices of a log of the known layout and the wanted one, if they differ.
pub(crate) fn check_slices(
    kind: Kind,
    wanted: &Config,
    found: &Map<String, Value>,
) -> Result<(), (String, String)> {
    if kind != Kind::Log || check(kind, found).is_err() {
        return Ok(());
    }
    let wanted = wanted.metadata.get(SLICES).map_or(ONE, String::as_str);
    let found = match found.get("metadata").and_then(|metadata| metadata.get(SLICES)) {
        None => ONE,
        Some(found) => found.as_str().unwrap_or_default(),
    };
    if found == wanted { Ok(()) } else { Err((found.to_owned(), wanted.to_owned())) }
}

/// Why a stream with another number of slices is refused, and what to do.
pub(crate) fn other_slices(stream: &str, found: &str, wanted: &str) -> String {
    format!(
        "stream {stream} was created with {SLICES} {found}, and this program wants {wanted}: the number cannot be changed, \
         since aggregates are found by it; open it with `Topology::slices({found})`, or use another name"
    )
}

/// Fails with the layout of the stream that `config` describes, if it is not the known one. A log must say which it has:
/// the first layout was not written down. Other streams of a context may have been created by an operator.
pub(crate) fn check(kind: Kind, config: &Map<String, Value>) -> Result<(), Option<String>> {
    let found = config.get("metadata").and_then(|metadata| metadata.get(KEY)?.as_str());
    match found {
        Some(LAYOUT) => Ok(()),
        None if kind != Kind::Log => Ok(()),
        other => Err(other.map(str::to_owned)),
    }
}

/// Why a stream is refused, and what to do.
pub(crate) fn refused(stream: &str, found: Option<&str>) -> String {
    match found {
        Some(found) => format!(
            "stream {stream} has layout {found}, and this program reads layout {LAYOUT}: use the version of the program \
             that wrote it, or another name"
        ),
        None => format!(
            "stream {stream} does not say which layout it has, and this program reads layout {LAYOUT}: if an operator \
             has created it and it is empty, set its metadata {KEY} to {LAYOUT}; otherwise use another name"
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: Kind, metadata: &Value) -> Result<(), Option<String>> {
        let config = json!({ "name": "ORDERS", "metadata": metadata });
        check(kind, config.as_object().expect("an object"))
    }

    #[test]
    fn only_the_known_layout_is_read() {
        for kind in [Kind::Log, Kind::View, Kind::Deadlines] {
            assert_eq!(of(kind, &json!(metadata("orders", "events"))), Ok(()));
            for other in ["1", "3", "", "2 "] {
                assert_eq!(of(kind, &json!({ "cqrs.layout": other })), Err(Some(other.to_owned())));
            }
            for none in [Value::Null, json!({}), json!({ "team": "blue" })] {
                assert_eq!(of(kind, &none).is_ok(), kind != Kind::Log);
            }
        }
    }
}
