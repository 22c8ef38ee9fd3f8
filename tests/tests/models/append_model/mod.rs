//! A model of the append protocol whose every state is visited: no command is lost, doubled or misreported, whatever is
//! slow or lost, and each step of the protocol is necessary.
//!
//! The model runs the decisions of the product: the step after an answer, the outcome of an append, the answers to its
//! commands and the next step (`write/append/decisions.rs` and `write/settle/decisions.rs` in cqrs-core) are functions
//! without input and output. Their callers wait for real stores, so the model has a second version of them: of the loop
//! in `append::append`, of `settle::settle` and `settle::round`, and of `repeats::carried_out`, which finds a command that
//! was carried out before. `tests/tests/memory/faults.rs` runs the real ones.
//!
//! - [`server`] is the stream: one server or three. It knows no message ids.
//! - [`client`] is a process that carries out one command, or two that wait together.
//! - [`model`] has all possible actions, and the properties.
//!
//! A command that creates decides on an empty state without reading; here it is a command whose first read shows
//! nothing yet. Left out are the read of the leader after a conflict, which only leads to fewer conflicts, and that the
//! log may become another one, which ends the protocol (`tests/tests/server/replaced.rs`). Times are left out too: each
//! wait may last for ever. To make the number of states finite, the model limits how often a message is sent, a command
//! is decided, and a caller sends it again.

mod client;
mod model;
mod server;

use model::{
    ALL_SUCCEED, CONFLICT, CONFLICT_OF_ANOTHER, CONFLICTS, CONTIGUOUS, CREATED_ONCE, LATE, NEVER, OLDER,
    ONCE, RECEIPTS, REFUSALS, REFUSED, REPEATED, RESOLVED, TOGETHER, UNKNOWN,
};
use server::Replicas;

/// The parameters of a check: the commands, the server, and the limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    variant: Variant,
    replicas: Replicas,
    /// The commands of each process, and how often their callers send them. The same letter is the same
    /// command id.
    clients: &'static [(&'static str, usize)],
    rule: Rule,
    /// How often one execution decides.
    attempts: usize,
    /// How often one commit is sent.
    sends: usize,
    memory: Memory,
}

/// Which of an aggregate's commands are known when one is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// All: the last ones with their receipts, the others by what leads to their commits.
    All,
    /// Only the last ones.
    Recent,
    Nothing,
}

/// The protocol, or the protocol with one step left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    AsWritten,
    /// A missing answer counts as a conflict: the command is decided again, with new event ids.
    TimeoutIsFailure,
    /// As before, unless one read right after the timeout finds the commit.
    ReadsOnceAfterTimeout,
    /// A conflict after an unclear attempt is final, without a look at the commit in that place.
    ConflictIsFinal,
    /// Any other error after an unclear attempt is final.
    FailureIsFinal,
    /// The look compares the last commit, not the first after the expected one.
    ComparesLast,
    /// The look takes any commit in that place for the one that was sent.
    BelievesAnyLook,
    /// A refusal on a state that may be stale is not confirmed.
    RefusesUnconfirmed,
    /// The same command twice in one queue is decided twice in one commit.
    TakesTwinsTogether,
    /// A command that lost to other writers too often is not looked for before it fails with a conflict.
    NeverLooksOnceMore,
    /// Appends carry no expectation.
    ExpectsNothing,
}

/// When a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Upsert,
    /// If the aggregate has an event already.
    Create,
    /// If the aggregate has no event yet; it has one from the start.
    Update,
    /// After a deadline, which can be any time.
    Deadline,
}

const BASE: Setup = Setup {
    variant: Variant::AsWritten,
    replicas: Replicas::One,
    clients: &[("a", 2), ("b", 1)],
    rule: Rule::Upsert,
    attempts: 2,
    sends: 2,
    memory: Memory::All,
};

/// The append by itself: no caller sends a command again, and the aggregate remembers no commands.
const ALONE: Setup = Setup { clients: &[("a", 1), ("b", 1)], sends: 3, memory: Memory::Nothing, ..BASE };

const TWO_SENDERS_OF_ONE_COMMAND: Setup = Setup { clients: &[("a", 2), ("a", 1)], ..BASE };
const UPDATES: Setup = Setup { rule: Rule::Update, ..TWO_SENDERS_OF_ONE_COMMAND };
const CREATORS: Setup = Setup { rule: Rule::Create, ..BASE };
const TWINS: Setup = Setup { clients: &[("aa", 1), ("b", 1)], ..BASE };
const THREE: Setup = Setup { clients: &[("a", 1), ("a", 1), ("b", 1)], ..BASE };
/// Other commands may come between a command and its repeat.
const LONG_AGO: Setup = Setup { clients: &[("a", 2), ("bc", 1)], ..BASE };

#[test]
fn two_writers_neither_lose_nor_double_a_command() {
    holds(BASE, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, OLDER, UNKNOWN]);
    holds(Setup { attempts: 1, ..BASE }, &[CONFLICT]);
}

#[test]
fn a_command_sent_by_two_processes_takes_effect_once() {
    holds(TWO_SENDERS_OF_ONE_COMMAND, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, UNKNOWN]);
}

#[test]
fn an_aggregate_has_one_creator() {
    holds(CREATORS, &[LATE, RESOLVED, REPEATED, REFUSED, UNKNOWN]);
    let together = Setup { clients: &[("ab", 1), ("c", 1)], ..CREATORS };
    holds(together, &[LATE, RESOLVED, REFUSED, UNKNOWN]);
}

