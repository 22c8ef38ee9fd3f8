//! Dead letters and dead intents: told by the running service, listed, shown, retried, edited and dropped.

use std::sync::Arc;

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use cqrs_core::{
    Aggregate as _, AggregateKey, CommandId, EventId, View as _,
    log::{Commit, Origin},
    port::{EventStore as _, Expected, Save, ViewStore as _, Write},
};
use cqrs_nats::NatsBackend;
use cqrs_tests::{TestContext, eventually};
use order_service::{
    CreateOrder, Customer, Line, Order, OrderService, ReceiveStock, ShipOrder, SubmitOrder,
    views::OrderSummary,
};
use serde_json::Value;

use crate::support::{Output, Run, Running, Small, in_one_line, order_service};

/// A context with two small orders, and a service that runs its projections.
struct Shop {
    context: TestContext,
    backend: NatsBackend,
}

impl Shop {
    async fn new(name: &str) -> Self {
        let (context, small) = (TestContext::new(name).await, Small::new());
        let import = order_service(["import", small.path(), "--context", &context.name]);
        assert!(import.nats().await.run().success());
        let backend = context.backend().await;
        Self { context, backend }
    }

    async fn with(&self, arguments: &[&str]) -> Run {
        order_service(arguments.iter().chain(&["--context", &self.context.name])).nats().await
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.with(arguments).await.run()
    }

    async fn serves(&self) -> Running {
        let mut serving = self.with(&["serve"]).await.begin();
        serving.says("until Ctrl-C");
        serving
    }

    /// The service, to send commands; it runs no projections.
    async fn client(&self) -> OrderService {
        order_service::builder(self.backend.clone()).without_projectors().start().await.unwrap()
    }

    /// Appends an event that no program can read behind the last one of an order.
    async fn poison(&self, order: &str, event_type: &'static str, data: &'static str) -> u64 {
        let aggregate = key(order);
        let last = self.backend.events.last_confirmed(&aggregate).await.unwrap().unwrap();
        let mut event = last.commit.events.last().unwrap().clone();
        let command_id = CommandId::derived(["poison", order]);
        event.id = EventId(command_id.0);
        event.origin = Arc::new(Origin { command_id, ..Origin::clone(&event.origin) });
        (event.event_type, event.data) = (event_type.into(), Bytes::from_static(data.as_bytes()));
        let commit = Commit {
            aggregate,
            first_version: last.commit.last_version() + 1,
            source: last.commit.source.clone(),
            events: [event].into_iter().collect(),
        };
        self.backend.events.append(&commit, Expected::Exact(last.sequence)).await.unwrap()
    }

    /// Submits order 3, whose fulfilment cannot arm the deadline of the payment. Returns the stream to delete, after which
    /// it can.
    async fn submit_without_deadlines(&self, seconds_to_pay: u32) -> String {
        // An operator has made the stream of the deadlines by hand, and it takes no deadlines.
        let jetstream = jetstream::new(self.context.nats.client().clone());
        let name = format!("{}__DEADLINES", self.context.stream());
        let subjects = jetstream.get_stream(&name).await.unwrap().cached_info().config.subjects.clone();
        jetstream.delete_stream(&name).await.unwrap();
        let plain = stream::Config { name: name.clone(), subjects, ..stream::Config::default() };
        jetstream.create_stream(plain).await.unwrap();

        let client = self.client().await;
        let product: order_service::ProductId = "11".parse().unwrap();
        client
            .execute(ReceiveStock { product: product.clone(), name: "Chai".parse().unwrap(), units: 5 })
            .await
            .unwrap();
        let order: order_service::OrderId = "3".parse().unwrap();
        let line = Line {
            product,
            unit_price: "2.50".parse().unwrap(),
            quantity: 2,
            discount: "0".parse().unwrap(),
        };
        let create = CreateOrder {
            order: order.clone(),
            customer: Customer { id: "ANNA".parse().unwrap(), name: "Anna Aas".parse().unwrap() },
            country: "Norway".parse().unwrap(),
            placed: "2026-01-05".parse().unwrap(),
            lines: vec![line],
        };
        client.execute(create).await.unwrap();
        client.execute(SubmitOrder { order, seconds_to_pay }).await.unwrap();
        name
    }

    async fn delete_stream(&self, name: &str) {
        jetstream::new(self.context.nats.client().clone()).delete_stream(name).await.unwrap();
    }

    /// Replaces the document of an order, and returns the one before.
    async fn replace_document(&self, order: &str, document: &[u8]) -> Bytes {
        let (id, views) = (OrderSummary::projection(), &self.backend.views);
        loop {
            let saved = views.checkpoint(&id).await.unwrap();
            let before = views.load(&id, &[order.to_owned()]).await.unwrap().swap_remove(0);
            let document = Some(Bytes::copy_from_slice(document));
            let writes = [Write { key: order.into(), document, revision: before.revision }];
            let checkpoint = saved.checkpoint.unwrap();
            let save =
                Save { writes: &writes, notes: &[], checkpoint: &checkpoint, revision: saved.revision };
            // The projector may save at the same time.
            if views.save(&id, save).await.is_ok() {
                return before.document.unwrap();
            }
        }
    }
}

