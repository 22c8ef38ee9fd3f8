//! Properties of the repository as a whole, checked from its own files and cargo's answers.

use std::{
    fs, iter,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[test]
fn the_core_does_not_depend_on_a_nats_client() {
    let tree = cargo(&["tree", "--package", "cqrs-core", "--edges", "normal", "--prefix", "none"]);
    assert!(tree.contains("cqrs-core v"), "not the tree of cqrs-core:\n{tree}");
    assert!(!tree.contains("async-nats"), "cqrs-core depends on async-nats:\n{tree}");
}

#[test]
fn ci_runs_the_test_command_that_the_readme_names() {
    let readme = read("README.md");
    let command = readme
        .lines()
        .map(|line| line.trim_start_matches("$ "))
        .find(|line| line.starts_with("cargo test"))
        .expect("the README has a line with the test command");
    let ran = read(".ci/run").lines().any(|line| line.trim().trim_start_matches("run ") == command);
    assert!(ran, "`{command}` is not a line of .ci/run");
}

/// Types of these crates are in the framework's interface, so another version of them does not fit.
#[test]
fn the_first_service_takes_the_versions_that_the_framework_has() {
    let manifest = read("Cargo.toml");
    let here: Vec<_> = manifest.lines().filter_map(version).collect();
    let guide = read("cqrs-core/docs/first_service.md");
    let (_, dependencies) = guide.split_once("[dependencies]").expect("the manifest of the example");
    let mut compared = Vec::new();
    for (name, taken) in dependencies.lines().filter_map(version) {
        let Some((_, ours)) = here.iter().find(|(known, _)| *known == name) else { continue };
        let fits = ours.strip_prefix(taken).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        assert!(fits, "the guide takes {name} {taken}, the framework has {ours}");
        compared.push(name);
    }
    assert_eq!(compared, ["serde", "thiserror", "tokio", "jiff", "schemars", "tracing-subscriber"]);
}

/// The dependency in a line of a manifest, or of a table of Markdown: `name = "1"`, `name = { version = "1", … }`.
fn version(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start_matches("| `").split_once(" = ")?;
    let value = value.strip_prefix("{ version = ").unwrap_or(value);
    let (version, _) = value.strip_prefix('"')?.split_once('"')?;
    Some((name, version))
}

/// With the feature a test can stop a store during its write; with the feature off the hook is not in the program.
#[test]
fn nothing_but_the_tests_asks_for_failpoints() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let asks = |package: &&Value| package["dependencies"].to_string().contains("\"failpoints\"");
    let asking: Vec<_> = packages.iter().filter(asks).map(|package| &package["name"]).collect();
    assert_eq!(asking, ["cqrs-tests"]);
    let features = packages.iter().flat_map(|package| package["features"].as_object().expect("features"));
    for (feature, leads_to) in features.filter(|(feature, _)| *feature != "failpoints") {
        assert!(!leads_to.to_string().contains("failpoints"), "{feature} leads to {leads_to}");
    }
}

#[test]
fn every_crate_has_a_licence() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    assert!(packages.len() > 1, "the workspace has more than one crate");
    for package in packages {
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{}", package["name"]);
    }
    assert!(root().join("LICENSE-MIT").exists() && root().join("LICENSE-APACHE").exists());
}

/// A test that does not collect lines may reach a statement first, and then no test sees its lines.
#[test]
fn each_test_of_the_program_that_collects_lines_does_so_first() {
    let program = root().join("tests/tests/lines");
    for file in sources(&root().join("tests/tests")).filter(|file| !file.ends_with("memory/repository.rs")) {
        let text = fs::read_to_string(&file).expect("a source");
        if !file.starts_with(&program) {
            assert!(!text.contains("Lines::collect()"), "{} is of another program", file.display());
            continue;
        }
        let mut lines = text.lines();
        while lines.by_ref().any(|line| line.starts_with("#[tokio::test") || line.starts_with("#[test")) {
            let name = lines.next().expect("a function");
            let first = lines.next().expect("a statement");
            assert_eq!(first, "    let lines = Lines::collect();", "{name} in {}", file.display());
        }
    }
    assert!(program.join("tracing.rs").exists(), "{} is where they are", program.display());
}

/// All files below a folder.
fn sources(folder: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    Box::new(entries.flat_map(|path| if path.is_dir() { sources(&path) } else { Box::new(iter::once(path)) }))
}

fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

fn read(file: &str) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}
