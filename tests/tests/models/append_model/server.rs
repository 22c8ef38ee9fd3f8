//! The stream: it stores and answers.

/// The commands whose events are in one commit, in order: one, or two that waited together. More would add no new
/// behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Commands([Option<char>; 2]);

impl Commands {
    pub(crate) fn push(&mut self, command: char) {
        let free = self.0.iter_mut().find(|place| place.is_none());
        *free.expect("no process has more than two commands") = Some(command);
    }

    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = char> {
        self.0.into_iter().flatten()
    }

    pub(crate) fn contains(self, command: char) -> bool {
        self.0.contains(&Some(command))
    }

    pub(crate) fn count(self) -> usize {
        self.iter().count()
    }
}

/// The result of one decision.
///
/// Client and decision together stand for the first event's id, which `Commit::is_same` in cqrs-core
/// compares: it is new whenever a client decides again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) client: usize,
    pub(crate) decision: usize,
    pub(crate) commands: Commands,
    /// The sequence that was the aggregate's last when this was decided; 0 for none.
    pub(crate) expected: usize,
    pub(crate) first_version: usize,
    pub(crate) events: usize,
}

impl Commit {
    pub(crate) fn last_version(self) -> usize {
        self.first_version + self.events - 1
    }
}

/// A commit in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) commit: Commit,
    /// Whether it arrived when its sender no longer waited for that message.
    pub(crate) late: bool,
}

/// The number of servers of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replicas {
    One,
    /// Reads may be answered by a replica that lags, and appends by a leader that was deposed and does not know it.
    Three,
}

/// The server's answer to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Stored(usize),
    /// 10071.
    Conflict,
    /// 10164 or 10158, or no connection to send on: not stored.
    Busy,
    /// Any other error of the server: not stored.
    Failed,
}

/// One aggregate's part of the stream; the commit of sequence `n` is `commits[n - 1]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Log {
    pub(crate) commits: Vec<Stored>,
}

impl Log {
    pub(crate) fn last(&self) -> usize {
        self.commits.len()
    }

    pub(crate) fn at(&self, sequence: usize) -> Option<Commit> {
        self.commits.get(sequence.checked_sub(1)?).map(|stored| stored.commit)
    }

    pub(crate) fn contains(&self, commit: Commit) -> bool {
        self.commits.iter().any(|stored| stored.commit == commit)
    }

    /// What the server would answer now. A message without an expectation exists only in a mutant.
    pub(crate) fn verdict(&self, commit: Commit, expects: bool) -> Answer {
        if expects && commit.expected != self.last() {
            return Answer::Conflict;
        }
        Answer::Stored(self.last() + 1)
    }

    /// The server handles a message.
    pub(crate) fn append(&mut self, stored: Stored, expects: bool) -> Answer {
        let answer = self.verdict(stored.commit, expects);
        if let Answer::Stored(_) = answer {
            self.commits.push(stored);
        }
        answer
    }
}
