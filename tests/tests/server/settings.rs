//! Streams with settings that an operator has changed, on a real server: each setting under which messages are lost, or
//! messages appear that no program wrote, is refused by name; settings that an operator may choose are accepted.

use std::sync::Arc;

use cqrs_core::{
    Backend as _, StoreError, View as _,
    port::{Deadline, Deadlines as _, DueQueue as _, SystemClock, ViewStore as _},
};
use cqrs_nats::{NatsBackend, Topology, TopologyError};
use cqrs_tests::{
    TestContext,
    domain::{Statement, bank, open, statement},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The changed settings, and the names by which they are refused.
type Case = (Value, &'static [&'static str]);

/// Settings that no stream may have, whatever its purpose.
fn everywhere() -> Vec<Case> {
    vec![
        (json!({ "max_age": 3_600_000_000_000_u64 }), &["max_age"]),
        (json!({ "max_msg_size": 4_096 }), &["max_msg_size"]),
        (json!({ "retention": "interest", "allow_msg_schedules": null }), &["retention"]),
        (json!({ "storage": "memory" }), &["storage"]),
        (json!({ "no_ack": true }), &["no_ack"]),
        (json!({ "persist_mode": "async", "allow_atomic": null }), &["persist_mode"]),
        (json!({ "consumer_limits": { "max_ack_pending": 10 } }), &["consumer_limits"]),
        (json!({ "allow_msg_ttl": true }), &["allow_msg_ttl"]),
        (
            json!({
                "allow_msg_ttl": true, "subject_delete_marker_ttl": 1_000_000_000, "allow_rollup_hdrs": true,
                "deny_purge": null,
            }),
            &["allow_msg_ttl", "subject_delete_marker_ttl"],
        ),
        (json!({ "allow_batched": true }), &["allow_batched"]),
        (
            json!({ "mirror": { "name": "NOBODY" }, "subjects": null, "allow_atomic": null, "allow_msg_schedules": null }),
            &["mirror", "subjects"],
        ),
        (json!({ "sources": [{ "name": "NOBODY" }], "allow_msg_schedules": null }), &["sources"]),
    ]
}

