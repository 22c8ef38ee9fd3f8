//! One process and the `settle` that runs in it. The decisions are those of cqrs-core.

use std::ops::ControlFlow;

use cqrs_core::{
    StoreError,
    decisions::{
        Next, Outcome, Round, Seen, Sent, Step as After, Verdict, after_answer, after_look, after_round,
        conclude, may_join, verdict,
    },
    port::AppendError,
};

use super::{
    Memory, Rule, Setup, Variant,
    server::{Answer, Commands, Commit, Log},
};

/// How many receipts a process remembers (`remembered::RECENT` in cqrs-core, where it is more).
const RECENT: usize = 1;

/// A process that carries out one command on the aggregate, or two that wait together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) pending: Vec<Pending>,
    pub(crate) step: Step,
    /// How often the callers may still send their commands.
    executions: usize,
    /// How often this execution may still decide (`Limits::attempts`).
    attempts: usize,
    /// Whether commands may share a commit (`together` in `settle::settle`).
    together: bool,
    /// How often it has decided, in all executions.
    decisions: usize,
    /// Commits that `append` called definitely not stored.
    pub(crate) disowned: Vec<Commit>,
}

/// A command, and the answer to its caller: `settle::PendingCommand`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub(crate) command: char,
    pub(crate) report: Option<Report>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// About to read the log, of which this much is known.
    Reading {
        known: usize,
    },
    /// In `append`, waiting for the answer to its latest message.
    Appending(Append),
    Done,
}

/// `append::append` between two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Append {
    pub(crate) commit: Commit,
    pub(crate) message: Message,
    /// Commands that are refused if the commit is stored: its place proves the state to be current.
    refused: Commands,
    sent: Sent,
    /// How often the same commit may still be sent: the patience.
    sends: usize,
}

/// A message for which its sender waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    OnTheWay,
    /// The server has handled it, and its sender has not seen the answer.
    Answered(Answer),
}

/// The answer to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Report {
    Receipt {
        commit: Commit,
        sequence: usize,
        source: Source,
    },
    Refused,
    Conflict {
        /// Whether the log had the command at that moment.
        in_log: bool,
    },
    Failed,
    Unknown,
}

/// The source of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Answer,
    Look,
    /// A repeat: the receipt was among the last ones (`Remembered::find`).
    Memory,
    /// A repeat: the receipt was read from the log (`repeats::older`).
    Log,
}

/// The result of a read from the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    Clear,
    /// No answer, or one from a deposed leader that shows nothing yet.
    Nothing,
}

impl Client {
    pub(crate) fn new(setup: &Setup, number: usize, commands: &str, executions: usize) -> Self {
        Self {
            number,
            pending: commands.chars().map(|command| Pending { command, report: None }).collect(),
            step: Step::Reading { known: 0 },
            executions: executions - 1,
            attempts: setup.attempts,
            together: true,
            decisions: 0,
            disowned: Vec::new(),
        }
    }

    /// Whether a caller may send its command again: the answer was neither that it has taken effect nor that it was
    /// refused.
    pub(crate) fn may_send_again(&self) -> bool {
        self.step == Step::Done && self.executions > 0 && self.pending.iter().any(Pending::is_unfinished)
    }

    /// The callers send the same commands again, perhaps to another process, which knows nothing of the earlier calls.
    pub(crate) fn send_again(&mut self, setup: &Setup) {
        self.executions -= 1;
        self.attempts = setup.attempts;
        self.together = true;
        for pending in self.pending.iter_mut().filter(|pending| pending.is_unfinished()) {
            pending.report = None;
        }
        self.step = Step::Reading { known: 0 };
    }

    /// Whether this execution has still to decide for the first time, on a state that may be stale.
    pub(crate) fn is_first_attempt(&self, setup: &Setup) -> bool {
        self.attempts == setup.attempts
    }

    /// `settle::round`, up to the first message, on the state after the commit at `upto`.
    pub(crate) fn round(&mut self, setup: &Setup, log: &Log, upto: usize, too_late: bool) {
        self.settle_repeats(setup, log, upto);
        let (mut accepted, mut refused) = (Commands::default(), Commands::default());
        for pending in self.pending.iter_mut().filter(|pending| pending.report.is_none()) {
            let is_twin = accepted.contains(pending.command) && setup.variant != Variant::TakesTwinsTogether;
            if !may_join(self.together, accepted.count(), 0, is_twin) {
                continue;
            }
            if setup.rule.refuses(upto + accepted.count(), too_late) {
                refused.push(pending.command);
            } else {
                accepted.push(pending.command);
            }
        }
        if accepted.count() > 0 {
            self.append(setup, log, upto, accepted, refused);
        } else if refused.count() == 0 || upto == log.last() || setup.variant == Variant::RefusesUnconfirmed {
            self.report(refused, Report::Refused);
            self.step = Step::Done;
        } else {
            // `Loaded::confirm` has read the rest from the leader. The model assumes that the leader is still the
            // leader, unlike in an append: a refusal has no expectation to prove it.
            self.after(setup, log, Round::Stale, log.last());
        }
    }

