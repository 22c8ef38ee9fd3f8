//! Events live for years: the next program reads what one program has stored, and the first program reports events that
//! it does not know. Two binaries, one real server.

use cqrs_tests::{TestContext, server};
use tokio::process::Command;

const FIRST: &str = env!("CARGO_BIN_EXE_first_program");
const NEXT: &str = env!("CARGO_BIN_EXE_next_program");

/// The output of the program about its tasks.
async fn run(program: &str, context: &TestContext, steps: &[&str]) -> Vec<String> {
    let mut command = Command::new(program);
    command.arg(server().await.url()).arg(&context.name).args(steps).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), steps.len(), "{lines:?}");
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_program_has_stored_the_next_one_reads() {
    let context = TestContext::new("ages").await;
    let first = run(
        FIRST,
        &context,
        &[
            "open a",
            "deposit a 2",
            "deposit a 3",
            "deposit a 4",
            "deposit a 5",
            "snapshot a",
            "deposit a 6",
            "open b",
            "deposit b 7",
            "settle",
            "look a",
        ],
    )
    .await;
    assert_eq!(
        first[6..],
        ["version 7", "version 2", "version 3", "settled", "the balance is 21 after 0 commits"]
    );

    // The snapshot ends with version 6; the tail after it is in version 1.
    let next = run(
        NEXT,
        &context,
        &[
            "look a",
            "look b",
            "settle",
            "view statement a",
            "deposit a 9",
            "settle",
            "view careful a",
            "view openings b",
        ],
    )
    .await;
    assert_eq!(next[0], "the balance is 21 after 2 commits", "the snapshot's own commit and the tail");
    assert_eq!(next[1], "the balance is 8 after 2 commits", "a log without a snapshot");
    assert_eq!(next[3], r#"{"balance":21,"versions":[1,2,3,4,5,6,7]}"#);
    assert_eq!(next[4], "version 9", "a deposit in version 3 and a note, in bincode");
    assert_eq!(next[6], r#"{"balance":30,"versions":[1,2,3,4,5,6,7,8,9]}"#);
    assert_eq!(next[7], r#"{"balance":8,"versions":[1,2,3]}"#);

    // All of it again with other accounts: JSON and bincode, all versions, in one stream.
    let again = run(NEXT, &context, &["look a", "open c", "deposit c 1", "look c", "look b"]).await;
    assert!(again[0].starts_with("the balance is 30"), "{again:?}");
    assert_eq!(again[1..3], ["version 2", "version 4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_the_first_program_are_applied_by_the_next() {
    let context = TestContext::new("ages").await;
    let first = run(
        FIRST,
        &context,
        &[
            "open a",
            "deposit a 13",
            "deposit a 5",
            "open b",
            "deposit b 13",
            "settle",
            "letters statement",
            "view statement a",
        ],
    )
    .await;
    let said: Vec<_> = first[6].split("; ").collect();
    assert!(said.len() == 3 && said[0].starts_with("a#3") && said[0].contains("no thirteen"), "{said:?}");
    assert_eq!(first[7], r#"{"balance":1,"versions":[1,2]}"#);

    let next = run(
        NEXT,
        &context,
        &[
            "retry statement a",
            "view statement a",
            r#"edit statement b {"amount":12}"#,
            "retry statement b",
            "view statement b",
            "letters statement",
        ],
    )
    .await;
    assert_eq!(next[0..2], ["2 all", r#"{"balance":19,"versions":[1,2,3,4]}"#]);
    assert_eq!(
        next[3..],
        ["1 all", r#"{"balance":13,"versions":[1,2,3]}"#, ""],
        "an edit is in the stored version"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_program_says_what_it_does_not_know_and_loses_nothing() {
    let context = TestContext::new("ages").await;
    run(FIRST, &context, &["open a", "deposit a 2", "open b", "settle"]).await;
    run(NEXT, &context, &["without views", "deposit a 3", "deposit b 0", "deposit b 4"]).await;

    let first = run(
        FIRST,
        &context,
        &[
            "error a",
            "error b",
            "settle",
            "letters statement",
            "state statement",
            "state careful",
            "state openings",
            "letters openings",
            "view statement a",
            "view openings b",
            "open c",
            "deposit c 5",
            "look c",
        ],
    )
    .await;
    assert!(
        first[0].contains("UnknownVersion") && first[0].contains("version: 3, known: [1]"),
        "a load: {}",
        first[0]
    );
    assert!(
        first[1].contains("UnknownEvent") && first[1].contains(r#"event_type: "account.noted""#),
        "a load: {}",
        first[1]
    );
    let unknown = [
        "a#4: event account.deposited of account/a",
        "was stored in version 3, and this program reads version 1",
    ];
    assert!(unknown.iter().all(|part| first[3].contains(part)), "{}", first[3]);
    assert!(first[3].contains("b#3: event account.noted of account/b"), "{}", first[3]);
    assert_eq!(first[4], "Running 3", "what it cannot read and what is behind it is set aside");
    assert!(
        first[5].starts_with("Halted") && first[5].contains(": it was stored in version 3"),
        "{}",
        first[5]
    );
    assert_eq!(first[6], "Running 2", "notes are ignored, a deposit that cannot be read is not");
    assert!(
        first[7].contains("a#4") && first[7].contains("b#4") && !first[7].contains("noted"),
        "{}",
        first[7]
    );
    assert_eq!(first[8], r#"{"balance":3,"versions":[1,2,3]}"#);
    assert_eq!(first[9], r#"{"balance":1,"versions":[1,2]}"#);
    assert_eq!(first[10..], ["version 2", "version 3", "the balance is 6 after 0 commits"], "others go on");

    let next = run(
        NEXT,
        &context,
        &[
            "settle",
            "retry statement a",
            "retry statement b",
            "retry openings a",
            "retry openings b",
            "view statement a",
            "view statement b",
            "view careful a",
            "view careful b",
            "view openings a",
            "view openings b",
            "view careful c",
            "look b",
        ],
    )
    .await;
    assert_eq!(next[1..5], ["0 all"; 4], "the program that knows them has applied them by itself");
    let (a, b) = (r#"{"balance":6,"versions":[1,2,3,4,5]}"#, r#"{"balance":5,"versions":[1,2,3,4,5]}"#);
    assert_eq!(next[5..9], [a, b, a, b], "nothing is lost, and nothing is seen twice");
    let (a, b) = (r#"{"balance":6,"versions":[1,2,3,4]}"#, r#"{"balance":5,"versions":[1,2,4]}"#);
    assert_eq!(next[9..11], [a, b], "without the notes");
    assert_eq!(next[11], r#"{"balance":6,"versions":[1,2,3]}"#);
    assert!(next[12].starts_with("the balance is 5"), "{}", next[12]);
}
