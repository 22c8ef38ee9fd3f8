//! The scenario: what it prints has happened, in the order of the log.

use std::collections::HashMap;

use cqrs_tests::TestContext;

use crate::support::order_service;

#[test]
fn the_scenario_runs_without_any_server() {
    let output = order_service(["--memory"]).run();
    assert!(output.success(), "{output:?}");
    assert_eq!(output.stderr, "");
    check_scenario(&output.stdout);
    assert!(output.stdout.starts_with("Events and views are kept in memory"), "{}", output.stdout);
}

#[tokio::test]
async fn the_scenario_runs_on_one_server_again_and_again() {
    let context = TestContext::new("order-scenario").await;
    for _ in 0..2 {
        let output = order_service(["--context", &context.name]).nats().await.run();
        assert!(output.success(), "{output:?}");
        check_scenario(&output.stdout);
    }
}

/// Several at a time, so that their fulfilment is now faster and now slower than what prints.
#[tokio::test]
async fn what_the_scenario_prints_is_the_log() {
    let mut all = Vec::new();
    for _ in 0..4 {
        let context = TestContext::new("order-told").await;
        let run = order_service(["--context", &context.name]).nats().await;
        all.push((context, tokio::task::spawn_blocking(|| run.run())));
    }
    for (context, output) in all {
        let output = output.await.unwrap();
        assert!(output.success(), "{output:?}");
        check_scenario(&output.stdout);
        let commits = cqrs_tests::oracle::judge_all(&context, &["order", "stock"]).await;
        let events = commits.iter().flat_map(|stored| {
            let (id, first) = (stored.commit.aggregate.id().to_owned(), stored.commit.first_version);
            let event = move |(version, event_type)| (id.clone(), version, event_type);
            let types = stored.commit.events.iter().map(|event| event.event_type.to_string());
            (first..).zip(types).map(event)
        });
        assert_eq!(Told::of(&output.stdout).events, events.collect::<Vec<_>>(), "{}", output.stdout);
    }
}

/// Each paragraph of the README's sample, but for the number of the run in the ids.
#[test]
fn the_readme_shows_what_a_run_prints() {
    let readme = include_str!("../../README.md");
    let sample = readme.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;
    let output = order_service(["--memory"]).run();
    let number = |told: &str| told.split_once("coffee-").unwrap().1[..6].to_owned();
    let told = output.stdout.replace(&number(&output.stdout), "RUN");
    let sample = sample.replace(&number(sample), "RUN");
    for paragraph in sample.split("\n\n") {
        assert!(told.contains(paragraph.trim_end()), "{paragraph:?} is not in:\n{told}");
    }
}

/// Both aggregates, a rejection of each, a repeat, an order that is cancelled and its stock released, and orders that
/// are fulfilled, not paid, and not to be fulfilled.
pub(crate) fn check_scenario(told: &str) {
    for line in [
        "event 1  stock.received: 40 came in (Coffee)",
        "view     stock-level: 40 on the shelf, 34 available",
        "view     order-summary: created, 152.75 net",
        "refused  the order costs 152.75, not 150.00",
        "event 3  order.paid: 152.75 received",
        "repeat   nothing happens, and the answer is the first receipt",
        "event 5  order.delivered: the parcel has arrived",
        "refused  1 asked for, 0 available",
        "event 3  order.cancelled: found a cheaper one, a sale of 375.00 is undone",
        "view     stock-level: 34 on the shelf, 34 available",
        "order.submitted: it goes its way by itself, to be paid within 900 s",
        "event 3  order.confirmed: a sale of 25.00",
        "view     order-summary: confirmed, 25.00 net",
        "event 5  order.shipped: the parcel left on",
        "view     order-summary: shipped, 25.00 net",
        "event 4  order.cancelled: not paid in time, a sale of 37.50 is undone",
        "event 3  order.cancelled: not everything is in stock",
        "view     stock-level: 32 on the shelf, 32 available",
    ] {
        assert!(told.contains(line), "{line:?} is not in:\n{told}");
    }
    assert_eq!(told.matches("order.paid: 152.75").count(), 1, "the repeat has had an effect:\n{told}");
    assert!(!told.contains('\u{1b}'), "there is colour where there is no terminal");
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    assert_eq!(Told::of(told).views.len(), 25, "{told}");
}

/// What the scenario has told, and what follows from the events that it told so far.
#[derive(Default)]
struct Told {
    /// Each event's aggregate, version and type.
    events: Vec<(String, u64, String)>,
    views: Vec<String>,
    /// The status of each order, and the pieces of each product on the shelf and of these the available ones.
    status: HashMap<String, &'static str>,
    stock: HashMap<String, (i64, i64)>,
    /// The order and the product of the last commands.
    order: String,
    product: String,
}

impl Told {
    /// Reads the lines in order, and fails at a view that says something else than the events before it.
    fn of(told: &str) -> Self {
        let mut all = Self::default();
        let mut is_order = false;
        for line in told.lines() {
            if let Some(event) = line.strip_prefix("    event ") {
                all.event(is_order, event);
            } else if let Some(view) = line.strip_prefix("    view     ") {
                all.view(view, told);
            } else if line.starts_with("  ") && !line.starts_with("   ") {
                let of = line.split_whitespace().nth(1).unwrap().trim_end_matches(':').to_owned();
                is_order = !of.starts_with("coffee") && !of.starts_with("grinder");
                *(if is_order { &mut all.order } else { &mut all.product }) = of;
            }
        }
        all
    }

    fn event(&mut self, is_order: bool, event: &str) {
        let (version, rest) = event.split_once("  ").unwrap();
        let (event_type, words) = rest.split_once(": ").unwrap();
        let of = if is_order { &self.order } else { &self.product };
        self.events.push((of.clone(), version.parse().unwrap(), event_type.to_owned()));
        let status = match event_type {
            "order.created" | "order.submitted" => "created",
            "order.confirmed" => "confirmed",
            "order.paid" => "paid",
            "order.shipped" => "shipped",
            "order.delivered" => "delivered",
            "order.cancelled" => "cancelled",
            stock => {
                let units: i64 = words.split(' ').next().unwrap().parse().unwrap();
                let (on_hand, available) = self.stock.entry(of.clone()).or_default();
                match stock {
                    "stock.received" => (*on_hand, *available) = (*on_hand + units, *available + units),
                    "stock.reserved" => *available -= units,
                    "stock.released" => *available += units,
                    "stock.shipped" => *on_hand -= units,
                    other => panic!("what is {other}?"),
                }
                return;
            }
        };
        self.status.insert(of.clone(), status);
    }

    fn view(&mut self, view: &str, told: &str) {
        let expected = if view.starts_with("order-summary: ") {
            format!("order-summary: {}, ", self.status[&self.order])
        } else {
            let (on_hand, available) = self.stock[&self.product];
            format!("stock-level: {on_hand} on the shelf, {available} available")
        };
        assert!(view.starts_with(&expected), "{view:?} where the events say {expected:?}, in:\n{told}");
        self.views.push(view.to_owned());
    }
}
