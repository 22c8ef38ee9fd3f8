//! Runs the program, and checks its output.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

/// The folder with the Northwind files.
pub(crate) const NORTHWIND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/northwind");

/// How long a complaint may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Prepares a run of the program with these arguments, in a folder of its own and with none of the
/// variables that change what it does.
pub(crate) fn order_service<Argument: AsRef<OsStr>>(arguments: impl IntoIterator<Item = Argument>) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    for variable in ["NATS_URL", "DATABASE_URL", "RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    Run { command, _folder: folder }
}

/// A run that has not begun.
pub(crate) struct Run {
    command: Command,
    _folder: TempDir,
}

impl Run {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn arguments<Argument: AsRef<OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = Argument>,
    ) -> Self {
        self.command.args(arguments);
        self
    }

    /// On the server that all tests share.
    pub(crate) async fn nats(self) -> Self {
        let url = cqrs_tests::server().await.url();
        self.env("NATS_URL", url)
    }

    /// With a nats-server on the `PATH` and no other program, so that it starts a private one.
    pub(crate) async fn private_server(self) -> Self {
        let binary = cqrs_tests::server_binary().await;
        let folder = binary.parent().unwrap().to_owned();
        // The watchdog of the private server is a shell script.
        let path = std::env::join_paths([folder, "/usr/bin".into(), "/bin".into()]).unwrap();
        self.env("PATH", path)
    }

    pub(crate) fn run(mut self) -> Output {
        let output = self.command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs with its standard input, output and errors there. `read` returns what it has printed, once it has ended.
    #[cfg(target_os = "linux")]
    pub(crate) fn run_on(self, [stdin, stdout, stderr]: [Stdio; 3], read: impl FnOnce() -> String) -> Output {
        let Self { mut command, _folder: _kept } = self;
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // The command holds the three open.
        drop(command);
        let stdout = read();
        Output { status: child.wait().unwrap(), stdout, stderr: String::new() }
    }

    /// Begins a run that continues until it is stopped.
    pub(crate) fn begin(mut self) -> Running {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (line, lines) = mpsc::channel();
        // It ends with the process, or with the test.
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|read| line.send(read)));
        Running { child, stdout, stderr: lines, complaints: String::new(), _run: self }
    }
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Output {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn success(&self) -> bool {
        self.status.success()
    }

    /// The one JSON object that was printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!(self.success(), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Expects the exit status of a refusal, and one line on stderr with these words.
    #[track_caller]
    pub(crate) fn is_refused_with(&self, words: &[&str]) {
        self.is_one_line_with(1, words);
    }

    /// Expects the exit status of a mistake on the command line, and one line on stderr with these words.
    #[track_caller]
    pub(crate) fn is_a_mistake_with(&self, words: &[&str]) {
        self.is_one_line_with(2, words);
    }

    #[track_caller]
    fn is_one_line_with(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.matches('\n').count(), 1, "{}", self.stderr);
        assert!(self.stderr.starts_with("order-service: "), "{}", self.stderr);
        assert!(!self.stderr.contains("s3cret"), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {:?}", self.stderr);
        }
    }

    /// Expects the exit status of a failure, and one line at the end of stderr that ends with these words.
    #[track_caller]
    pub(crate) fn fails_with(&self, words: &str) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("order-service: ") && last.ends_with(words), "{}", self.stderr);
    }

    /// Whether a table has a row with these cells, whatever separates them.
    pub(crate) fn has_row(&self, cells: &str) -> bool {
        self.stdout.lines().any(|line| in_cells(line) == cells)
    }

    /// Whether a table has a row that begins with these cells.
    pub(crate) fn has_row_with(&self, cells: &str) -> bool {
        self.stdout.lines().any(|line| in_cells(line).starts_with(cells))
    }
}

/// A run in progress; it is killed when the test ends first.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Receiver<String>,
    /// All of stderr that was read, in one line.
    complaints: String,
    _run: Run,
}

impl Running {
    /// Waits for a line with `words` and returns it.
    pub(crate) fn says(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended before it said {words:?}");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits until it has said this on stderr, in one line or in several.
    pub(crate) fn complains(&mut self, words: &str) {
        while !self.complaints.contains(words) {
            let line = self.stderr.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("{words:?} is not in {:?}", self.complaints));
            self.complaints.extend([&in_one_line(&line), " "]);
        }
    }

    /// Kills it as a crash would, and returns how it ended.
    pub(crate) fn kill(mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Interrupts it like Ctrl-C, and returns the status and the remaining output.
    pub(crate) fn interrupt(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cells of a row of a table, with one space between them.
fn in_cells(line: &str) -> String {
    line.split([' ', '│']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A text without its line breaks and indentations.
pub(crate) fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Two small orders as Northwind files: one that was shipped and one that was not.
pub(crate) struct Small(TempDir);

impl Small {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("customers.csv", "customerID,companyName\nANNA,Anna Aas\nBEN,Ben Baker\n"),
            ("products.csv", "productID,productName,unitsInStock\n11,Chai,5\n12,Chang,0\n"),
            (
                "orders.csv",
                "orderID,customerID,orderDate,shippedDate,shipCountry\n\
                 1,ANNA,2026-01-02,2026-01-03,Norway\n\
                 2,BEN,2026-01-03,NULL,Ireland\n",
            ),
            (
                "order_details.csv",
                "orderID,productID,unitPrice,quantity,discount\n1,11,14.00,12,0.15\n2,12,9.80,1,0\n",
            ),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        Self(folder)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    pub(crate) fn append(&self, file: &str, row: &str) {
        let path = self.0.path().join(file);
        fs::write(&path, fs::read_to_string(&path).unwrap() + row).unwrap();
    }

    /// Replaces the first `old` in a file.
    pub(crate) fn replace(&self, file: &str, old: &str, new: &str) {
        let path = self.0.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old:?} is not in {file}");
        fs::write(&path, text.replacen(old, new, 1)).unwrap();
    }
}
