//! The process that dies, or waits while another process dies.

use std::{path::Path, process::Stdio, time::Duration};

use cqrs_tests::failpoint;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{handled, steps::Step};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A worker with one step armed.
pub(crate) struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    step: Step,
}

impl Worker {
    pub(crate) fn start(
        url: &str,
        context: &str,
        folder: &Path,
        place: &str,
        action: &str,
        step: Step,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mortal"));
        command.args([url, context]).arg(handled(folder)).arg(place);
        command.env(failpoint::VARIABLE, format!("{action} {step}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines(), step }
    }

    /// Waits until it has died at its step.
    pub(crate) async fn until_dead(mut self) {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = ended else { panic!("{}: nobody came there", self.step) };
        let signal = std::os::unix::process::ExitStatusExt::signal(&status.unwrap());
        assert_eq!(signal, Some(6), "{}: it did not abort", self.step);
    }

    /// Waits until it is at its step.
    pub(crate) async fn until_it_waits(&mut self) {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let Ok(line) = line else { panic!("{}: nobody came there", self.step) };
        assert_eq!(line.unwrap().as_deref(), Some(failpoint::REACHED), "{}", self.step);
    }

    pub(crate) async fn go_on(&mut self) {
        self.stdin.write_all(b"go\n").await.unwrap();
    }

    /// Stops the whole process, as SIGSTOP does; its connections stay open.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Resumes the process.
    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it lives").to_string();
        let status = Command::new("kill").args([signal, &pid]).status().await.unwrap();
        assert!(status.success(), "{}: kill {signal}: {status}", self.step);
    }

    /// Lets it end in order.
    pub(crate) async fn stop(mut self) {
        drop(self.stdin);
        let ended = timeout(PATIENCE, self.child.wait()).await;
        assert!(ended.unwrap().unwrap().success(), "{}: it does not end in order", self.step);
    }
}
