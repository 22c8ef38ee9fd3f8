//! The harness itself: servers start, answer, keep the data that they should keep, and are never left behind.
#![cfg(unix)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use async_nats::jetstream;
use cqrs_nats_server::{LocalServer, LocalServerError};
use cqrs_tests::{eventually, own_server, ports::Port, server, server_binary, unique_context};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};

#[tokio::test]
async fn a_private_server_answers_on_loopback_and_has_jetstream() {
    let server = own_server().await;
    assert!(server.url().starts_with("nats://127.0.0.1:"), "{}", server.url());
    let info = info(server.url()).await;
    assert_eq!(info["port"], server.port());
    assert_eq!(info["jetstream"], true);
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let server = own_server().await;
    let (pid, folder) = (server.pid(), server.folder().to_owned());
    assert!(runs(pid) && folder.exists());
    server.stop().await;
    assert!(!runs(pid) && !folder.exists());
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let server = own_server().await;
    let (pid, folder) = (server.pid(), server.folder().to_owned());
    drop(server);
    assert!(!runs(pid) && !folder.exists());
}

#[tokio::test]
async fn a_server_that_hangs_is_gone_when_dropped() {
    let server = own_server().await;
    let pid = server.pid();
    signal("-STOP", &pid.to_string());
    drop(server);
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_server_that_crashed_leaves_its_log_until_it_is_stopped() {
    let server = own_server().await;
    let (pid, folder) = (server.pid(), server.folder().to_owned());
    signal("-KILL", &pid.to_string());
    eventually("the crashed server is gone", async || !runs(pid)).await;
    assert!(server.log_tail().contains("Server is ready"), "{}", server.log_tail());
    server.stop().await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_server_ends_with_its_parent_however_that_ends() {
    for (ending, target) in [("-KILL", ""), ("-TERM", ""), ("-INT", "-")] {
        let (temporary, mut parent) = spawn_parent("own");
        let line = first_line(&mut parent).await;
        let (_, pid) = line.split_once(' ').expect("the parent prints the URL and the process id");
        let pid = pid.parse().expect("a process id");
        assert!(runs(pid) && !is_empty(temporary.path()));

        // Ctrl-C in a terminal reaches the whole process group, which kill(1) writes with a minus sign.
        signal(ending, &format!("{target}{}", parent.id().expect("the parent runs")));
        parent.wait().await.expect("the parent ends");
        eventually("server and folder are gone", async || !runs(pid) && is_empty(temporary.path())).await;
    }
}

#[tokio::test]
async fn the_shared_server_ends_with_its_process() {
    for ending in ["in order", "-KILL"] {
        let (temporary, mut parent) = spawn_parent("shared");
        let url = first_line(&mut parent).await;
        assert_eq!(info(&url).await["jetstream"], true);
        let id = parent.id().expect("the parent runs");
        if ending == "in order" {
            drop(parent.stdin.take());
        } else {
            signal(ending, &id.to_string());
        }
        parent.wait().await.expect("the parent ends");
        eventually("the shared server is gone", async || {
            TcpStream::connect(address(&url)).await.is_err()
                && is_empty(temporary.path())
                && docker_has_none_of(id)
        })
        .await;
    }
}

#[tokio::test]
async fn a_kept_folder_survives_a_stop_and_a_crash() {
    let data = TempDir::new().expect("a temporary folder");
    let port = Port::reserve();
    let builder = LocalServer::builder(server_binary().await).data(data.path()).port(port.number());
    let server = builder.clone().start().await.expect("a server");
    let url = server.url().to_owned();
    let stream = unique_context("kept");
    add_message(&url, &stream).await;
    server.stop().await;

    let server = builder.clone().start().await.expect("the server starts again");
    assert_eq!(server.url(), url);
    assert_eq!(add_message(&url, &stream).await, 2);
    server.kill().await;

    let server = builder.start().await.expect("the server starts again");
    assert_eq!(add_message(&url, &stream).await, 3);
    server.stop().await;
    assert!(!is_empty(data.path()));
}

#[tokio::test]
async fn configuration_lines_reach_the_server() {
    let builder = LocalServer::builder(server_binary().await).config("max_payload: 1KB");
    let server = builder.config("jetstream { sync_interval: always }").start().await.expect("a server");
    let info = info(server.url()).await;
    assert_eq!(info["max_payload"], 1_024);
    assert_eq!(info["jetstream"], true);
}

/// Nobody can write into the folder, not even root: a file is in its place.
#[tokio::test]
async fn a_store_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for unwritable in [file.clone(), file.join("data")] {
        let server = LocalServer::builder(server_binary().await).data(&unwritable).start();
        let error = server.await.expect_err("no folder");
        let expected = format!(
            "the folder {} for the store of nats-server cannot be written: give the user of this program the right to \
             write there, or name another folder",
            unwritable.display()
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why_with_its_own_log() {
    let binary = server_binary().await;
    let error =
        LocalServer::builder(&binary).config("nonsense {").start().await.expect_err("no such setting");
    assert!(matches!(error, LocalServerError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("Parse error"), "{error}");

    let occupied = own_server().await;
    let error = LocalServer::builder(binary).port(occupied.port()).start().await.expect_err("a port in use");
    assert!(error.to_string().contains("address already in use"), "{error}");
}

#[tokio::test]
async fn every_test_gets_the_same_shared_server() {
    assert_eq!(server().await.url(), server().await.url());
}

#[tokio::test]
async fn the_shared_server_stores_messages() {
    let url = server().await.url();
    let stream = unique_context("shared");
    assert_eq!(add_message(url, &stream).await, 1);
    jetstream(url).await.delete_stream(&stream).await.expect("the stream is removed");
}

/// Publishes to a stream, which is made if it is missing, and returns how many messages it has then.
async fn add_message(url: &str, stream: &str) -> u64 {
    let context = jetstream(url).await;
    let config = jetstream::stream::Config {
        name: stream.into(),
        subjects: vec![stream.into()],
        ..Default::default()
    };
    context.get_or_create_stream(config).await.expect("the stream is there");
    let publish = context.publish(stream.to_owned(), "message".into()).await.expect("the message is sent");
    publish.await.expect("the message is stored").sequence
}

async fn jetstream(url: &str) -> jetstream::Context {
    jetstream::new(async_nats::connect(url).await.expect("the server accepts clients"))
}

/// The first line that a NATS server says, without the word `INFO`.
async fn info(url: &str) -> Value {
    let socket = TcpStream::connect(address(url)).await.expect("the server listens");
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).await.expect("the server speaks first");
    serde_json::from_str(line.strip_prefix("INFO ").expect("an INFO line")).expect("INFO carries JSON")
}

fn address(url: &str) -> &str {
    url.trim_start_matches("nats://")
}

/// Starts `src/bin/parent.rs`, whose temporary files go to a folder of their own.
fn spawn_parent(mode: &str) -> (TempDir, tokio::process::Child) {
    let temporary = TempDir::new().expect("a temporary folder");
    let parent = tokio::process::Command::new(env!("CARGO_BIN_EXE_parent"))
        .arg(mode)
        .env("TMPDIR", temporary.path())
        .env_remove("NATS_URL")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .expect("the parent starts");
    (temporary, parent)
}

async fn first_line(parent: &mut tokio::process::Child) -> String {
    let output = parent.stdout.take().expect("the output is piped");
    let line = BufReader::new(output).lines().next_line().await.expect("the output is text");
    line.expect("the parent prints a line")
}

fn signal(signal: &str, target: &str) {
    assert!(kill(signal, target), "kill {signal} -- {target}");
}

fn runs(pid: u32) -> bool {
    kill("-0", &pid.to_string())
}

fn kill(signal: &str, target: &str) -> bool {
    let status = Command::new("kill").args([signal, "--", target]).stderr(Stdio::null()).status();
    status.expect("kill(1) runs").success()
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().expect("the folder is there").next().is_none()
}

/// Whether the harness in that process left neither a container nor an image.
#[cfg(feature = "testcontainers")]
fn docker_has_none_of(process: u32) -> bool {
    let name = format!("cqrs-tests-nats-{process:x}-");
    let containers = docker(&["ps", "--all", "--format", "{{.Names}}"]);
    let images = docker(&["images", "--all", "--format", "{{.Repository}}"]);
    !containers.contains(&name) && !images.contains(&name)
}

#[cfg(feature = "testcontainers")]
fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker runs");
    assert!(output.status.success(), "docker {arguments:?}");
    String::from_utf8(output.stdout).expect("docker prints text")
}

#[cfg(not(feature = "testcontainers"))]
fn docker_has_none_of(_process: u32) -> bool {
    true
}
