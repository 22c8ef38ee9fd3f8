//! The attributes of an event, in whatever form they are carried.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, CausationId, CommandId, Commit, CorrelationId, EventId, Metadata, Origin, RecordedEvent,
};

/// The attributes of the event at `index`, `datacontenttype` aside.
pub(super) fn attributes(commit: &Commit, index: usize) -> Vec<(&str, Cow<'_, str>)> {
    let event = &commit.events[index];
    let origin = &event.origin;
    let mut attributes: Vec<(&str, Cow<'_, str>)> = vec![
        ("specversion", "1.0".into()),
        ("id", event.id.to_string().into()),
        ("source", commit.source.as_str().into()),
        ("type", event.event_type.as_str().into()),
        ("time", origin.time.to_string().into()),
        ("aggregate", commit.aggregate.name().into()),
        ("aggregateversion", (commit.first_version + index as u64).to_string().into()),
        ("schemaversion", event.schema_version.to_string().into()),
        ("command", origin.command.as_ref().into()),
        ("commandid", origin.command_id.to_string().into()),
        ("commandhash", format!("{:016x}", origin.fingerprint).into()),
        ("correlationid", origin.correlation_id.to_string().into()),
    ];
    // An attribute that is there must not be empty.
    if !commit.aggregate.id().is_empty() {
        attributes.push(("subject", commit.aggregate.id().into()));
    }
    if let Some(causation) = origin.causation_id {
        attributes.push(("causationid", causation.to_string().into()));
    }
    attributes.extend(origin.metadata.iter().map(|(name, value)| (name, value.into())));
    attributes
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
        content_type: String,
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
        let source = self.take("source")?;
        let (id, event_type, schema_version) =
            (self.parse::<EventId>("id")?, self.take("type")?, self.parse("schemaversion")?);
        let origin = Arc::new(self.origin()?);
        let event = RecordedEvent { id, origin, event_type, schema_version, content_type, data };
        Ok(Commit { aggregate, first_version, source, events: vec![event] })
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
