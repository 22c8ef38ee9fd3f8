//! The attributes of an event, in whatever form they are carried.

use std::{borrow::Cow, str::FromStr, sync::Arc};

use bytes::Bytes;
use cqrs_core::{AggregateKey, Commit, EventId, Metadata, Origin, RecordedEvent};
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

/// The attributes of one event as they are read: those that its commit has a place for, each once.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    specversion: Text<'a>,
    id: Text<'a>,
    source: Text<'a>,
    event_type: Text<'a>,
    time: Text<'a>,
    aggregate: Text<'a>,
    subject: Text<'a>,
    aggregate_version: Text<'a>,
    schema_version: Text<'a>,
    command: Text<'a>,
    command_id: Text<'a>,
    command_hash: Text<'a>,
    correlation_id: Text<'a>,
    causation_id: Text<'a>,
    pub(super) content_type: Text<'a>,
    metadata: Metadata,
}

/// The value of an attribute, if it is there.
type Text<'a> = Option<Cow<'a, str>>;

impl<'a> Attributes<'a> {
    /// Adds an attribute; what has none of the known names is metadata.
    pub(super) fn add(&mut self, name: &str, value: Cow<'a, str>) {
        match self.place(name) {
            Some(place) => *place = Some(value),
            // Attributes that others added under names that metadata cannot have are left alone.
            None => drop(self.metadata.insert(name, value)),
        }
    }

    fn place(&mut self, name: &str) -> Option<&mut Text<'a>> {
        Some(match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "time" => &mut self.time,
            "aggregate" => &mut self.aggregate,
            "subject" => &mut self.subject,
            "aggregateversion" => &mut self.aggregate_version,
            "schemaversion" => &mut self.schema_version,
            "command" => &mut self.command,
            "commandid" => &mut self.command_id,
            "commandhash" => &mut self.command_hash,
            "correlationid" => &mut self.correlation_id,
            "causationid" => &mut self.causation_id,
            "datacontenttype" => &mut self.content_type,
            _ => return None,
        })
    }

    /// The commit that holds this one event.
    pub(super) fn commit(
        mut self,
        aggregate: AggregateKey,
        content_type: Cow<'static, str>,
        data: Bytes,
    ) -> Result<Commit, String> {
        let specversion = there("specversion", self.specversion.take())?;
        if specversion != "1.0" {
            return Err(format!("CloudEvents {specversion:?} is not 1.0"));
        }
        let (name, id) =
            (there("aggregate", self.aggregate.take())?, self.subject.take().unwrap_or_default());
        if name != aggregate.name() || id != aggregate.id() {
            return Err(format!("it is about {name}/{id}, but stands where {aggregate} does"));
        }
        let first_version = parsed("aggregateversion", self.aggregate_version.take())?;
        let source = there("source", self.source.take())?.into();
        let id: EventId = parsed("id", self.id.take())?;
        let event_type = owned(there("type", self.event_type.take())?);
        let schema_version = parsed("schemaversion", self.schema_version.take())?;
        let origin = Arc::new(self.origin()?);
        let event = RecordedEvent { id, origin, event_type, schema_version, content_type, data };
        Ok(Commit { aggregate, first_version, source, events: event.into() })
    }

    fn origin(self) -> Result<Origin, String> {
        let hash = there("commandhash", self.command_hash)?;
        Ok(Origin {
            time: parsed("time", self.time)?,
            command: owned(there("command", self.command)?),
            command_id: parsed("commandid", self.command_id)?,
            fingerprint: u64::from_str_radix(&hash, 16).map_err(|_| unfit("commandhash", &hash))?,
            correlation_id: parsed("correlationid", self.correlation_id)?,
            causation_id: self.causation_id.map(|id| parsed("causationid", Some(id))).transpose()?,
            metadata: self.metadata,
        })
    }
}

fn there<'a>(name: &str, value: Text<'a>) -> Result<Cow<'a, str>, String> {
    value.ok_or_else(|| format!("attribute {name} is missing"))
}

fn parsed<T: FromStr>(name: &str, value: Text<'_>) -> Result<T, String> {
    let text = there(name, value)?;
    text.parse().map_err(|_| unfit(name, &text))
}

fn unfit(name: &str, text: &str) -> String {
    format!("attribute {name} has the value {text:?}")
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    text.into_owned().into()
}
