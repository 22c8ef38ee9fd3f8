//! The settings of a stream: which values are required, and which an operator may choose.
//!
//! Each field of a stream's configuration is judged by one question: can the setting lose acknowledged messages, or add
//! messages that no program wrote? The judgement is of the server's answer as JSON, not of the fields that the client
//! knows, so that a setting of a later server is noticed.

use std::fmt;

use async_nats::jetstream::stream::Config;
use serde_json::{Map, Value};

/// The purpose of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The commits of a context, or its public log.
    Log,
    /// The documents of a view, or the records of views. A bucket of snapshots is not judged: it is a cache, and a lost
    /// snapshot is replaced by reading the log.
    View,
    Deadlines,
}

/// The judgement of one setting.
#[derive(Debug)]
struct Setting {
    /// The name of the setting on the server.
    key: &'static str,
    /// The required value; `None` if an operator may choose it.
    must: Option<Value>,
    /// Why it is required, or why it may be chosen.
    reason: &'static str,
}

/// A setting of a stream that does not have its required value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name of the setting on the server.
    pub setting: String,
    /// The required value.
    pub wanted: String,
    /// The value that was found.
    pub found: String,
    /// What could happen with it.
    pub reason: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} and must be {} ({})", self.setting, self.found, self.wanted, self.reason)
    }
}

