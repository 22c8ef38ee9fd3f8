//! The order service as a program: run like a user runs it, on memory and on a real NATS server.

#![allow(clippy::unwrap_used, reason = "clippy knows tests by their attribute, not the helpers beside them")]

mod fold;
#[cfg(unix)]
mod processes;
#[cfg(target_os = "linux")]
mod pseudoterminal;
mod scenario;
#[cfg(unix)]
mod set_aside;
#[cfg(unix)]
mod stores;
mod support;
mod terminal;

use std::{collections::BTreeSet, fs};

use crate::{
    scenario::check_scenario,
    support::{NORTHWIND, Small, in_one_line, order_service},
};
use cqrs_core::Event as _;
use cqrs_tests::TestContext;
use order_service::{OrderEvent, StockEvent};
use serde_json::{Value, json};

/// The figures of any correct read model of Northwind.
fn northwind_figures(new_events: u64, repeats: u64) -> Value {
    json!({
        "orders": 830,
        "lines": 2155,
        "units": 51317,
        "gross": "1354458.59",
        "net": "1265793.0395",
        "shipped": 809,
        "never_shipped": 21,
        "top_countries": [
            { "country": "Germany", "orders": 122 },
            { "country": "USA", "orders": 122 },
            { "country": "Brazil", "orders": 83 },
            { "country": "France", "orders": 77 },
            { "country": "UK", "orders": 56 },
        ],
        "top_customers": [
            { "customer": "QUICK", "net": "110277.305" },
            { "customer": "ERNSH", "net": "104874.9785" },
            { "customer": "SAVEA", "net": "104361.95" },
            { "customer": "RATTC", "net": "51097.8005" },
            { "customer": "HUNGO", "net": "49979.905" },
        ],
        "new_events": new_events,
        "repeats": repeats,
    })
}

/// Four commands for each of 830 orders and 72 products, and two more for each of 809 shipped orders.
const EVENTS: u64 = 3 * 830 + 2 * 809 + 72;

#[test]
fn without_a_server_on_the_path_a_file_is_used_and_said() {
    let (path, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str]| order_service(arguments).env("PATH", path.path());
    let why = "(no --nats, no NATS_URL, and no nats-server on the PATH";
    // Again and again, and beside what an import has left there.
    for _ in 0..2 {
        let output = run(&["--data", data.path().to_str().unwrap()]).run();
        assert!(output.success(), "{output:?}");
        check_scenario(&output.stdout);
        let file = data.path().join("orders.db").display().to_string();
        let kept =
            format!("Events and views are kept in an SQLite file, {file}, context orders-scenario {why}");
        assert!(in_one_line(&output.stdout).starts_with(&kept), "{}", output.stdout);
    }
    let output = run(&["report"]).run();
    assert!(output.success(), "{output:?}");
    let kept = "Events and views are kept in an SQLite file, order-service-data/orders.db, context orders (no --nats";
    assert!(in_one_line(&output.stderr).starts_with(kept), "{}", output.stderr);
}

/// Nobody can write into the folder, not even root: a file is in its place.
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("data");
    fs::write(&file, "").unwrap();
    let (data, below) = (file.to_str().unwrap(), file.join("views.db"));
    let named = format!("the folder {data} cannot be written");
    let words = [&*named, "give your user the right to write there, or name another folder with --data"];
    order_service(["report", "--sqlite", "--data", data]).run().is_refused_with(&words);
    order_service(["report", "--data", data]).private_server().await.run().is_refused_with(&words);
    let views = format!("sqlite:{}", below.display());
    let run = order_service(["report", "--memory", "--views", &views]);
    run.run().is_refused_with(&[&named, "name a file in another folder"]);
}

/// Other processes find what one has left, also at the same time.
#[test]
fn what_is_imported_into_a_file_is_in_the_reports_of_later_runs() {
    let data = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let place = ["--sqlite", "--data", data.path().to_str().unwrap()];
        order_service(arguments.iter().chain(&place))
    };
    let mut serving = run(&["serve"]).begin();
    serving.says("until Ctrl-C");
    let import = ["import", NORTHWIND, "--format", "json"];
    assert_eq!(run(&import).run().json(), northwind_figures(EVENTS, 0));
    assert_eq!(run(&import).run().json(), northwind_figures(0, EVENTS));
    assert!(serving.interrupt().0.success());
    let report = run(&["report", "--format", "json"]).run().json();
    let (expected, months) = fold::northwind();
    assert_eq!(fold::reported(&report), expected);
    assert!(!fold::reported_months(&report).is_empty() && !months.is_empty(), "the file has tables, too");
    run(&["report", "--views", "kv"]).run().is_refused_with(&["--views kv", "the events are not on one"]);
}