fn key(order: &str) -> AggregateKey {
    AggregateKey::new(Order::NAME, order.to_owned()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_told_and_retried_after_its_cause_is_gone() {
    let shop = Shop::new("order-letter").await;
    let document = shop.replace_document("2", b"[\"not\", \"an order\"]").await;
    let mut serving = shop.serves().await;
    let command = ShipOrder { order: "2".parse().unwrap(), on: "2026-01-04".parse().unwrap() };
    let shipped = shop.client().await.execute(command).await.unwrap();

    let at = shipped.position.sequence;
    serving
        .complains(&format!("dead letter: order-summary could not apply order.shipped of order/2 at {at}: "));
    serving.complains("see it: order-service dead-letters show order-summary order/2");
    serving.complains("retry it: order-service dead-letters retry order-summary order/2");

    let status = shop.run(&["status"]).await;
    assert!(status.has_row(&format!("order-summary caught up {at} 0 0 s 1")), "{}", status.stdout);
    assert!(status.stdout.contains("order-service dead-letters shows the dead letters"), "{}", status.stdout);
    let listed = shop.run(&["dead-letters"]).await;
    let told = in_one_line(&listed.stdout);
    assert!(told.starts_with("order-summary could not apply order.shipped of order/2"), "{told}");
    assert!(told.ends_with("dead-letters retry order-summary order/2"), "{told}");
    assert!(listed.stdout.lines().all(|line| line.chars().count() <= 80), "{}", listed.stdout);
    let listed = shop.run(&["dead-letters", "list", "--format", "json"]).await.json();
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["projection"].clone()).collect();
    assert_eq!(listed, ["order-summary"]);
    let shown =
        shop.run(&["dead-letters", "show", "order-summary", "order/2", "--format", "json"]).await.json();
    assert_eq!(shown[0]["data"][0]["event_type"], "order.shipped");
    assert_eq!(shown[0]["data"][0]["data"]["on"], "2026-01-04");
    // A list without the event would be wrong, and says so.
    shop.run(&["orders"]).await.fails_with("order-service dead-letters shows them, and how to resolve them");

    let retry = ["dead-letters", "retry", "order-summary", "order/2"];
    shop.run(&retry)
        .await
        .fails_with("applied before it: 0 events; repair the cause and retry, or edit or drop it");
    let shown = shop.run(&["dead-letters", "show", "order-summary", "order/2"]).await;
    assert!(shown.stdout.contains("1 vain attempt"), "{}", shown.stdout);
    assert!(
        in_one_line(&shown.stdout).contains(r#"order.shipped { "on": "2026-01-04" }"#),
        "{}",
        shown.stdout
    );

    shop.replace_document("2", &document).await;
    let retried = shop.run(&retry).await;
    assert!(retried.success(), "{retried:?}");
    assert_eq!(retried.stdout, "order-summary has applied 1 event of order/2 and goes on with it.\n");
    serving.complains("order-summary goes on with order/2: nothing of it is set aside any more");
    let orders = shop.run(&["orders"]).await;
    assert!(orders.has_row("2 shipped 2026-01-03 Ireland Ben Baker 9.80"), "{}", orders.stdout);
    assert_eq!(shop.run(&["dead-letters"]).await.stdout, "There are no dead letters.\n");
    shop.run(&retry)
        .await
        .fails_with("order-summary has no dead letter of order/2: order-service dead-letters lists all");
    assert!(serving.interrupt().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_read_is_a_dead_letter_that_can_be_dropped() {
    let shop = Shop::new("order-poison").await;
    let mut serving = shop.serves().await;
    let at = shop.poison("2", "order.shipped", r#"{"on":"soon"}"#).await;
    // Each projection that applies orders sets it aside, for itself.
    for projection in ["order-summary", "history", "fulfilment", "shop-announcer"] {
        let told = format!("dead letter: {projection} could not apply order.shipped of order/2 at {at}: ");
        serving.complains(&told);
    }
    let shown = shop.run(&["dead-letters", "show", "history", "order/2", "--format", "json"]).await.json();
    assert_eq!(shown[0]["data"][0]["data"]["on"], "soon");
    assert_eq!(
        (&shown[0]["event_type"], &shown[0]["position"]["sequence"]),
        (&"order.shipped".into(), &at.into())
    );
    let dropped = shop.run(&["dead-letters", "drop", "history", "order/2"]).await;
    assert_eq!(
        dropped.stdout,
        format!("order.shipped of order/2 at {at} is dropped: history stays without it.\n")
    );
    assert_eq!(shop.run(&["dead-letters", "list", "history"]).await.stdout, "There are no dead letters.\n");
    serving.complains("history goes on with order/2");
    let left = shop.run(&["dead-letters", "list", "--format", "json"]).await.json();
    let left: Vec<_> =
        left.as_array().unwrap().iter().map(|row| row["projection"].as_str().unwrap()).collect();
    assert!(!left.contains(&"history") && left.contains(&"fulfilment") && left.len() == 6, "{left:?}");

    let of = ["order-summary", "order/2"];
    let edit = |data| ["dead-letters", "edit"].into_iter().chain(of).chain([data]).collect::<Vec<_>>();
    shop.run(&edit("tomorrow")).await.is_a_mistake_with(&["it is not JSON"]);
    let edited = shop.run(&edit(r#"{"on":"2026-01-04"}"#)).await;
    let told = in_one_line(&edited.stdout);
    assert!(
        told.contains(r#"is edited: order-summary applies {"on":"2026-01-04"} in place of it."#),
        "{edited:?}"
    );
    assert!(told.ends_with("order-service dead-letters retry order-summary order/2"), "{told}");
    let retried = shop.run(&["dead-letters", "retry", "order-summary", "order/2"]).await;
    assert_eq!(retried.stdout, "order-summary has applied 1 event of order/2 and goes on with it.\n");
    let left = shop.run(&["dead-letters", "list", "order-summary"]).await;
    assert_eq!(left.stdout, "There are no dead letters.\n");
    shop.run(&["dead-letters", "list", "sales"]).await.fails_with("fulfilment, shop-announcer");
    assert!(serving.interrupt().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_intent_is_told_and_retried_after_its_cause_is_gone() {
    let shop = Shop::new("order-intent").await;
    let mut serving = shop.serves().await;
    let name = shop.submit_without_deadlines(900).await;

    let deadline =
        "the fulfilment of order 3 could not send deadline fulfilment/payment/3 for command expire_order";
    serving.complains(&format!("dead intent: {deadline}"));
    serving.complains("see it: order-service dead-intents show 3");
    serving.complains("retry it: order-service dead-intents retry 3");
    let retry = ["dead-intents", "retry", "3"];
    shop.run(&retry).await.is_refused_with(&[&name, "not set up as it must be"]);

    shop.delete_stream(&name).await;
    let listed = shop.run(&["dead-intents"]).await;
    assert!(listed.stdout.lines().all(|line| line.chars().count() <= 80), "{}", listed.stdout);
    let told = in_one_line(&listed.stdout);
    assert!(told.starts_with(deadline), "{told}");
    let listed = shop.run(&["dead-intents", "list", "--format", "json"]).await.json();
    assert_eq!((&listed[0]["order"], listed[0].get("command")), (&"3".into(), None));
    let shown = shop.run(&["dead-intents", "show", "3", "--format", "json"]).await.json();
    assert_eq!(shown[0]["command"]["reason"], "not paid in time");
    let shown = shop.run(&["dead-intents", "show", "3"]).await;
    assert!(shown.stdout.contains(r#""reason": "not paid in time""#), "{}", shown.stdout);

    let retried = shop.run(&retry).await;
    assert_eq!(retried.stdout, "Carried out for order 3: 1 dead intent.\n", "{retried:?}");
    serving.complains("fulfilment goes on with order 3: nothing of it is set aside any more");
    assert_eq!(shop.run(&["dead-intents"]).await.stdout, "There are no dead intents.\n");
    shop.run(&retry).await.fails_with("order 3 has no dead intent: order-service dead-intents lists all");
    assert_eq!(
        shop.run(&["dead-intents", "list", "--format", "json"]).await.json(),
        Value::Array(Vec::new())
    );
    assert!(serving.interrupt().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_of_a_dead_intent_can_be_edited_before_it_is_sent() {
    let shop = Shop::new("order-edited").await;
    let mut serving = shop.serves().await;
    let name = shop.submit_without_deadlines(1).await;
    serving.complains("dead intent: the fulfilment of order 3 could not send deadline");
    shop.delete_stream(&name).await;

    let edit = ["dead-intents", "edit", "3"];
    shop.run(&[&edit[..], &["soon"]].concat()).await.is_a_mistake_with(&["it is not JSON"]);
    let fields = r#"{"order":"3","reason":"not paid within a second"}"#;
    let edited = shop.run(&[&edit[..], &[fields]].concat()).await;
    let told = in_one_line(&edited.stdout);
    assert!(told.starts_with("Edited: deadline fulfilment/payment/3 for command expire_order"), "{edited:?}");
    assert!(told.ends_with("order-service dead-intents retry 3"), "{told}");
    let shown = shop.run(&["dead-intents", "show", "3", "--format", "json"]).await.json();
    assert_eq!(shown[0]["command"]["reason"], "not paid within a second");

    let retried = shop.run(&["dead-intents", "retry", "3"]).await;
    assert_eq!(retried.stdout, "Carried out for order 3: 1 dead intent.\n", "{retried:?}");
    let mut reason = Value::Null;
    eventually("the deadline cancels the order", async || {
        let last = shop.backend.events.last_confirmed(&key("3")).await.unwrap().unwrap().commit;
        let event = last.events.last().unwrap();
        reason = serde_json::from_slice::<Value>(&event.data).unwrap()["reason"].clone();
        &*event.event_type == "order.cancelled"
    })
    .await;
    assert_eq!(reason, "not paid within a second");
    assert!(serving.interrupt().0.success());
}