pub(crate) fn list(differences: &[Difference]) -> String {
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The judgement of each setting that the client knows.
#[expect(clippy::too_many_lines, reason = "it is a list")]
fn judge(kind: Kind, wanted: &Config) -> Vec<Setting> {
    // Without `..`: a setting that the client adds must be judged below, or this does not compile.
    let Config {
        name: _,
        max_bytes: _,
        max_messages: _,
        max_messages_per_subject: _,
        discard: _,
        discard_new_per_subject: _,
        subjects: _,
        retention: _,
        max_consumers: _,
        max_age: _,
        max_message_size: _,
        storage: _,
        num_replicas: _,
        no_ack: _,
        duplicate_window: _,
        template_owner: _,
        sealed: _,
        description: _,
        allow_rollup: _,
        deny_delete: _,
        deny_purge: _,
        republish,
        allow_direct: _,
        mirror_direct: _,
        mirror: _,
        sources: _,
        metadata: _,
        subject_transform: _,
        compression: _,
        consumer_limits: _,
        first_sequence: _,
        placement: _,
        persist_mode: _,
        pause_until: _,
        allow_message_ttl: _,
        subject_delete_marker_ttl: _,
        allow_atomic_publish: _,
        allow_message_schedules: _,
        allow_message_counter: _,
        allow_batch_publish: _,
    } = wanted;
    let made = serde_json::to_value(wanted).unwrap_or_default();
    let as_made = |key| made.get(key).cloned().unwrap_or_default();
    let must = |key, reason| Setting { key, must: Some(as_made(key)), reason };
    let free = |key, reason| Setting { key, must: None, reason };
    // Requires the value with which the stream is created, if `holds`.
    let must_if = |holds: bool, key, reason| if holds { must(key, reason) } else { free(key, reason) };
    let (view, deadlines) = (kind == Kind::View, kind == Kind::Deadlines);
    vec![
        free("name", "it was asked for by its name"),
        free("description", "it is for people"),
        must("subjects", "what is published elsewhere is not stored, and what others publish would be"),
        must("retention", "what somebody has read could be removed, or what is over could stay"),
        must_if(!deadlines, "discard", "what was acknowledged would give way to what is new"),
        must("discard_new_per_subject", "further messages on a subject would be refused"),
        must_if(deadlines, "max_msgs", "at a limit nothing is stored, or it removes what is old"),
        must_if(deadlines, "max_bytes", "at a limit nothing is stored, or it removes what is old"),
        must(
            "max_msgs_per_subject",
            "earlier messages on a subject would give way to new ones, or would stay",
        ),
        must("max_msg_size", "what the connection takes would be refused halfway"),
        must("max_age", "what was acknowledged would be removed when it is old"),
        must("storage", "what was acknowledged would be gone with the process, or stay"),
        must(
            "num_replicas",
            "what was acknowledged would be on fewer servers, and reads are meant for this number",
        ),
        free("max_consumers", "a consumer too many is refused with an error that names the limit"),
        must("no_ack", "nobody is told whether something was stored"),
        free("duplicate_window", "each write has its own condition beside it"),
        must("template_owner", "the stream would go with its template"),
        must("sealed", "nothing can be written"),
        must_if(!view, "allow_rollup_hdrs", "a message could remove those before it, or deadlines need it"),
        must_if(!deadlines, "deny_delete", "a message could be deleted that others build on"),
        must_if(
            !view,
            "deny_purge",
            "messages could be removed that others build on, or deadlines not at all",
        ),
        must_if(!deadlines, "allow_direct", "reads ask for messages directly"),
        free("mirror_direct", "it is about mirrors, and this is none"),
        must("mirror", "nothing can be written to a mirror"),
        must("sources", "messages would come that no condition was checked for"),
        must_if(republish.is_some(), "republish", "notices are what is stored, told once more"),
        must(
            "subject_transform",
            "a message would be stored under another subject than the one that was checked",
        ),
        free("metadata", "it is for people and tools; the layout and the slices in it are checked apart"),
        free("compression", "it is about files"),
        free("placement", "it is about servers"),
        free("first_seq", "sequences only begin later"),
        must("consumer_limits", "a consumer of a projector would be refused"),
        must("persist_mode", "a message would be acknowledged before it is written"),
        must("pause_until", "it is not known what it does to a stream"),
        must("allow_msg_ttl", "a message could say that it is to be removed"),
        must("subject_delete_marker_ttl", "the server would write messages of its own"),
        must_if(view, "allow_atomic", "a view and its checkpoint are written together"),
        must("allow_msg_schedules", "the server would write messages of its own, which only deadlines are"),
        must("allow_msg_counter", "only counters could be written"),
        must("allow_batched", "it is not known what it does to the conditions of writes"),
    ]
}

/// The settings that do not have their required values, and those that are set and unknown.
pub(crate) fn differences(kind: Kind, wanted: &Config, found: &Map<String, Value>) -> Vec<Difference> {
    let settings = judge(kind, wanted);
    let known = settings.iter().filter_map(|Setting { key, must, reason }| {
        let (wanted, found) = (must.as_ref()?, found.get(*key).cloned().unwrap_or_default());
        let differs = is_set(wanted.clone()) != is_set(found.clone());
        differs.then(|| Difference {
            setting: (*key).to_owned(),
            wanted: shown(wanted.clone()),
            found: shown(found),
            reason,
        })
    });
    let unknown = found.iter().filter(|(key, _)| settings.iter().all(|setting| setting.key != key.as_str()));
    let unknown = unknown.filter(|(_, value)| is_set((*value).clone()).is_some());
    let unknown = unknown.map(|(key, value)| Difference {
        setting: key.clone(),
        wanted: shown(Value::Null),
        found: shown(value.clone()),
        reason: "it is not known what it does",
    });
    known.chain(unknown).collect()
}

/// The value of a setting without its unset parts. The server leaves out what is unset, or writes one of these values.
fn is_set(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) if number.as_i64().is_some_and(|number| matches!(number, -1 | 0)) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(all) if all.is_empty() => None,
        Value::Object(all) => {
            let set: Map<_, _> =
                all.into_iter().filter_map(|(key, value)| Some((key, is_set(value)?))).collect();
            (!set.is_empty()).then_some(Value::Object(set))
        }
        value => Some(value),
    }
}

