use crate::{base::content_type::JSON, model::event::Event};

#[cfg(feature = "bincode")]
mod attributes;
mod reads_back;

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use serde::Deserialize;

use cqrs_derive::Event;

use super::*;

/// An event that is read in three versions, in bincode or in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "shop", crate = crate)]
#[cfg_attr(feature = "bincode", event(codec = bincode))]
enum Fact {
    #[event(version = 3, upcast(1 = u32, 2 = CountedV2), aliases("shop.numbered"))]
    Counted {
        by: String,
        number: u64,
    },
    Nested(Nested),
    Nothing(Vec<()>),
    Closed,
    Left {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    #[event(retired)]
    Opened {
        at: BTreeMap<String, Vec<Option<i8>>>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Nested {
    inner: Option<Box<Nested>>,
}

#[derive(Serialize, Deserialize)]
struct CountedV2 {
    number: u32,
}

impl From<u32> for CountedV2 {
    fn from(number: u32) -> Self {
        Self { number }
    }
}

impl From<CountedV2> for Fact {
    fn from(old: CountedV2) -> Self {
        Self::Counted { by: "nobody".into(), number: old.number.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "scale", crate = crate)]
enum Weighed {
    Once(f64),
    Perhaps { kilograms: Option<f64> },
    Together(serde_json::Value),
}

#[test]
fn json_that_could_not_be_read_back_is_not_recorded() {
    let recorded = |mut event: Weighed| encode_data(&mut event, &key());
    for none in [f64::NAN, f64::INFINITY] {
        let error = recorded(Weighed::Once(none)).unwrap_err();
        assert!(matches!(error, Error::Unrecordable { event_type: "scale.once", .. }), "{error:?}");
    }
    let nested = |depth| (0..depth).fold(serde_json::json!("null"), |value, _| serde_json::json!([value]));
    assert!(recorded(Weighed::Together(nested(128))).is_err());
    for good in [
        Weighed::Once(1.5),
        Weighed::Perhaps { kilograms: None },
        Weighed::Together(nested(126)),
        Weighed::Together(serde_json::Value::from(vec![serde_json::json!([{}, [], null]); 100])),
    ] {
        let data = recorded(good.clone()).unwrap();
        let read: Weighed = decode_json(good.event_type(), &data).unwrap();
        assert_eq!(read, good);
    }
}

/// A value whose serialization writes another value as JSON.
struct Nesting(Vec<u64>);

impl Serialize for Nesting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = json::encode(&self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_bytes(&inner)
    }
}

#[test]
fn the_buffer_of_a_thread_serves_values_within_values_and_failures() {
    assert_eq!(json::encode(&(1, Nesting(vec![2]))).unwrap(), "[1,[91,50,93]]");
    let unwritable = BTreeMap::from([(vec![1], 1)]);
    assert!(json::encode(&unwritable).is_err());
    let large = 64 * 1024;
    assert_eq!(json::encode(&vec![0; large]).unwrap().len(), 2 * large + 1);
    assert_eq!(json::encode(&"x").unwrap(), "\"x\"");
}

fn key() -> AggregateKey {
    AggregateKey::new("shop", "1").unwrap()
}

pub(crate) fn stored(event_type: &str, schema_version: u32, content_type: &str, data: &[u8]) -> StoredCommit {
    let origin = Arc::new(Origin {
        command: "count".into(),
        time: jiff::Timestamp::UNIX_EPOCH,
        command_id: crate::base::id::CommandId(Uuid::nil()),
        fingerprint: 0,
        correlation_id: crate::base::id::CorrelationId(Uuid::nil()),
        causation_id: None,
        metadata: crate::base::metadata::Metadata::default(),
    });
    let event = RecordedEvent {
        id: EventId(Uuid::nil()),
        origin,
        event_type: event_type.to_owned().into(),
        schema_version,
        content_type: content_type.to_owned().into(),
        data: Bytes::copy_from_slice(data),
    };
    let commit = crate::log::commit::Commit {
        aggregate: key(),
        first_version: 1,
        source: "/shop".into(),
        events: event.into(),
    };
    StoredCommit { sequence: 9, commit }
}

fn read(event_type: &str, version: u32, content_type: &str, data: &[u8]) -> Result<Fact, StoreError> {
    decode(&stored(event_type, version, content_type, data), 0)
}

#[test]
fn every_version_is_read_as_the_newest() {
    let expected = Fact::Counted { by: "nobody".into(), number: 7 };
    assert_eq!(read("shop.counted", 1, JSON, b"7").unwrap(), expected);
    assert_eq!(read("shop.counted", 2, JSON, br#"{"number":7}"#).unwrap(), expected);
    assert_eq!(read("shop.counted", 3, JSON, br#"{"number":7,"by":"nobody"}"#).unwrap(), expected);
    assert_eq!(read("shop.numbered", 2, JSON, br#"{"number":7}"#).unwrap(), expected);
}

#[test]
fn an_envelope_keeps_the_type_that_was_stored() {
    let envelope = decode_envelope::<Fact>(&stored("shop.numbered", 1, JSON, b"7"), 0).unwrap();
    assert_eq!(envelope.stored_type, EventType::new("shop.numbered", 1));
    assert_eq!(envelope.event_type(), EventType::new("shop.counted", 3));
}

#[test]
fn what_this_program_does_not_know_is_named() {
    let error = read("shop.counted", 4, JSON, b"7").unwrap_err();
    assert!(matches!(&error, StoreError::UnknownVersion { version: 4, known, .. } if *known == [1, 2, 3]));
    let expected = "event shop.counted of shop/1 at sequence 9 was stored in version 4, \
                    and this program reads versions 1, 2, 3";
    assert_eq!(error.to_string(), expected);
    let error = read("shop.burnt", 1, JSON, b"7").unwrap_err();
    assert!(matches!(&error, StoreError::UnknownEvent { event_type, .. } if event_type == "shop.burnt"));
    let expected = "event shop.burnt of shop/1 at sequence 9 is none that this program reads: it reads \
                    shop.counted, shop.numbered, shop.nested, shop.nothing, shop.closed, shop.left, shop.opened";
    assert_eq!(error.to_string(), expected);
    let error = read("shop.closed", 1, "text/plain", b"{}").unwrap_err().to_string();
    assert!(error.contains(r#"content type "text/plain" is none"#), "{error}");
}

/// Other writers may use these content types.
#[test]
fn json_is_read_by_whatever_name_it_goes() {
    for name in [
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        " application/json ",
        "text/json",
        "application/vnd.shop.closed+json; version=1",
    ] {
        assert_eq!(read("shop.closed", 1, name, b"{}").unwrap(), Fact::Closed, "{name}");
    }
    for name in ["", "application/jsonp", "text/plain; x=/json", "application/json-seq"] {
        assert!(read("shop.closed", 1, name, b"{}").is_err(), "{name}");
    }
    #[cfg(feature = "bincode")]
    assert_eq!(read("shop.closed", 1, "Application/X-Bincode; v=2", b"").unwrap(), Fact::Closed);
}

#[test]
fn nothing_may_be_left_over() {
    assert!(read("shop.closed", 1, JSON, b"{} {}").is_err());
    assert!(read("shop.counted", 1, JSON, b"7 7").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        data in vec(any::<u8>(), 0..200),
        version in 0_u32..5,
        name in prop::sample::select(vec!["counted", "nested", "nothing", "closed", "left", "opened"]),
        content_type in prop::sample::select(vec![JSON, "application/x-bincode"]),
    ) {
        let _ = read(&format!("shop.{name}"), version, content_type, &data);
    }
}

#[cfg(feature = "bincode")]
mod bincode {
    use super::*;
    use crate::base::content_type::BINCODE;

    fn nested(depth: usize) -> Fact {
        let around = |inner| Nested { inner: Some(Box::new(inner)) };
        Fact::Nested((0..depth).fold(Nested { inner: None }, |inner, _| around(inner)))
    }

    fn reason(event_type: &str, data: &[u8]) -> String {
        let error = read(event_type, 1, BINCODE, data).unwrap_err();
        let StoreError::Undecodable { reason, .. } = error else { panic!("{error:?}") };
        reason
    }

    #[test]
    fn every_version_is_read_from_bincode_as_well() {
        let expected = Fact::Counted { by: "nobody".into(), number: 7 };
        assert_eq!(read("shop.counted", 1, BINCODE, &[7]).unwrap(), expected);
        assert_eq!(read("shop.counted", 2, BINCODE, &[7]).unwrap(), expected);
        assert_eq!(read("shop.counted", 3, BINCODE, b"\x06nobody\x07").unwrap(), expected);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        assert!(reason("shop.closed", &[0]).contains("1 bytes are left over"));
        // A list of 3,000,000,000 elements that take no bytes.
        let bomb = [[252].as_slice(), &3_000_000_000_u32.to_le_bytes()].concat();
        assert!(
            reason("shop.nothing", &bomb).contains("too many parts"),
            "{}",
            reason("shop.nothing", &bomb)
        );
        let boxes = vec![1; 500_000];
        assert!(
            reason("shop.nested", &boxes).contains("nested too deep"),
            "{}",
            reason("shop.nested", &boxes)
        );
        assert!(reason("shop.nested", &vec![1; MAX + 1]).contains("at most"));
        // A text, and a list, that claim to be longer than there are bytes.
        let long = [[253].as_slice(), &u64::MAX.to_le_bytes()].concat();
        assert!(read("shop.counted", 3, BINCODE, &long).is_err());
        assert!(read("shop.opened", 1, BINCODE, &long).is_err());
    }

    const MAX: usize = 1024 * 1024;

    #[test]
    fn what_would_not_come_back_is_not_recorded() {
        let recorded = |mut fact: Fact| encode_data(&mut fact, &key());
        let lost = Fact::Left { reason: None };
        let error = recorded(lost).unwrap_err();
        assert!(matches!(error, Error::Unrecordable { event_type: "shop.left", .. }), "{error:?}");
        assert!(recorded(Fact::Left { reason: Some("x".into()) }).is_ok());
        assert!(recorded(nested(20)).is_ok());
        assert!(recorded(nested(100)).is_err(), "too deep to be read");
        assert!(recorded(Fact::Nothing(vec![(); 5_000])).is_err(), "too many to be read");
        let large = Fact::Counted { by: "x".repeat(MAX), number: 0 };
        let error = recorded(large).unwrap_err().to_string();
        assert!(error.contains("at most 1048576 are accepted"), "{error}");
    }

    fn facts() -> impl Strategy<Value = Fact> {
        prop_oneof![
            any::<(String, u64)>().prop_map(|(by, number)| Fact::Counted { by, number }),
            (0_usize..30).prop_map(nested),
            (0_usize..1000).prop_map(|number| Fact::Nothing(vec![(); number])),
            Just(Fact::Closed),
            any::<String>().prop_map(|reason| Fact::Left { reason: Some(reason) }),
            any::<BTreeMap<String, Vec<Option<i8>>>>().prop_map(|at| Fact::Opened { at }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(fact in facts()) {
            let data = encode_data(&mut fact.clone(), &key()).unwrap();
            let EventType { name, version } = fact.event_type();
            prop_assert_eq!(read(name, version, BINCODE, &data).unwrap(), fact);
        }

        #[test]
        fn a_damaged_payload_is_refused_or_another_event(
            fact in facts(), at in any::<prop::sample::Index>(), flip in 1_u8..
        ) {
            let mut data = encode_data(&mut fact.clone(), &key()).unwrap().to_vec();
            if !data.is_empty() {
                let at = at.index(data.len());
                data[at] ^= flip;
                let EventType { name, version } = fact.event_type();
                let _ = read(name, version, BINCODE, &data);
                let _ = read(name, version, BINCODE, &data[..at]);
            }
        }
    }
}
