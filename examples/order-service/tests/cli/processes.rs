//! Several processes of the order service: one after the other on one folder, and at the same time.

use cqrs_tests::TestContext;

use crate::support::{NORTHWIND, Small, order_service};

#[tokio::test]
async fn a_private_server_keeps_its_data_for_the_next_run() {
    let (small, data) = (Small::new(), tempfile::tempdir().unwrap());
    let data = data.path().to_str().unwrap();
    let import = ["import", small.path(), "--data", data, "--format", "json"];
    let first = order_service(import).private_server().await.run();
    assert_eq!((&first.json()["new_events"], &first.json()["repeats"]), (&9.into(), &0.into()));
    assert!(first.stderr.contains("private NATS server") && first.stderr.contains(data), "{}", first.stderr);

    let second = order_service(import).private_server().await.run().json();
    assert_eq!(
        (&second["orders"], &second["new_events"], &second["repeats"]),
        (&2.into(), &0.into(), &9.into())
    );
}

#[tokio::test]
async fn the_folder_of_a_private_server_belongs_to_one_process_whose_server_can_be_shared() {
    let data = tempfile::tempdir().unwrap();
    let arguments = |command| [command, "--data", data.path().to_str().unwrap()];
    let mut serving = order_service(arguments("serve")).private_server().await.begin();
    serving.says("until Ctrl-C");

    let refused = order_service(arguments("report")).private_server().await.run();
    refused.is_refused_with(&["is in use by another order-service", "--nats nats://127.0.0.1:"]);
    let url = refused.stderr.trim().rsplit(' ').next().unwrap();
    assert!(order_service(["report", "--nats", url]).run().success());

    let (status, said) = serving.interrupt();
    assert!(status.success() && said.ends_with("Stopped.\n"), "{status}: {said}");
    assert!(order_service(arguments("report")).private_server().await.run().success());
}

#[tokio::test]
async fn an_import_beside_a_running_service_gives_the_exact_figures() {
    let context = TestContext::new("order-serve").await;
    let mut serving = order_service(["serve", "--context", &context.name]).nats().await.begin();
    serving.says("until Ctrl-C");

    let import = ["import", NORTHWIND, "--format", "json", "--context", &context.name];
    let figures = order_service(import).nats().await.run().json();
    assert_eq!((&figures["orders"], &figures["net"]), (&830.into(), &"1265793.0395".into()));

    let (status, said) = serving.interrupt();
    assert!(status.success() && said.ends_with("Stopped.\n"), "{status}: {said}");
}

#[tokio::test]
async fn a_view_is_built_anew_from_what_is_there() {
    let context = TestContext::new("order-rebuild").await;
    let arguments = |command: &[&str]| {
        let context = ["--context", &context.name];
        command.iter().chain(&context).map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    assert!(order_service(arguments(&["import", NORTHWIND])).nats().await.run().success());
    let report = arguments(&["report", "--format", "json"]);
    let before = order_service(report.clone()).nats().await.run().json();

    let refused = order_service(arguments(&["rebuild", "sales"])).nats().await.run();
    assert!(!refused.success() && refused.stderr.contains("sales-by-country"), "{refused:?}");
    let rebuilt = order_service(arguments(&["rebuild", "sales-by-country"])).nats().await.run();
    assert!(rebuilt.success(), "{rebuilt:?}");
    assert!(rebuilt.stdout.contains("sales-by-country was built anew up to sequence 4,180"), "{rebuilt:?}");
    assert!(
        rebuilt.stdout.ends_with("sales-by-country-v1, which answered before, is removed.\n"),
        "{rebuilt:?}"
    );
    assert_eq!(order_service(report).nats().await.run().json(), before);
}