#[cfg(not(feature = "postgres"))]
#[test]
fn without_postgres_the_error_names_the_feature() {
    let refused = order_service(["--memory", "--views", "postgres://anna:s3cret@host/shop", "report"]).run();
    refused.is_refused_with(&["built without Postgres", "--features postgres"]);
}

#[test]
fn an_import_into_memory_gives_the_exact_figures() {
    let output = order_service(["--memory", "import", NORTHWIND, "--format", "json"]).run();
    assert_eq!(output.json(), northwind_figures(EVENTS, 0));
    assert!(output.stderr.starts_with("Events and views are kept in memory"), "{}", output.stderr);
}

#[tokio::test]
async fn a_second_import_into_nats_changes_nothing() {
    let context = TestContext::new("order-import").await;
    let import = ["import", NORTHWIND, "--format", "json", "--context", &context.name];
    assert_eq!(order_service(import).nats().await.run().json(), northwind_figures(EVENTS, 0));
    let before =
        order_service(["report", "--context", &context.name, "--format", "json"]).nats().await.run().json();

    assert_eq!(order_service(import).nats().await.run().json(), northwind_figures(0, EVENTS));
    let after =
        order_service(["report", "--context", &context.name, "--format", "json"]).nats().await.run().json();
    assert_eq!(after, before);
    check_report(&after);
}

#[tokio::test]
async fn an_order_can_be_traced_from_its_id_and_from_a_transaction() {
    let context = TestContext::new("order-trace").await;
    let of = |command: &[&str]| {
        let arguments = command.iter().copied().chain(["--context", &context.name]);
        order_service(arguments.collect::<Vec<_>>())
    };
    let told = of(&[]).nats().await.run().stdout;
    // The scenario gives its orders new names in every run.
    let order = told.split_whitespace().find(|word| word.starts_with("dora-")).unwrap().trim_end_matches(':');
    let trace = of(&["trace", order]).nats().await.run();
    let names: Vec<_> =
        trace.stdout.lines().filter_map(|line| line.split(" on ").next()?.split(',').next()).collect();
    let submitted = names.iter().position(|name| *name == "submit_order").expect(&trace.stdout);
    let expected = [
        "submit_order",
        "  order.submitted",
        "    reserve_stock",
        "      stock.reserved",
        "        confirm_order",
        "          order.confirmed",
        "            expire_order",
        "              order.cancelled",
        "                release_stock",
        "                  stock.released",
    ];
    assert_eq!(names[submitted..submitted + expected.len()], expected, "{}", trace.stdout);
    let transaction = trace.stdout.lines().find_map(|line| line.strip_prefix("transaction ")).unwrap();
    let alone = of(&["trace", transaction]).nats().await.run().stdout;
    assert!(trace.stdout.starts_with(alone.trim_end()), "{alone}");
    of(&["trace", "nobody"]).nats().await.run().fails_with("there is no order nobody");
}

/// A run of order-service from its first to its last message, checked with the official CloudEvents SDK.
#[tokio::test]
async fn everything_that_is_stored_is_cloudevents() {
    let context = TestContext::new("order-events").await;
    for arguments in [&["--context", &context.name][..], &["import", NORTHWIND, "--context", &context.name]] {
        assert!(order_service(arguments).nats().await.run().success());
    }
    let commits = cqrs_tests::oracle::judge_all(&context, &["order", "stock"]).await;
    let events = commits.iter().flat_map(|stored| &stored.commit.events);
    let types: BTreeSet<_> = events.map(|event| &*event.event_type).collect();
    let known = OrderEvent::TYPES.iter().chain(StockEvent::TYPES).map(|known| known.name).collect();
    assert_eq!(types, known, "every type of event has been judged");
    assert!(commits.len() > 4_000, "{}", commits.len());
}

fn check_report(report: &Value) {
    assert_eq!(report["totals"]["net"], "1265793.0395");
    assert_eq!(report["totals"]["never_shipped"], 21);
    assert_eq!(report["countries"].as_array().map(Vec::len), Some(21));
    assert_eq!(report["customers"].as_array().map(Vec::len), Some(89));
    let usa = json!({ "country": "USA", "orders": 122, "lines": 352, "units": 9330, "gross": "263566.98", "net": "245584.6105" });
    assert_eq!(report["countries"][0], usa);
    assert_eq!(report["customers"][0]["name"], "QUICK-Stop");
}

