//! All possible actions, and the properties.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::{
    Memory, Rule, Setup, Variant,
    client::{Client, Message, Report, Sight, Source, Step},
    server::{Answer, Commands, Commit, Log, Replicas, Stored},
};

pub(crate) const ONCE: &str = "no command takes effect twice";
pub(crate) const RECEIPTS: &str = "a receipt tells where its commit is";
pub(crate) const NEVER: &str = "what was called not stored is never stored";
pub(crate) const CONTIGUOUS: &str = "versions are contiguous";
pub(crate) const REFUSALS: &str = "a refused command has no effect";
pub(crate) const CONFLICTS: &str = "a command that is in the log is not called a conflict";
pub(crate) const CREATED_ONCE: &str = "an aggregate is created once";

pub(crate) const ALL_SUCCEED: &str = "every client gets a receipt";
pub(crate) const LATE: &str = "a message is stored after its sender stopped waiting for it";
pub(crate) const RESOLVED: &str = "an ambiguous append turns out to be stored";
pub(crate) const REPEATED: &str = "a repeat gets the first receipt from the last ones in memory";
pub(crate) const OLDER: &str = "a repeat of long ago gets the first receipt from the log";
pub(crate) const TOGETHER: &str = "two commands share a commit";
pub(crate) const REFUSED: &str = "a command is refused";
pub(crate) const CONFLICT: &str = "a caller is told of a conflict";
pub(crate) const CONFLICT_OF_ANOTHER: &str =
    "a caller is told of a conflict, and an earlier send took effect";
