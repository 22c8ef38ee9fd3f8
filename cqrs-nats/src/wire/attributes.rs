//! The attributes of an event, in whatever form they are carried.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, CausationId, CommandId, Commit, CorrelationId, EventId, Metadata, Origin, RecordedEvent,
};
use uuid::Uuid;

/// What the names of attributes begin with where they are headers.
pub(super) const PREFIX: &str = "ce-";

/// The attributes of the event at `index`, by their names as headers; `datacontenttype` and metadata aside.
pub(super) fn attributes(commit: &Commit, index: usize) -> Vec<(&'static str, Cow<'_, str>)> {
    let event = &commit.events[index];
    let origin = &event.origin;
    let mut attributes: Vec<(&'static str, Cow<'_, str>)> = vec![
        ("ce-specversion", "1.0".into()),
        ("ce-id", uuid(event.id.0)),
        ("ce-source", (*commit.source).into()),
        ("ce-type", (*event.event_type).into()),
        ("ce-time", origin.time.to_string().into()),
        ("ce-aggregate", commit.aggregate.name().into()),
        ("ce-aggregateversion", (commit.first_version + index as u64).to_string().into()),
        ("ce-schemaversion", event.schema_version.to_string().into()),
        ("ce-command", origin.command.as_ref().into()),
        ("ce-commandid", uuid(origin.command_id.0)),
        ("ce-commandhash", format!("{:016x}", origin.fingerprint).into()),
        ("ce-correlationid", uuid(origin.correlation_id.0)),
    ];
    // An attribute that is there must not be empty.
    if !commit.aggregate.id().is_empty() {
        attributes.push(("ce-subject", commit.aggregate.id().into()));
    }
    if let Some(causation) = origin.causation_id {
        attributes.push(("ce-causationid", uuid(causation.0)));
    }
    attributes
}

/// The text of an id, without the detour over formatting.
fn uuid(id: Uuid) -> Cow<'static, str> {
    id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned().into()
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