    /// `settle::settle_repeats`, on the state after the commit at `upto`.
    fn settle_repeats(&mut self, setup: &Setup, log: &Log, upto: usize) {
        let is_again = self.executions + 1 < setup.clients[self.number].1;
        for pending in self.pending.iter_mut().filter(|pending| pending.report.is_none()) {
            // Nobody else has an id that was made for this execution.
            if (is_again || setup.is_shared(pending.command))
                && let Some((sequence, commit, source)) = carried_out(setup, log, upto, pending.command)
            {
                pending.report = Some(Report::Receipt { commit, sequence, source });
            }
        }
    }

    fn append(&mut self, setup: &Setup, log: &Log, expected: usize, commands: Commands, refused: Commands) {
        self.decisions += 1;
        let commit = Commit {
            client: self.number,
            decision: self.decisions,
            commands,
            expected,
            first_version: log.at(expected).map_or(0, Commit::last_version) + 1,
            // Not one for each command, so that versions and sequences differ.
            events: commands.count() * (self.number + 1),
        };
        let sends = setup.sends - 1;
        let message = Message::OnTheWay;
        self.step = Step::Appending(Append { commit, message, refused, sent: Sent::default(), sends });
    }

    /// The answer to the latest message is handled; `sight` is the result of a look, if the answer needs one.
    pub(crate) fn take(&mut self, setup: &Setup, log: &Log, answer: Answer, sight: Sight) {
        let append = self.appending();
        let (next, source) = match next(setup.variant, &append, answer) {
            Next::Look => (look(setup.variant, &append, log, sight), Source::Look),
            next => (next, Source::Answer),
        };
        self.follow(setup, log, append, next, source);
    }

    /// Whether the answer needs a look, so that its result matters.
    pub(crate) fn would_look(setup: &Setup, append: &Append, answer: Answer) -> bool {
        matches!(next(setup.variant, append, answer), Next::Look)
    }

    /// No answer in time.
    pub(crate) fn time_out(&mut self, setup: &Setup, log: &Log) {
        let append = self.appending();
        let next = match setup.variant {
            Variant::TimeoutIsFailure => Next::Done(Outcome::Conflict),
            Variant::ReadsOnceAfterTimeout => match look(setup.variant, &append, log, Sight::Clear) {
                Next::Again { .. } => Next::Done(Outcome::Conflict),
                next => next,
            },
            _ => after_answer(Err(AppendError::Unknown(error())), append.sent),
        };
        self.follow(setup, log, append, next, Source::Look);
    }

    fn appending(&self) -> Append {
        match self.step {
            Step::Appending(append) => append,
            _ => unreachable!("only who waits for an answer gets one, or gets none in time"),
        }
    }

    /// The rest of the loop in `append::append`.
    fn follow(&mut self, setup: &Setup, log: &Log, mut append: Append, next: Next, source: Source) {
        if setup.variant == Variant::FailureIsFinal && matches!(next, Next::Done(Outcome::Failed(_))) {
            return self.conclude(setup, log, append, Outcome::Failed(error()), source);
        }
        match conclude(next, &mut append.sent, |_| append.sends > 0) {
            ControlFlow::Break(outcome) => self.conclude(setup, log, append, outcome, source),
            ControlFlow::Continue(_) => {
                append.sends -= 1;
                append.message = Message::OnTheWay;
                self.step = Step::Appending(append);
            }
        }
    }

    /// The effect of an outcome in `settle::round`.
    fn conclude(&mut self, setup: &Setup, log: &Log, append: Append, outcome: Outcome, source: Source) {
        let Append { commit, refused, .. } = append;
        if let Outcome::Conflict | Outcome::Failed(_) = outcome {
            self.disowned.push(commit);
        }
        let verdict = verdict(outcome, commit.commands.count());
        let round = verdict.round();
        let mut known = commit.expected;
        match verdict {
            Verdict::Receipts(sequence) => {
                known = usize::try_from(sequence).expect("a small number");
                self.report(commit.commands, Report::Receipt { commit, sequence: known, source });
                self.report(refused, Report::Refused);
            }
            Verdict::Fails(_) => self.report_first(commit.commands, Report::Failed),
            Verdict::OneByOne => self.together = false,
            Verdict::Unknown(_) => self.report(commit.commands, Report::Unknown),
            Verdict::Again => {}
            Verdict::Misplaced(_) => unreachable!("the log stays the same one"),
        }
        self.after(setup, log, round, known);
    }