pub(crate) const UNKNOWN: &str = "a caller is told that the outcome is unknown";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    log: Log,
    clients: Vec<Client>,
    /// Messages whose sender waits no more, and which may still arrive. A message that never arrives is a lost one. A
    /// set is enough: once a commit is stored, its expectation excludes its other copies.
    late: BTreeSet<Commit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client reads the log up to a sequence, and sends what it decides.
    Read {
        client: usize,
        upto: usize,
        too_late: bool,
    },
    /// The message for which a client waits reaches the server.
    Arrive {
        client: usize,
    },
    /// The server does not store it, and the client sees this answer. (If the client does not see it, the message might
    /// as well have been lost.)
    Decline {
        client: usize,
        answer: Answer,
    },
    ArriveLate(Commit),
    Take {
        client: usize,
        sight: Sight,
    },
    /// A client stops waiting: the message or its answer is lost or slow.
    TimeOut {
        client: usize,
    },
    SendAgain {
        client: usize,
    },
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let clients = self.clients.iter().enumerate();
        let clients = clients
            .map(|(number, (commands, executions))| Client::new(self, number, commands, *executions))
            .collect();
        let mut log = Log::default();
        if self.rule == Rule::Update {
            log.commits.push(Stored { commit: opening(), late: false });
        }
        vec![State { log, clients, late: BTreeSet::new() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for client in &state.clients {
            self.actions_of(client, &state.log, actions);
        }
        let storable = state.late.iter().filter(|commit| self.is_storable(**commit, &state.log));
        actions.extend(storable.map(|commit| Action::ArriveLate(*commit)));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        let State { log, clients, late } = &mut state;
        match action {
            Action::Read { client, upto, too_late } => clients[client].round(self, log, upto, too_late),
            Action::Arrive { client } => self.arrive(&mut clients[client], log),
            Action::Decline { client, answer } => clients[client].take(self, log, answer, Sight::Clear),
            Action::ArriveLate(commit) => {
                log.append(Stored { commit, late: true }, self.expects());
                late.remove(&commit);
            }
            Action::Take { client, sight } => {
                let client = &mut clients[client];
                let answer = client.answer().expect("only a client with an answer takes it");
                client.take(self, log, answer, sight);
            }
            Action::TimeOut { client } => {
                late.extend(clients[client].on_the_way());
                clients[client].time_out(self, log);
            }
            Action::SendAgain { client } => clients[client].send_again(self),
        }
        // A message that can never be stored any more counts as lost.
        late.retain(|commit| !self.is_dead(*commit, log));
        for client in clients {
            client.disowned.retain(|commit| log.contains(*commit) || late.contains(commit));
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = must_hold();
        properties.extend(must_happen());
        properties
    }
}

impl Setup {
    fn expects(&self) -> bool {
        self.variant != Variant::ExpectsNothing
    }

    fn is_storable(&self, commit: Commit, log: &Log) -> bool {
        matches!(log.verdict(commit, self.expects()), Answer::Stored(_))
    }

    fn is_dead(&self, commit: Commit, log: &Log) -> bool {
        self.expects() && commit.expected != log.last()
    }

    /// The answers that a server may give to any append.
    fn declining_answers(&self) -> &'static [Answer] {
        match self.replicas {
            Replicas::One => &[Answer::Busy, Answer::Failed],
            // A deposed leader that does not know it compares with an old log.
            Replicas::Three => &[Answer::Busy, Answer::Failed, Answer::Conflict],
        }
    }

    fn actions_of(&self, client: &Client, log: &Log, actions: &mut Vec<Action>) {
        let number = client.number;
        match client.step {
            Step::Reading { known } => {
                // A replica may lag, and the first attempt may use the state in the process's memory.
                let may_be_old = self.replicas == Replicas::Three || client.is_first_attempt(self);
                let least = if may_be_old { known } else { log.last() };
                let times: &[bool] = if self.rule == Rule::Deadline { &[false, true] } else { &[false] };
                for upto in least..=log.last() {
                    let read = |too_late: &bool| Action::Read { client: number, upto, too_late: *too_late };
                    actions.extend(times.iter().map(read));
                }
            }
            Step::Appending(append) => {
                actions.push(Action::TimeOut { client: number });
                match append.message {
                    Message::OnTheWay => {
                        actions.push(Action::Arrive { client: number });
                        let declined = |answer: &Answer| Action::Decline { client: number, answer: *answer };
                        actions.extend(self.declining_answers().iter().map(declined));
                    }
                    Message::Answered(answer) => {
                        actions.push(Action::Take { client: number, sight: Sight::Clear });
                        if Client::would_look(self, &append, answer) {
                            actions.push(Action::Take { client: number, sight: Sight::Nothing });
                        }
                    }
                }
            }
            Step::Done if client.may_send_again() => actions.push(Action::SendAgain { client: number }),
            Step::Done => {}
        }
    }

    fn arrive(&self, client: &mut Client, log: &mut Log) {
        let Step::Appending(append) = &mut client.step else { unreachable!("only who waits has sent") };
        let stored = Stored { commit: append.commit, late: false };
        append.message = Message::Answered(log.append(stored, self.expects()));
    }
}

impl Client {
    fn answer(&self) -> Option<Answer> {
        match self.step {
            Step::Appending(append) => match append.message {
                Message::Answered(answer) => Some(answer),
                Message::OnTheWay => None,
            },
            _ => None,
        }
    }

    /// The commit that has been sent and has not reached the server.
    fn on_the_way(&self) -> Option<Commit> {
        match self.step {
            Step::Appending(append) if append.message == Message::OnTheWay => Some(append.commit),
            _ => None,
        }
    }
}

impl State {
    fn commits(&self) -> impl Iterator<Item = Commit> {
        self.log.commits.iter().map(|stored| stored.commit)
    }

    fn effects(&self, command: char) -> usize {
        self.commits().flat_map(|commit| commit.commands.iter()).filter(|one| *one == command).count()
    }

    /// The answers to callers, with the client and the command of each.
    fn reports(&self) -> impl Iterator<Item = (&Client, char, Report)> {
        self.clients.iter().flat_map(|client| {
            let pending = client.pending.iter();
            pending.filter_map(move |pending| Some((client, pending.command, pending.report?)))
        })
    }

    fn is_reported(&self, wanted: impl Fn(Report) -> bool) -> bool {
        self.reports().any(|(_, _, report)| wanted(report))
    }

    fn any_receipt_from(&self, wanted: Source) -> bool {
        self.reports()
            .any(|(_, _, report)| matches!(report, Report::Receipt { source, .. } if source == wanted))
    }

