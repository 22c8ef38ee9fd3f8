//! The checker finds each kind of violation, and none in a correct history.

use std::time::Duration;

use cqrs_core::{CommandId, log::Position};
use cqrs_tests::history::{Call, Entry, Kind, Outcome, Refusal, Request, Stored, check, story};

const ACCOUNT: &str = "1";

fn id(name: &str) -> CommandId {
    CommandId::derived([name])
}

fn call(start: u64, end: u64, outcome: Outcome) -> Call {
    Call { start: Duration::from_secs(start), end: Duration::from_secs(end), outcome }
}

fn entry(name: &str, request: Request, calls: impl Into<Vec<Call>>) -> Entry {
    Entry { id: id(name), account: ACCOUNT.into(), request, calls: calls.into() }
}

fn done(version: u64, sequence: u64, events: usize) -> Outcome {
    let index = u32::try_from(events - 1).unwrap();
    Outcome::Done { version, events, position: Position { sequence, index }, repeat: false }
}

fn unknown() -> Outcome {
    Outcome::Unknown("?".into())
}

fn stored(sequence: u64, first_version: u64, commands: &[(&str, Request)]) -> Stored {
    let of_one = |(name, request): &(&str, Request)| {
        let id = id(name);
        request.events().into_iter().map(move |event| (id, event))
    };
    let events = commands.iter().flat_map(of_one).collect();
    Stored { account: ACCOUNT.into(), sequence, first_version, events }
}

/// An opening, a deposit with an unknown outcome that is stored, a withdrawal, a rejected one, and a failed one.
fn right() -> (Vec<Entry>, Vec<Stored>) {
    let history = vec![
        entry("open", Request::Open(5), [call(0, 1, done(2, 10, 2))]),
        entry("deposit", Request::Deposit(3), [call(2, 3, unknown())]),
        entry("withdraw", Request::Withdraw(8), [call(4, 5, done(4, 12, 1))]),
        entry("too much", Request::Withdraw(1), [call(6, 7, Outcome::Refused(Refusal::Insufficient(0)))]),
        entry("failed", Request::Deposit(1), [call(8, 9, Outcome::Failed("!".into()))]),
        entry("lost", Request::Deposit(1), [call(8, 9, unknown()), call(9, 9, Outcome::Failed("!".into()))]),
    ];
    let log = vec![
        stored(10, 1, &[("open", Request::Open(5))]),
        stored(11, 3, &[("deposit", Request::Deposit(3))]),
        stored(12, 4, &[("withdraw", Request::Withdraw(8))]),
    ];
    (history, log)
}

/// The kinds of violation after a change of the correct history.
fn kinds(change: impl FnOnce(&mut Vec<Entry>, &mut Vec<Stored>)) -> Vec<Kind> {
    let (mut history, mut log) = right();
    change(&mut history, &mut log);
    let mut kinds: Vec<Kind> = check(&history, &log).into_iter().map(|violation| violation.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn what_is_right_is_right() {
    assert_eq!(kinds(|_, _| {}), []);
    // A command that failed after a call with an unknown outcome may be stored.
    assert_eq!(kinds(|_, log| log.push(stored(13, 5, &[("lost", Request::Deposit(1))]))), []);
    // A command with an unknown outcome may be missing, as a whole.
    let without_deposit = |history: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        log.truncate(1);
        history.truncate(2);
    };
    assert_eq!(kinds(without_deposit), []);
    // Several commands share a commit.
    let shared = |history: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        log.truncate(1);
        log.push(stored(12, 3, &[("deposit", Request::Deposit(3)), ("withdraw", Request::Withdraw(8))]));
        let position = Position { sequence: 12, index: 1 };
        history[2].calls[0].outcome = Outcome::Done { version: 4, events: 1, position, repeat: false };
    };
    assert_eq!(kinds(shared), []);
}

