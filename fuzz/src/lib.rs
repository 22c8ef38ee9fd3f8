//! Events of all shapes, for the fuzz targets to read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use cqrs_core::{
    Aggregate, AggregateKey, Apply, CommandId, CorrelationId, Event, EventId, Metadata,
    log::{Commit, Origin, Recorded, RecordedEvent, StoredCommit},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An event with every kind of payload, some of them in several versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "fact")]
pub enum Fact {
    Nothing,
    Number(u128),
    Signed(i64, i8, char),
    #[event(version = 3, upcast(1 = u32, 2 = CountedV2), aliases("fact.numbered"))]
    Counted {
        by: String,
        number: u64,
    },
    Nested(Nested),
    Units(Vec<()>),
    Table {
        rows: HashMap<String, Vec<Option<bool>>>,
        sorted: BTreeMap<u16, Box<Choice>>,
    },
    Bytes(#[serde(with = "raw")] Vec<u8>),
    Id {
        id: Uuid,
    },
    Endless(Endless),
}

/// A type that can be nested without taking bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endless(pub Option<Box<Endless>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nested {
    pub inner: Option<Box<Nested>>,
    pub list: Vec<Nested>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Choice {
    Left(Box<Choice>),
    Right { text: String, others: Vec<Choice> },
    Neither,
}

#[derive(Serialize, Deserialize)]
pub struct CountedV2 {
    number: u32,
}

impl From<u32> for CountedV2 {
    fn from(number: u32) -> Self {
        Self { number }
    }
}

impl From<CountedV2> for Fact {
    fn from(old: CountedV2) -> Self {
        Self::Counted { by: String::new(), number: old.number.into() }
    }
}

/// Serializes as bytes, in formats that have them.
mod raw {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Visitor};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_seq(bytes)
        } else {
            serializer.serialize_bytes(bytes)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Raw;

        impl Visitor<'_> for Raw {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }

        if deserializer.is_human_readable() {
            Vec::deserialize(deserializer)
        } else {
            deserializer.deserialize_byte_buf(Raw)
        }
    }
}

/// A state that is kept in snapshots.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Fact, rejection = std::fmt::Error, snapshot(every = 5))]
pub struct State {
    pub last: Option<Fact>,
    pub numbers: Vec<u64>,
    pub units: Vec<()>,
}

impl Apply<Fact> for State {
    fn apply(&mut self, event: &Fact) {
        self.last = Some(event.clone());
    }
}

/// The aggregate of all targets.
pub fn key() -> AggregateKey {
    AggregateKey::new("fact", "1").expect("a short id")
}

/// Reads the bytes after the first two as an event's payload; these choose its stored type.
pub fn read(input: &[u8], content_type: &str) -> Option<Fact> {
    let [name, version, data @ ..] = input else { return None };
    let stored = Fact::TYPES[usize::from(*name) % Fact::TYPES.len()];
    // Sometimes a version that no program knows.
    let version = if *version == 255 { 255 } else { stored.version };
    let origin = Origin {
        time: jiff::Timestamp::UNIX_EPOCH,
        command: "fuzz".into(),
        command_id: CommandId(Uuid::nil()),
        fingerprint: 0,
        correlation_id: CorrelationId(Uuid::nil()),
        causation_id: None,
        metadata: Metadata::default(),
    };
    let event = RecordedEvent {
        id: EventId(Uuid::nil()),
        origin: Arc::new(origin),
        event_type: stored.name.into(),
        schema_version: version,
        content_type: content_type.to_owned().into(),
        data: Bytes::copy_from_slice(data),
    };
    let commit = Commit { aggregate: key(), first_version: 1, source: "/fuzz".into(), events: event.into() };
    let stored = StoredCommit { sequence: 1, commit };
    Recorded { stored: &stored, index: 0 }.decode::<Fact>().ok().map(|envelope| envelope.data)
}