    /// A receipt names a commit with the command's events, of the client's own or, if it is a repeat, of any client,
    /// and that commit is at that position. Any other report is no receipt.
    fn is_true(&self, client: &Client, command: char, report: Report) -> bool {
        let Report::Receipt { commit, sequence, source } = report else { return true };
        let repeat = matches!(source, Source::Memory | Source::Log);
        self.log.at(sequence) == Some(commit)
            && commit.commands.contains(command)
            && (repeat || commit.client == client.number)
    }

    fn is_contiguous(&self) -> bool {
        let mut next = 1;
        self.commits().all(|commit| {
            let expected = std::mem::replace(&mut next, commit.last_version() + 1);
            commit.first_version == expected
        })
    }
}

fn is_conflict(report: Report) -> bool {
    matches!(report, Report::Conflict { .. })
}

/// The commit of an aggregate that exists from the start.
fn opening() -> Commit {
    let mut commands = Commands::default();
    commands.push('o');
    Commit { client: usize::MAX, decision: 1, commands, expected: 0, first_version: 1, events: 2 }
}

fn must_hold() -> Vec<Property<Setup>> {
    vec![
        Property::always(ONCE, |setup: &Setup, state: &State| {
            let mut commands = setup.clients.iter().flat_map(|(commands, _)| commands.chars());
            commands.all(|command| state.effects(command) <= 1)
        }),
        Property::always(RECEIPTS, |_, state: &State| {
            state.reports().all(|(client, command, report)| state.is_true(client, command, report))
        }),
        Property::always(NEVER, |_, state: &State| {
            let mut disowned = state.clients.iter().flat_map(|client| &client.disowned);
            !disowned.any(|commit| state.log.contains(*commit))
        }),
        Property::always(CONTIGUOUS, |_, state: &State| state.is_contiguous()),
        Property::always(REFUSALS, |_, state: &State| {
            let mut reports = state.reports();
            reports.all(|(_, command, report)| report != Report::Refused || state.effects(command) == 0)
        }),
        Property::always(CONFLICTS, |setup: &Setup, state: &State| {
            // A command that is not remembered is not found.
            let found = |report| report == Report::Conflict { in_log: true };
            setup.memory != Memory::All || !state.is_reported(found)
        }),
        Property::always(CREATED_ONCE, |setup: &Setup, state: &State| {
            setup.rule != Rule::Create || state.log.last() <= 1
        }),
    ]
}

/// Without these, a model in which nothing happens would pass.
fn must_happen() -> Vec<Property<Setup>> {
    vec![
        Property::sometimes(ALL_SUCCEED, |_, state: &State| {
            let mut pending = state.clients.iter().flat_map(|client| &client.pending);
            pending.all(|pending| matches!(pending.report, Some(Report::Receipt { .. })))
        }),
        Property::sometimes(LATE, |_, state: &State| state.log.commits.iter().any(|stored| stored.late)),
        Property::sometimes(RESOLVED, |_, state: &State| state.any_receipt_from(Source::Look)),
        Property::sometimes(REPEATED, |_, state: &State| state.any_receipt_from(Source::Memory)),
        Property::sometimes(OLDER, |_, state: &State| state.any_receipt_from(Source::Log)),
        Property::sometimes(TOGETHER, |_, state: &State| {
            state.commits().any(|commit| commit.commands.count() > 1)
        }),
        Property::sometimes(REFUSED, |_, state: &State| {
            state.is_reported(|report| report == Report::Refused)
        }),
        Property::sometimes(CONFLICT, |_, state: &State| state.is_reported(is_conflict)),
        Property::sometimes(CONFLICT_OF_ANOTHER, |_, state: &State| {
            let mut reports = state.reports();
            reports.any(|(_, command, report)| is_conflict(report) && state.effects(command) > 0)
        }),
        Property::sometimes(UNKNOWN, |_, state: &State| {
            state.is_reported(|report| report == Report::Unknown)
        }),
    ]
}