#[test]
fn an_old_state_leads_to_no_wrong_refusal() {
    holds(UPDATES, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, UNKNOWN]);
}

#[test]
fn commands_that_share_a_commit_take_effect_once_each() {
    let repeated_elsewhere = Setup { clients: &[("ac", 1), ("c", 1)], ..BASE };
    holds(repeated_elsewhere, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, TOGETHER, UNKNOWN]);
    holds(TWINS, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, UNKNOWN]);
}

#[test]
fn a_third_writer_changes_nothing() {
    holds(THREE, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, UNKNOWN]);
}

#[test]
fn one_append_never_stores_a_command_twice_even_if_nothing_is_remembered() {
    holds(ALONE, &[ALL_SUCCEED, LATE, RESOLVED, UNKNOWN]);
}

#[test]
fn a_command_of_long_ago_takes_effect_once() {
    holds(LONG_AGO, &[ALL_SUCCEED, LATE, RESOLVED, REPEATED, OLDER, TOGETHER, UNKNOWN]);
}

#[test]
fn a_command_that_is_forgotten_takes_effect_again() {
    breaks(Setup { memory: Memory::Recent, ..LONG_AGO }, ONCE);
    breaks(Setup { memory: Memory::Recent, ..BASE }, ONCE);
    breaks(Setup { memory: Memory::Nothing, ..TWO_SENDERS_OF_ONE_COMMAND }, ONCE);
}

#[test]
fn each_step_that_is_left_out_breaks_a_promise() {
    let left_out = [
        (Variant::TimeoutIsFailure, BASE, NEVER),
        (Variant::TimeoutIsFailure, ALONE, ONCE),
        (Variant::ReadsOnceAfterTimeout, BASE, NEVER),
        (Variant::ReadsOnceAfterTimeout, ALONE, ONCE),
        (Variant::ConflictIsFinal, BASE, NEVER),
        (Variant::ConflictIsFinal, ALONE, ONCE),
        (Variant::FailureIsFinal, BASE, NEVER),
        (Variant::ComparesLast, BASE, NEVER),
        (Variant::ComparesLast, ALONE, ONCE),
        (Variant::BelievesAnyLook, BASE, RECEIPTS),
        (Variant::RefusesUnconfirmed, UPDATES, REFUSALS),
        (Variant::TakesTwinsTogether, TWINS, ONCE),
        (Variant::NeverLooksOnceMore, Setup { attempts: 1, ..TWO_SENDERS_OF_ONE_COMMAND }, CONFLICTS),
        (Variant::ExpectsNothing, BASE, CONTIGUOUS),
        (Variant::ExpectsNothing, CREATORS, CREATED_ONCE),
    ];
    for (variant, setup, property) in left_out {
        breaks(Setup { variant, ..setup }, property);
    }
}

// It says nothing about an earlier attempt with an unknown outcome, whose message may still be in flight.
#[test]
fn a_refusal_by_the_clock_is_only_about_the_send_that_it_answers() {
    let sent_once = Setup { clients: &[("a", 1)], rule: Rule::Deadline, ..BASE };
    holds(sent_once, &[ALL_SUCCEED, LATE, RESOLVED, REFUSED, UNKNOWN]);
    breaks(Setup { clients: &[("a", 2)], ..sent_once }, REFUSALS);
}

#[test]
fn a_conflict_is_only_about_the_send_that_it_answers() {
    let sent_twice = Setup { clients: &[("a", 2)], attempts: 1, ..BASE };
    holds_on(Replicas::Three, sent_twice, &[CONFLICT_OF_ANOTHER]);
    // One server has the commit that it compares with, so the command is found there.
    holds_on(Replicas::One, sent_twice, &[]);
}

#[test]
#[ignore = "millions of states; for a change of the protocol, with --release"]
fn larger_bounds_show_nothing_new() {
    let larger = [
        Setup { clients: &[("a", 2), ("b", 2)], attempts: 3, sends: 3, ..BASE },
        Setup { clients: &[("a", 3), ("a", 3)], attempts: 3, sends: 3, ..BASE },
        Setup { clients: &[("a", 2), ("b", 2)], rule: Rule::Update, ..BASE },
        Setup { clients: &[("ac", 2), ("c", 2)], ..BASE },
        Setup { clients: &[("ac", 1), ("ca", 1)], attempts: 3, ..BASE },
        Setup { clients: &[("a", 1), ("b", 1), ("c", 1)], ..ALONE },
        Setup { attempts: 3, ..THREE },
    ];
    for setup in larger {
        holds(setup, &[LATE, RESOLVED, UNKNOWN]);
    }
}

/// All properties hold, on one server and on three, and `reached` is reached.
fn holds(setup: Setup, reached: &[&'static str]) {
    holds_on(Replicas::One, setup, reached);
    holds_on(Replicas::Three, setup, reached);
}

fn holds_on(replicas: Replicas, setup: Setup, reached: &[&'static str]) {
    super::holds(Setup { replicas, ..setup }, reached);
}

/// There is a counterexample to `property`, on one server and on three.
fn breaks(setup: Setup, property: &'static str) {
    breaks_on(Replicas::One, setup, property);
    breaks_on(Replicas::Three, setup, property);
}

fn breaks_on(replicas: Replicas, setup: Setup, property: &'static str) {
    super::breaks(Setup { replicas, ..setup }, property);
}