/// The server's answer to a request about a stream.
async fn ask(context: &TestContext, verb: &str, stream: &str, request: &Value) -> Value {
    let subject = format!("$JS.API.STREAM.{verb}.{stream}");
    let answer = context.nats.client().request(subject, request.to_string().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Creates the stream again with changed settings; a null removes a setting.
async fn make(context: &TestContext, made: &Map<String, Value>, otherwise: &Value) {
    let mut config = made.clone();
    for (key, value) in otherwise.as_object().unwrap() {
        config.insert(key.clone(), value.clone());
    }
    config.retain(|_, value| !value.is_null());
    let stream = config["name"].as_str().unwrap().to_owned();
    ask(context, "DELETE", &stream, &json!({})).await;
    let answer = ask(context, "CREATE", &stream, &Value::Object(config)).await;
    assert!(answer["error"].is_null(), "the server refuses {otherwise}: {answer}");
}

/// Runs all cases of a stream that was opened once, and the settings that an operator may choose.
async fn judged<E: std::error::Error>(
    context: &TestContext,
    stream: &str,
    refused: Vec<Case>,
    allowed: Vec<Value>,
    open: impl AsyncFn() -> Result<(), E>,
) {
    open().await.unwrap();
    let info = ask(context, "INFO", stream, &json!({})).await;
    let made = info["config"].as_object().unwrap();
    for (otherwise, names) in refused {
        make(context, made, &otherwise).await;
        let Err(error) = open().await else { panic!("{otherwise} is accepted") };
        let text = error.to_string();
        for name in names {
            assert!(text.contains(&format!("{name} is ")), "{otherwise}: {text}");
        }
    }
    // It can be sealed, but not created so.
    make(context, made, &json!({ "allow_msg_schedules": null })).await;
    let mut sealed = made.clone();
    sealed.insert("sealed".to_owned(), true.into());
    sealed.retain(|key, _| key != "allow_msg_schedules");
    let answer = ask(context, "UPDATE", stream, &Value::Object(sealed)).await;
    assert!(answer["error"].is_null(), "{answer}");
    let text = open().await.err().unwrap().to_string();
    assert!(text.contains("sealed is true"), "{text}");
    for otherwise in allowed {
        make(context, made, &otherwise).await;
        open().await.unwrap_or_else(|error| panic!("{otherwise}: {error}"));
    }
    make(context, made, &json!({})).await;
    open().await.unwrap();
}

/// The settings of every stream that an operator may choose.
fn chosen() -> Vec<Value> {
    vec![
        json!({ "description": "ours", "metadata": { "team": "blue", "cqrs.layout": "2" }, "compression": "s2" }),
        json!({ "duplicate_window": 1_000_000_000, "max_consumers": 17, "first_seq": 1_000 }),
    ]
}

async fn works(backend: NatsBackend) {
    let bank = bank(backend).await;
    let receipt = bank.execute(open("1", 1)).await.unwrap();
    let seen = bank.query(statement("1")).after(&receipt).await.unwrap();
    assert_eq!(seen.unwrap().versions, [1, 2]);
    bank.stop().await;
}

#[tokio::test]
async fn settings_of_a_log() {
    let context = TestContext::new("settings-log").await;
    let name = &context.name;
    let mut refused = everywhere();
    refused.extend::<[Case; 12]>([
        (json!({ "subjects": [format!("{name}.event.>"), format!("{name}.more")] }), &["subjects"]),
        (json!({ "discard": "old" }), &["discard"]),
        (json!({ "max_msgs_per_subject": 5 }), &["max_msgs_per_subject"]),
        (
            json!({ "max_msgs_per_subject": 5, "discard_new_per_subject": true }),
            &["max_msgs_per_subject", "discard_new_per_subject"],
        ),
        (json!({ "allow_rollup_hdrs": true, "deny_purge": null }), &["allow_rollup_hdrs", "deny_purge"]),
        (json!({ "deny_delete": null }), &["deny_delete"]),
        (json!({ "deny_purge": null }), &["deny_purge"]),
        (json!({ "allow_direct": null }), &["allow_direct"]),
        (
            json!({ "subject_transform": { "src": format!("{name}.event.>"), "dest": format!("{name}.moved.>") } }),
            &["subject_transform"],
        ),
        (
            json!({ "allow_msg_schedules": true, "allow_rollup_hdrs": true, "deny_purge": null, "discard": "old" }),
            &["allow_msg_schedules"],
        ),
        (json!({ "allow_msg_counter": true, "discard": "old" }), &["allow_msg_counter"]),
        (json!({ "retention": "workqueue" }), &["retention"]),
    ]);
    let mut allowed = chosen();
    allowed.extend([
        json!({ "max_msgs": 1_000, "max_bytes": 10_000_000 }),
        json!({ "allow_atomic": true }),
        json!({ "republish": { "src": ">", "dest": format!("{name}-told.>") } }),
    ]);
    let open = async || context.nats.context(name).await.map(drop);
    judged(&context, &context.stream(), refused, allowed, open).await;
    works(context.backend().await).await;
    // Notices are a setting of the stream, which an operator has to change before they are used.
    let error = context.nats.open(Topology::new(&**name).notices()).await.unwrap_err().to_string();
    assert!(error.contains("republish is unset and must be {"), "{error}");
}

#[tokio::test]
async fn settings_of_a_view() {
    let context = TestContext::new("settings-view").await;
    let bucket = format!("KV_{}__statement-v1", context.name);
    let subjects = format!("$KV.{}__statement-v1.>", context.name);
    let mut refused = everywhere();
    refused.extend::<[Case; 9]>([
        (json!({ "subjects": [&subjects, format!("{}.more", context.name)] }), &["subjects"]),
        (json!({ "discard": "old" }), &["discard"]),
        (json!({ "discard": "old", "max_msgs": 5 }), &["discard"]),
        (json!({ "max_msgs_per_subject": 5 }), &["max_msgs_per_subject"]),
        (json!({ "discard_new_per_subject": true }), &["discard_new_per_subject"]),
        (json!({ "deny_delete": null }), &["deny_delete"]),
        (json!({ "allow_direct": null }), &["allow_direct"]),
        (json!({ "allow_atomic": null }), &["allow_atomic"]),
        (
            json!({ "subject_transform": { "src": &subjects, "dest": format!("{}.moved.>", context.name) } }),
            &["subject_transform"],
        ),
    ]);
    let mut allowed = chosen();
    allowed.extend([
        json!({ "max_msgs": 1_000, "max_bytes": 10_000_000 }),
        json!({ "allow_rollup_hdrs": null, "deny_purge": true }),
    ]);
    let backend = context.backend().await;
    let (_, views) = backend.clone().split();
    judged(&context, &bucket, refused, allowed, async || views.open(&Statement::projection()).await).await;
    works(backend).await;
}

#[tokio::test]
async fn settings_of_deadlines() {
    let context = TestContext::new("settings-deadlines").await;
    let stream = format!("{}__DEADLINES", context.stream());
    let subjects = format!("{}.deadline.>", context.name);
    let mut refused = everywhere();
    refused.extend::<[Case; 6]>([
        (json!({ "subjects": [subjects, format!("{}.more", context.name)] }), &["subjects"]),
        (json!({ "max_msgs": 5 }), &["max_msgs"]),
        (json!({ "max_bytes": 100_000 }), &["max_bytes"]),
        (json!({ "max_msgs_per_subject": 5 }), &["max_msgs_per_subject"]),
        (json!({ "allow_msg_schedules": null }), &["allow_msg_schedules"]),
        (
            json!({ "allow_msg_schedules": null, "allow_rollup_hdrs": null, "deny_purge": true }),
            &["allow_rollup_hdrs", "deny_purge"],
        ),
    ]);
    let mut allowed = chosen();
    allowed.extend([json!({ "allow_direct": null, "deny_delete": true }), json!({ "allow_atomic": true })]);
    let events = context.backend().await.events;
    let open = async || -> Result<(), StoreError> { events.prepare().await };
    judged(&context, &stream, refused, allowed, open).await;
    let deadline = Deadline {
        id: "1".into(),
        at: Timestamp::UNIX_EPOCH,
        payload: "now".into(),
        order: 1,
        arming: uuid::Uuid::new_v4(),
    };
    events.arm(&deadline).await.unwrap();
    let due = events.due(Arc::new(SystemClock)).await.unwrap().next().await.unwrap();
    assert_eq!(due.payload().as_ref(), b"now");
}

/// Otherwise a log of another layout would be full of messages that cannot be read.
#[tokio::test]
async fn a_log_says_its_layout_and_no_other_is_opened() {
    let context = TestContext::new("layout").await;
    let bank = bank(context.backend().await).await;
    bank.execute(open("1", 1)).await.unwrap();
    bank.stop().await;
    let about = async |stream: &str| ask(&context, "INFO", stream, &json!({})).await["config"].clone();
    let stream = context.stream();
    let config = about(&stream).await;
    let metadata = &config["metadata"];
    assert_eq!((&metadata["cqrs.layout"], &metadata["cqrs.kind"]), (&json!("2"), &json!("events")));
    assert_eq!(metadata["cqrs.context"], json!(context.name));
    let view = about(&format!("KV_{}__{}", context.name, Statement::projection())).await;
    assert_eq!(view["metadata"]["cqrs.kind"], json!("views"));

    for (layout, text) in
        [(Some("1"), "has layout 1,"), (Some("3"), "has layout 3,"), (None, "does not say which")]
    {
        let mut changed = config.clone();
        changed["metadata"] =
            layout.map_or(json!({ "team": "blue" }), |layout| json!({ "cqrs.layout": layout }));
        let answer = ask(&context, "UPDATE", &stream, &changed).await;
        assert!(answer["error"].is_null(), "{answer}");
        let error = context.nats.context(&context.name).await.unwrap_err();
        assert!(
            matches!(&error, TopologyError::Layout { found, .. } if found.as_deref() == layout),
            "{error:?}"
        );
        assert!(error.to_string().contains(text), "{error}");
    }
    ask(&context, "UPDATE", &stream, &config).await;
    context.nats.context(&context.name).await.unwrap();
}
