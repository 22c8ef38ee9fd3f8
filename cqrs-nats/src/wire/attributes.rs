//! The attributes of an event, in whatever form they are carried.

use std::{borrow::Cow, collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, CausationId, CommandId, Commit, CorrelationId, EventId, Metadata, Origin, RecordedEvent,
};
use jiff::Timestamp;
use uuid::Uuid;

/// What the names of attributes begin with where they are headers.
pub(super) const PREFIX: &str = "ce-";

/// The value of an attribute, which is a text wherever it is carried.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Hash(u64),
    Id(Uuid),
    Time(Timestamp),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Hash(hash) => write!(f, "{hash:016x}"),
            // The text of an id, without the detour over formatting.
            Self::Id(id) => f.write_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// Tells the attributes of the event at `index`, by their names as headers; `datacontenttype` and metadata aside.
pub(super) fn attributes<'a>(
    commit: &'a Commit,
    index: usize,
    mut each: impl FnMut(&'static str, Value<'a>),
) {
    let event = &commit.events[index];
    let origin = &event.origin;
    each("ce-specversion", Value::Text("1.0"));
    each("ce-id", Value::Id(event.id.0));
    each("ce-source", Value::Text(&commit.source));
    each("ce-type", Value::Text(&event.event_type));
    // An attribute that is there must not be empty.
    if !commit.aggregate.id().is_empty() {
        each("ce-subject", Value::Text(commit.aggregate.id()));
    }
    each("ce-time", Value::Time(origin.time));
    each("ce-aggregate", Value::Text(commit.aggregate.name()));
    each("ce-aggregateversion", Value::Number(commit.first_version + index as u64));
    each("ce-schemaversion", Value::Number(event.schema_version.into()));
    each("ce-command", Value::Text(&origin.command));
    each("ce-commandid", Value::Id(origin.command_id.0));
    each("ce-commandhash", Value::Hash(origin.fingerprint));
    each("ce-correlationid", Value::Id(origin.correlation_id.0));
    if let Some(causation) = origin.causation_id {
        each("ce-causationid", Value::Id(causation.0));
    }
}

/// The attributes of one event, taken one by one; what is left over is metadata.
pub(super) struct Attributes(pub(super) HashMap<String, String>);

impl Attributes {
    fn take(&mut self, name: &str) -> Result<String, String> {
        self.0.remove(name).ok_or_else(|| format!("attribute {name} is missing"))
    }

    fn parse<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, String> {
        let text = self.take(name)?;
        text.parse().map_err(|_| format!("attribute {name} has the value {text:?}"))
    }

    fn hash(&mut self, name: &str) -> Result<u64, String> {
        let text = self.take(name)?;
        u64::from_str_radix(&text, 16).map_err(|_| format!("attribute {name} has the value {text:?}"))
    }

    /// The commit that holds this one event.
    pub(super) fn commit(
        mut self,
        aggregate: AggregateKey,
        content_type: Cow<'static, str>,
        data: Bytes,
    ) -> Result<Commit, String> {
        let specversion = self.take("specversion")?;
        if specversion != "1.0" {
            return Err(format!("CloudEvents {specversion:?} is not 1.0"));
        }
        let (name, id) = (self.take("aggregate")?, self.0.remove("subject").unwrap_or_default());
        if name != aggregate.name() || id != aggregate.id() {
            return Err(format!("it is about {name}/{id}, but stands where {aggregate} does"));
        }
        let first_version = self.parse("aggregateversion")?;
        let source = self.take("source")?.into();
        let (id, event_type, schema_version) =
            (self.parse::<EventId>("id")?, self.take("type")?.into(), self.parse("schemaversion")?);
        let origin = Arc::new(self.origin()?);
        let event = RecordedEvent { id, origin, event_type, schema_version, content_type, data };
        Ok(Commit { aggregate, first_version, source, events: event.into() })
    }

    fn origin(mut self) -> Result<Origin, String> {
        let has_cause = self.0.contains_key("causationid");
        let mut origin = Origin {
            time: self.parse("time")?,
            command: self.take("command")?.into(),
            command_id: self.parse::<CommandId>("commandid")?,
            fingerprint: self.hash("commandhash")?,
            correlation_id: self.parse::<CorrelationId>("correlationid")?,
            causation_id: if has_cause { Some(self.parse::<CausationId>("causationid")?) } else { None },
            metadata: Metadata::default(),
        };
        for (name, value) in self.0 {
            // Attributes that others added under names that metadata cannot have are left alone.
            let _ = origin.metadata.insert(name, value);
        }
        Ok(origin)
    }
}