#[tokio::test]
async fn a_report_is_a_table_for_people() {
    let context = TestContext::new("order-report").await;
    let small = Small::new();
    let folder = small.path();
    let output = order_service(["import", folder, "--context", &context.name]).nats().await.run();
    assert!(output.stdout.contains("9 new events; 0 commands"), "{output:?}");
    let report = order_service(["report", "--context", &context.name]).nats().await.run();
    for cells in ["Norway 1 12 168.00 142.80", "ANNA Anna Aas 1 12 168.00 142.80", "all 2 13 177.80 152.60"] {
        assert!(report.has_row(cells), "{cells:?} is not in:\n{}", report.stdout);
    }
}

#[tokio::test]
async fn a_broken_row_changes_nothing_and_what_was_imported_stays() {
    let context = TestContext::new("order-broken").await;
    let small = Small::new();
    let import = ["import", small.path(), "--format", "json", "--context", &context.name];
    assert_eq!(order_service(import).nats().await.run().json()["orders"], 2);

    small.append("orders.csv", "3,ANNA,2026-01-04,NULL,Norway\n");
    small.append("order_details.csv", "3,11,14.00,many,0\n");
    let refused = order_service(import).nats().await.run();
    refused.is_refused_with(&["order_details.csv, line 4: quantity is \"many\", not a whole number"]);

    small.replace("order_details.csv", "many", "1");
    let mended = order_service(import).nats().await.run().json();
    assert_eq!(
        (&mended["orders"], &mended["new_events"], &mended["repeats"]),
        (&json!(3), &json!(3), &json!(9))
    );
}

#[test]
fn every_kind_of_broken_row_is_named_by_file_and_line() {
    for (file, old, new, expected) in [
        ("orders.csv", "1,ANNA", "1,OTTO", "orders.csv, line 2: customer OTTO is not in customers.csv"),
        (
            "orders.csv",
            "2026-01-02,2026",
            "soon,2026",
            "orders.csv, line 2: orderDate is \"soon\", not a date",
        ),
        ("orders.csv", "2,BEN", "1,BEN", "orders.csv, line 3: order 1 is listed twice"),
        ("orders.csv", "2,BEN", "7,BEN", "orders.csv, line 3: an order needs at least one line"),
        (
            "orders.csv",
            "2026-01-03,",
            "2025-12-31,",
            "orders.csv, line 2: an order placed on 2026-01-02 cannot",
        ),
        ("orders.csv", ",Ireland", "", "orders.csv, line 3: there are 4 fields, the header has 5"),
        ("orders.csv", "shipCountry", "country", "orders.csv, line 1: there is no column shipCountry"),
        (
            "orders.csv",
            "\n2,BEN,2026-01-03,NULL,Ireland",
            "",
            "order_details.csv, line 3: order 2 is not in orders.csv",
        ),
        (
            "order_details.csv",
            "1,11,",
            "1,99,",
            "order_details.csv, line 2: product 99 is not in products.csv",
        ),
        ("order_details.csv", "0.15", "1.5", "order_details.csv, line 2: 1.5 is no discount on product 11"),
        (
            "order_details.csv",
            "9.80",
            "NULL",
            "order_details.csv, line 3: unitPrice is NULL, not a decimal number",
        ),
        (
            "products.csv",
            "Chai,5",
            "Chai,-5",
            "products.csv, line 2: unitsInStock is \"-5\", not a whole number",
        ),
        ("customers.csv", "Anna Aas", "", "customers.csv, line 2: companyName is \"\", not a name"),
    ] {
        let small = Small::new();
        small.replace(file, old, new);
        order_service(["--memory", "import", small.path()]).run().is_refused_with(&[expected]);
    }
}

#[test]
fn a_missing_folder_or_file_is_one_clear_line() {
    order_service(["--memory", "import", "no/such/folder"])
        .run()
        .is_refused_with(&["there is no folder no/such/folder"]);
    let small = Small::new();
    fs::remove_file(format!("{}/products.csv", small.path())).unwrap();
    order_service(["--memory", "import", small.path()])
        .run()
        .is_refused_with(&["cannot read", "products.csv"]);
}

#[test]
fn an_unreachable_server_is_one_clear_line() {
    for command in [&["report"][..], &["serve"], &["import", NORTHWIND], &[]] {
        // Nothing listens on the port 1.
        let output = order_service(command).env("NATS_URL", "nats://anna:s3cret@127.0.0.1:1").run();
        output.is_refused_with(&["nats://127.0.0.1:1"]);
    }
}
