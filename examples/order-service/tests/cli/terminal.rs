//! What a terminal shows: texts of 80 columns, colours only where they are wanted, and mistakes in one line.

use cqrs_tests::TestContext;

use crate::support::{NORTHWIND, Output, order_service};

/// Fails at a line that is too wide, except an error, which is one line.
#[track_caller]
fn fits(of: &[&str], output: &Output) {
    for line in output.stdout.lines().chain(output.stderr.lines()) {
        let is_error = line.starts_with("order-service: ");
        assert!(is_error || line.chars().count() <= 80, "{of:?} prints {line:?}");
    }
}

/// The subcommands that a help text lists.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names = listed.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn help_teaches_with_examples_in_80_columns() {
    let mut seen = 0;
    let mut commands = vec![Vec::new()];
    while let Some(command) = commands.pop() {
        for help in ["--help", "-h"] {
            let arguments: Vec<&str> = command.iter().map(String::as_str).chain([help]).collect();
            let output = order_service(&arguments).run();
            assert!(output.success() && output.stderr.is_empty(), "{output:?}");
            fits(&arguments, &output);
            // The commands below another one are in its examples.
            let has_examples = output.stdout.contains("Examples:\n  order-service");
            assert!(has_examples || command.len() == 2, "{}", output.stdout);
            if help == "--help" {
                let below = subcommands(&output.stdout).into_iter();
                commands.extend(below.map(|name| command.iter().cloned().chain([name]).collect::<Vec<_>>()));
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * (1 + 9 + 5 + 5));
}

#[tokio::test]
async fn every_table_and_text_has_80_columns() {
    let context = TestContext::new("order-columns").await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}/views.db", folder.path().display());
    let long = "Elisabethville-sur-Mer";
    for (arguments, views) in [
        (&["import", NORTHWIND][..], "kv"),
        (&["report"], "kv"),
        (&["report", "--year", "1997"], &file),
        (&["orders", "--limit", "1000"], "kv"),
        (&["orders", "--country", long], "kv"),
        (&["status"], &file),
        (&["status"], "kv"),
        (&["rebuild", "sales-by-customer"], "kv"),
        (&["trace", "10248"], "kv"),
        (&["dead-letters"], "kv"),
        (&["dead-intents"], "kv"),
    ] {
        let run = order_service(arguments).arguments(["--context", &context.name, "--views", views]);
        let output = run.nats().await.run();
        assert!(output.success() && !output.stdout.is_empty(), "{output:?}");
        fits(arguments, &output);
    }
}

#[test]
fn what_is_empty_in_memory_says_why_and_what_to_do() {
    for arguments in [&["report"][..], &["orders"], &["rebuild", "sales-totals"]] {
        let output = order_service(["--memory"]).arguments(arguments).run();
        assert!(output.success(), "{output:?}");
        fits(arguments, &output);
        let told = crate::support::in_one_line(&output.stdout);
        for words in ["in this process's memory, which begins empty with each run", "--sqlite"] {
            assert!(told.contains(words), "{told}");
        }
    }
    for arguments in [&["report"][..], &["orders"]] {
        // JSON stays JSON, and the same is said beside it.
        let output = order_service(["--memory"]).arguments(arguments).arguments(["--format", "json"]).run();
        output.json();
        assert!(crate::support::in_one_line(&output.stderr).contains("begins empty"), "{output:?}");
    }
    order_service(["--memory", "trace", "10248"])
        .run()
        .fails_with("on a NATS server, or in an SQLite file with --sqlite");
    for arguments in ["status", "dead-letters", "dead-intents"] {
        let words = ["views in memory are known to their own process alone", "--nats"];
        order_service(["--memory", arguments]).run().is_refused_with(&words);
    }
}

#[tokio::test]
async fn what_is_empty_on_a_server_says_how_to_fill_it() {
    let context = TestContext::new("order-empty").await;
    for arguments in ["report", "orders"] {
        let output = order_service([arguments, "--context", &context.name]).nats().await.run();
        let told = crate::support::in_one_line(&output.stdout);
        assert!(told.contains("order-service import") && !told.contains("memory"), "{told}");
    }
}

#[test]
fn a_mistake_on_the_command_line_is_one_line() {
    for (arguments, words) in [
        (&["orders", "--limit", "0"][..], "0 is not in 1..=1000"),
        (&["orders", "--limit", "1001"], "1001 is not in 1..=1000"),
        (&["orders", "--limit", "-1"], "--limit"),
        (&["report", "--year", "0"], "0 is not in 1..=9999"),
        (&["orders", "--status", "lost"], "created, confirmed, paid"),
        (&["repot"], "tip: some similar subcommands exist: 'import', 'report'"),
        (&["import"], "<FOLDER>"),
        (&["dead-letters", "show", "order-summary", "10248"], "such as order/10248"),
    ] {
        order_service(arguments).run().is_a_mistake_with(&[words, "see --help"]);
    }
}

#[test]
fn colours_are_a_matter_of_the_environment() {
    let coloured = order_service(["--memory"]).env("CLICOLOR_FORCE", "1");
    assert!(coloured.run().stdout.contains('\u{1b}'));
    let plain =
        order_service(["--memory"]).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").env("RUST_LOG", "info");
    let Output { stdout, stderr, .. } = plain.run();
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "{stdout}{stderr}");
    assert!(stderr.contains("INFO"), "the log of the framework is there: {stderr}");
}