fn shown(value: Value) -> String {
    is_set(value).map_or_else(|| "unset".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use async_nats::jetstream::stream::{
        Compression, ConsumerLimits, DiscardPolicy, PersistenceMode, Placement, Republish, RetentionPolicy,
        Source, StorageType, SubjectTransform,
    };

    use super::*;

    /// A configuration in which nothing is unset.
    fn full() -> Config {
        let transform = SubjectTransform { source: "a".into(), destination: "b".into() };
        Config {
            name: "S".into(),
            max_bytes: 7,
            max_messages: 7,
            max_messages_per_subject: 7,
            discard: DiscardPolicy::Old,
            discard_new_per_subject: true,
            subjects: vec!["s".into()],
            retention: RetentionPolicy::Interest,
            max_consumers: 7,
            max_age: Duration::from_secs(7),
            max_message_size: 7,
            storage: StorageType::Memory,
            num_replicas: 3,
            no_ack: true,
            duplicate_window: Duration::from_secs(7),
            template_owner: "t".into(),
            sealed: true,
            description: Some("d".into()),
            allow_rollup: true,
            deny_delete: true,
            deny_purge: true,
            republish: Some(Republish { source: "a".into(), destination: "b".into(), headers_only: true }),
            allow_direct: true,
            mirror_direct: true,
            mirror: Some(Source::default()),
            sources: Some(vec![Source::default()]),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            subject_transform: Some(transform),
            compression: Some(Compression::S2),
            consumer_limits: Some(ConsumerLimits {
                inactive_threshold: Duration::from_secs(7),
                max_ack_pending: 7,
            }),
            first_sequence: Some(7),
            placement: Some(Placement::default()),
            persist_mode: Some(PersistenceMode::Async),
            pause_until: Some(std::time::SystemTime::UNIX_EPOCH.into()),
            allow_message_ttl: true,
            subject_delete_marker_ttl: Some(Duration::from_secs(7)),
            allow_atomic_publish: true,
            allow_message_schedules: true,
            allow_message_counter: true,
            allow_batch_publish: true,
        }
    }

    fn raw(config: &Config) -> Map<String, Value> {
        let Value::Object(map) = serde_json::to_value(config).unwrap() else { unreachable!("a struct") };
        map
    }

    #[test]
    fn each_setting_that_the_client_knows_is_judged_once() {
        let known: BTreeSet<String> = raw(&full()).keys().cloned().collect();
        for kind in [Kind::Log, Kind::View, Kind::Deadlines] {
            let judged = judge(kind, &Config::default());
            let keys: BTreeSet<String> = judged.iter().map(|setting| setting.key.to_owned()).collect();
            assert_eq!(keys, known, "{kind:?}");
            assert_eq!(keys.len(), judged.len(), "{kind:?}");
        }
    }

    #[test]
    fn every_difference_is_told_at_once() {
        let wanted = Config { discard: DiscardPolicy::New, ..Config::default() };
        let found = Config { discard: DiscardPolicy::Old, allow_rollup: true, ..wanted.clone() };
        let text = list(&differences(Kind::Log, &wanted, &raw(&found)));
        assert!(text.starts_with(r#"discard is "old" and must be "new" (what was"#), "{text}");
        assert!(text.contains("allow_rollup_hdrs is true and must be unset ("), "{text}");
    }

    #[test]
    fn a_setting_of_a_later_server_is_noticed_when_it_is_set() {
        let wanted = Config::default();
        let with = |value| {
            let mut found = raw(&wanted);
            found.insert("forget_after".to_owned(), value);
            differences(Kind::Log, &wanted, &found)
        };
        for unset in [Value::Null, false.into(), 0.into(), "".into(), serde_json::json!({ "a": [] })] {
            assert_eq!(with(unset.clone()), [], "{unset}");
        }
        for set in [Value::from(true), 7.into(), "day".into(), serde_json::json!({ "a": 1 })] {
            let found = with(set.clone());
            assert_eq!(found.len(), 1, "{set}");
            assert_eq!((found[0].setting.as_str(), found[0].wanted.as_str()), ("forget_after", "unset"));
        }
        let mut later = raw(&wanted);
        later.insert("persist_mode".to_owned(), "sometimes".into());
        assert_eq!(
            differences(Kind::Log, &wanted, &later)[0].found,
            r#""sometimes""#,
            "a value that the client does not know"
        );
    }

    #[test]
    fn what_an_operator_may_choose_differs_by_what_the_stream_is_for() {
        let free = |kind| -> BTreeSet<&str> {
            let settings = judge(kind, &Config::default()).into_iter();
            settings.filter(|setting| setting.must.is_none()).map(|setting| setting.key).collect()
        };
        let everywhere = BTreeSet::from([
            "name",
            "description",
            "max_consumers",
            "duplicate_window",
            "mirror_direct",
            "republish",
            "metadata",
            "compression",
            "placement",
            "first_seq",
        ]);
        let beside = |kind| free(kind).difference(&everywhere).copied().collect::<Vec<_>>();
        assert_eq!(beside(Kind::Log), ["allow_atomic", "max_bytes", "max_msgs"]);
        assert_eq!(beside(Kind::View), ["allow_rollup_hdrs", "deny_purge", "max_bytes", "max_msgs"]);
        assert_eq!(beside(Kind::Deadlines), ["allow_atomic", "allow_direct", "deny_delete", "discard"]);
    }
}