    /// The step of `settle::settle` after a round, which has left the state after the commit at `known`.
    fn after(&mut self, setup: &Setup, log: &Log, round: Round, known: usize) {
        let attempt = u32::try_from(setup.attempts - self.attempts + 1).expect("a small number");
        match after_round(round, attempt, u32::try_from(setup.attempts).expect("a small number")) {
            After::GoOn => self.round(setup, log, known, false),
            After::CatchUp => {
                let unsettled = self.pending.iter().any(|pending| pending.report.is_none());
                self.step = if unsettled { Step::Reading { known: 0 } } else { Step::Done };
            }
            After::TryAgain => {
                self.attempts -= 1;
                self.step = Step::Reading { known };
            }
            After::LookOnceMore => {
                if setup.variant != Variant::NeverLooksOnceMore {
                    self.settle_repeats(setup, log, log.last());
                }
                for pending in self.pending.iter_mut().filter(|pending| pending.report.is_none()) {
                    let in_log = (1..=log.last())
                        .any(|at| log.at(at).is_some_and(|commit| commit.commands.contains(pending.command)));
                    pending.report = Some(Report::Conflict { in_log });
                }
                self.step = Step::Done;
            }
        }
    }

    fn report(&mut self, commands: Commands, report: Report) {
        let settled = |pending: &&mut Pending| pending.report.is_none() && commands.contains(pending.command);
        for (pending, _) in self.pending.iter_mut().filter(settled).zip(commands.iter()) {
            pending.report = Some(report);
        }
    }

    fn report_first(&mut self, commands: Commands, report: Report) {
        let mut first = Commands::default();
        commands.iter().take(1).for_each(|command| first.push(command));
        self.report(first, report);
    }
}

impl Pending {
    fn is_unfinished(&self) -> bool {
        matches!(self.report, Some(Report::Unknown | Report::Conflict { .. } | Report::Failed))
    }
}

impl Rule {
    /// Whether a command is refused on the state after that many commits and commands.
    fn refuses(self, after: usize, too_late: bool) -> bool {
        match self {
            Self::Upsert => false,
            Self::Create => after > 0,
            Self::Update => after == 0,
            Self::Deadline => too_late,
        }
    }
}

/// `repeats::carried_out`: the commit of a command that was carried out before.
fn carried_out(setup: &Setup, log: &Log, upto: usize, command: char) -> Option<(usize, Commit, Source)> {
    let newest_first = (1..=upto).rev().filter_map(|sequence| Some((sequence, log.at(sequence)?)));
    let commands = newest_first
        .flat_map(|(sequence, commit)| commit.commands.iter().rev().map(move |one| (one, sequence, commit)));
    let (age, (_, sequence, commit)) = commands.enumerate().find(|(_, (one, _, _))| *one == command)?;
    let source = if age < RECENT { Source::Memory } else { Source::Log };
    let knows = match setup.memory {
        Memory::All => true,
        Memory::Recent => source == Source::Memory,
        Memory::Nothing => false,
    };
    knows.then_some((sequence, commit, source))
}

impl Setup {
    /// Whether several callers have the command's id.
    fn is_shared(&self, command: char) -> bool {
        self.clients.iter().flat_map(|(commands, _)| commands.chars()).filter(|one| *one == command).count()
            > 1
    }
}

/// The step after an answer.
fn next(variant: Variant, append: &Append, answer: Answer) -> Next {
    let answer = match answer {
        Answer::Conflict if variant == Variant::ConflictIsFinal => return Next::Done(Outcome::Conflict),
        Answer::Stored(sequence) => Ok(sequence as u64),
        Answer::Conflict => Err(AppendError::Conflict),
        Answer::Busy => Err(AppendError::Busy(error())),
        Answer::Failed => Err(AppendError::Failed(error())),
    };
    after_answer(answer, append.sent)
}

/// The result of the read by `EventStore::next_after`, and the step after it.
fn look(variant: Variant, append: &Append, log: &Log, sight: Sight) -> Next {
    let first = append.commit.expected + 1;
    let place = if variant == Variant::ComparesLast { log.last().max(first) } else { first };
    let seen = log.at(place).filter(|_| sight == Sight::Clear);
    let seen = seen.map(|found| {
        let is_ours = found == append.commit || variant == Variant::BelievesAnyLook;
        Seen { sequence: place as u64, is_ours }
    });
    after_look(Ok(seen), error, append.sent)
}

/// An error of the store; an empty text takes no memory.
fn error() -> StoreError {
    StoreError::Unavailable { what: String::new(), source: None }
}