#[test]
fn a_command_with_a_receipt_that_is_not_in_the_log() {
    assert_eq!(kinds(|_, log| drop(log.pop())), [Kind::Lost, Kind::WrongRefusal]);
}

#[test]
fn a_command_at_another_place_than_its_receipt_says() {
    for wrong in [done(5, 12, 1), done(4, 13, 1), done(4, 12, 2)] {
        assert_eq!(kinds(|history, _| history[2].calls[0].outcome = wrong), [Kind::Misplaced]);
    }
}

#[test]
fn a_command_that_is_there_twice() {
    let twice = |_: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        log.push(stored(13, 5, &[("deposit", Request::Deposit(3))]));
    };
    assert_eq!(kinds(twice), [Kind::Doubled]);
}

#[test]
fn a_refused_or_failed_command_that_is_in_the_log() {
    assert_eq!(kinds(|_, log| log.push(stored(13, 5, &[("failed", Request::Deposit(1))]))), [Kind::Unwanted]);
    let refused = |history: &mut Vec<Entry>, _: &mut Vec<Stored>| {
        history[1].calls[0].outcome = Outcome::Refused(Refusal::Missing);
    };
    assert_eq!(kinds(refused), [Kind::Unwanted, Kind::WrongRefusal]);
}

#[test]
fn a_command_that_nobody_sent() {
    let foreign = |_: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        log.push(stored(13, 5, &[("nobody's", Request::Deposit(1))]));
    };
    assert_eq!(kinds(foreign), [Kind::Foreign]);
}

#[test]
fn a_command_of_which_a_part_is_there_or_something_else() {
    let part = |history: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        history.truncate(1);
        history[0].calls[0].outcome = unknown();
        log.truncate(1);
        log[0].events.pop();
    };
    assert_eq!(kinds(part), [Kind::Torn]);
    assert_eq!(kinds(|_, log| log[1].events[0].1.push('!')), [Kind::Torn]);
}

#[test]
fn versions_or_sequences_that_do_not_follow_each_other() {
    let skipped = |history: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        log[2].first_version = 5;
        history[2].calls[0].outcome = done(5, 12, 1);
    };
    assert_eq!(kinds(skipped), [Kind::Gap]);
    assert_eq!(kinds(|_, log| log[1].sequence = 10), [Kind::Gap]);
}

#[test]
fn a_command_that_ended_before_another_began_and_comes_after_it() {
    let late = |history: &mut Vec<Entry>, _: &mut Vec<Stored>| {
        history[0].calls[0] = call(6, 7, done(2, 10, 2));
    };
    assert_eq!(kinds(late), [Kind::Order]);
}

#[test]
fn a_command_that_the_account_had_to_refuse() {
    let overdrawn = |history: &mut Vec<Entry>, log: &mut Vec<Stored>| {
        history[2].request = Request::Withdraw(9);
        log[2] = stored(12, 4, &[("withdraw", Request::Withdraw(9))]);
        history.truncate(3);
    };
    assert_eq!(kinds(overdrawn), [Kind::Unlawful]);
}

#[test]
fn a_refusal_that_no_state_during_the_call_explains() {
    for stale in [Refusal::Missing, Refusal::Insufficient(5)] {
        assert_eq!(
            kinds(|history, _| history[3].calls[0].outcome = Outcome::Refused(stale)),
            [Kind::WrongRefusal]
        );
    }
    // The same is correct when the call began before the state had changed.
    let early = |history: &mut Vec<Entry>, _: &mut Vec<Stored>| {
        history[3].request = Request::Withdraw(6);
        history[3].calls[0] = call(0, 7, Outcome::Refused(Refusal::Insufficient(5)));
    };
    assert_eq!(kinds(early), []);
}

#[test]
fn a_story_tells_both_sides() {
    let (history, log) = right();
    let story = story(ACCOUNT, &history, &log);
    assert_eq!(story.lines().filter(|line| line.contains("called")).count(), history.len());
    assert_eq!(story.lines().filter(|line| line.contains("stored")).count(), log.len());
}
