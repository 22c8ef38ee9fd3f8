//! A program in another language reads the log with the knowledge of the guide alone.

use std::path::Path;

use cqrs_core::{
    Metadata,
    log::StoredCommit,
    port::{EventStore as _, Subscribe, Subscription as _},
};
use cqrs_nats::NatsBackend;
use cqrs_tests::{TestContext, backends, oracle::Written, python};
use order_service::{ConfirmOrder, CreateOrder, Customer, Line, ReceiveStock, ReserveStock};
use serde_json::{Map, Value, json};

/// The events of a commit, as the reader must print them.
fn expected(stored: &StoredCommit) -> Vec<Value> {
    let StoredCommit { sequence, commit } = stored;
    let event = |(version, event): (u64, &cqrs_core::log::RecordedEvent)| {
        let origin = &event.origin;
        let mut expected = Map::new();
        let mut put = |name: &str, value: String| expected.insert(name.to_owned(), Value::String(value));
        put("specversion", "1.0".to_owned());
        put("id", event.id.to_string());
        put("source", commit.source.to_string());
        put("type", event.event_type.to_string());
        put("subject", commit.aggregate.to_string());
        put("time", origin.time.to_string());
        put("datacontenttype", event.content_type.to_string());
        put("aggregateversion", version.to_string());
        put("schemaversion", event.schema_version.to_string());
        put("command", origin.command.to_string());
        put("commandid", origin.command_id.to_string());
        put("commandhash", format!("{:016x}", origin.fingerprint));
        put("correlationid", origin.correlation_id.to_string());
        for (name, value) in origin.metadata.iter() {
            put(name, value.to_owned());
        }
        expected.insert("sequence".to_owned(), json!(sequence));
        expected.insert("data".to_owned(), serde_json::from_slice(&event.data).unwrap());
        Value::Object(expected)
    };
    (commit.first_version..).zip(&commit.events).map(event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_in_python_prints_the_order_stream_as_it_is_in_the_log() {
    let (context, backend) = backends::nats("readers").await;
    reads(context, backend, "order.from=20outside").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reads_a_log_with_slices_too() {
    let (context, backend) = backends::sliced("readers-sliced").await;
    // The slice as another implementation of the hash has it.
    reads(context, backend, "6.order.from=20outside").await;
}

/// `outside` is the place of an order that is written without this framework.
async fn reads(context: TestContext, backend: NatsBackend, outside: &str) {
    let service = order_service::start(backend.clone()).await.unwrap();
    let mut metadata = Metadata::default();
    metadata.insert("user", "Zoë \"100 %\"\r\n\u{1f600}").unwrap();
    let customer = Customer { id: "JØRN".parse().unwrap(), name: "日本 & Söhne".parse().unwrap() };
    let product = "thé-11".parse::<order_service::ProductId>().unwrap();
    let (name, units) = ("Thé \u{1f375}".parse().unwrap(), 100);
    service.execute(ReceiveStock { product: product.clone(), name, units }).await.unwrap();
    for order in ["A 1.*>", "日本", "3"] {
        let order = order.parse::<order_service::OrderId>().unwrap();
        let line = Line {
            product: product.clone(),
            unit_price: "12.50".parse().unwrap(),
            quantity: 2,
            discount: "0.15".parse().unwrap(),
        };
        let (customer, country) = (customer.clone(), "Côte d'Ivoire".parse().unwrap());
        let placed = "2026-01-02".parse().unwrap();
        let create = CreateOrder { order: order.clone(), customer, country, placed, lines: vec![line] };
        service.execute(create).metadata(metadata.clone()).await.unwrap();
        service.execute(ConfirmOrder { order }).await.unwrap();
    }
    // Many concurrent commands on one product share commits, which are batches.
    let reservations = (0..20).map(|number| {
        let order = format!("{number}").parse().unwrap();
        service.execute(ReserveStock { product: product.clone(), order, units: 1 }).into_future()
    });
    for reserved in futures_util::future::join_all(reservations).await {
        reserved.unwrap();
    }
    // In the mode that only other writers use.
    let event = serde_json::from_value::<cloudevents::Event>(json!({
        "specversion": "1.0", "id": "0190a5f3-0000-7000-8000-000000000001", "source": "/elsewhere",
        "type": "order.delivered", "subject": "order/from outside", "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json", "aggregateversion": "1",
        "schemaversion": "1", "command": "by_hand", "commandid": "0190a5f3-0000-7000-8000-000000000002",
        "commandhash": "0000000000000001", "correlationid": "0190a5f3-0000-7000-8000-000000000003",
        "data": {},
    }));
    let Written { headers, payload } = Written::binary(event.unwrap());
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let subject = format!("{}.event.{outside}", context.name);
    let published = jetstream.publish_with_headers(subject, headers, payload.into());
    let last = published.await.unwrap().await.unwrap().sequence;

    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/readers/orders.py");
    let url = cqrs_tests::server().await.url().to_owned();
    let name = context.name.clone();
    let printed = tokio::task::spawn_blocking(move || python::run(&program, [url, name])).await.unwrap();
    // As the SDK writes a time.
    let printed = printed.replace("+00:00\"", "Z\"");
    let printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let request = Subscribe { subscriber: "compare", aggregates: &["order", "stock"], after: 0 };
    let mut subscription = backend.events.subscribe(request).await.unwrap();
    let mut commits: Vec<StoredCommit> = Vec::new();
    while commits.last().is_none_or(|stored| stored.sequence < last) {
        commits.extend(subscription.next(1_000).await.unwrap().into_iter().map(Result::unwrap));
    }
    assert!(commits.iter().any(|stored| stored.commit.events.len() > 1), "there are batches");
    let expected: Vec<_> = commits.iter().flat_map(expected).collect();
    assert_eq!(expected.len(), 28);
    assert_eq!(printed, expected);
    service.stop().await;
}
