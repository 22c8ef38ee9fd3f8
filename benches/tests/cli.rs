//! The command line: its help, and its errors.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cqrs-benches")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_help_has_every_workload() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    for workload in [
        "all",
        "commands",
        "hot",
        "sync",
        "loads",
        "old",
        "projections",
        "flat",
        "core",
        "peers",
        "derives",
        "report",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(workload)), "{workload}:\n{help}");
    }
}

#[test]
#[cfg(debug_assertions)]
fn a_debug_build_measures_nothing() {
    let output = run(&["core", "--rounds", "1", "--seconds", "0.05"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("debug build"), "{}", text(&output.stderr));
}

#[test]
fn results_become_a_table_and_a_picture() {
    const RESULTS: &str = r#"{
        "machine": {"time": "2026-01-01 00:00 UTC", "processor": "P<1>", "cores": 2, "memory": "4 GB",
            "kernel": "6.1", "rustc": "rustc 1", "client": "async-nats 0", "load_before": 1.5, "rounds": 1,
            "seconds": 1.0},
        "groups": [{"title": "Commands", "setting": "a server", "lines": [
            {"what": "raw", "unit": "commands_per_second", "rounds": [1000.0], "goal": null, "ratio": null},
            {"what": "ours", "unit": "commands_per_second", "rounds": [900.0], "goal": null,
                "ratio": {"to": "raw", "rounds": [0.9], "goal": {"at_least": 0.95}}}]}]
    }"#;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (results, readme, picture) = (path("results.json"), path("README.md"), path("results.svg"));
    std::fs::write(&results, RESULTS).expect("written");
    std::fs::write(&readme, "before\n<!-- results -->\nold\n<!-- end -->\nafter\n").expect("written");

    let output = run(&["report", &results, "--markdown", &readme, "--picture", &picture]);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let readme = std::fs::read_to_string(&readme).expect("the file");
    let row = "| ours | 900 commands/s | 900–900 | 0.90 × | raw | ≥ 0.95 × | no |";
    assert!(readme.starts_with("before\n") && readme.ends_with("after\n"), "{readme}");
    assert!(readme.contains(row) && !readme.contains("old"), "{readme}");
    assert!(readme.contains("The machine was busy"), "{readme}");
    let picture = std::fs::read_to_string(&picture).expect("the picture");
    assert!(picture.contains("0.90 × (≥ 0.95)") && picture.contains("P&lt;1&gt;"), "{picture}");
}
