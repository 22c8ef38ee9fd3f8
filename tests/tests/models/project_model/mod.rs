//! A model of the projection protocol whose every state is visited: each event is in the view once, whatever is slow or
//! lost and whichever process dies, and each step of the protocol is necessary.
//!
//! It models `Projector::supervise`, `follow` and `save` in `cqrs-core/src/projector/projector.rs`, `NatsSubscription`
//! and `consumer_at` in `cqrs-nats/src/events/subscription/consumer.rs`, and the comparisons of `KvViews::save` in
//! `cqrs-nats/src/views/mod.rs`. They are written here a second time, under their own names: a change of one is a
//! change of the other. `tests/tests/sql/instances.rs` runs the real ones.
//!
//! - [`store`] is the bucket of the view: documents, dead letters and checkpoint, written together.
//! - [`consumer`] is the durable consumer: it numbers its deliveries, and pins one worker at a time.
//! - [`worker`] is a process that projects, and restarts.
//! - [`model`] has all possible actions, and the properties.
//!
//! *Parking*: an event that cannot be applied becomes a dead letter of its aggregate, with all later ones of the
//! aggregate, in the write that saves the checkpoint; a retry by an operator applies the first of them, in a write that
//! replaces the checkpoint by the same one. *Own consumer*: a subscription ends with the consumer on which it was
//! opened, and no worker takes over a consumer that another created in between.
//!
//! Left out: that a stopped worker loses its pin, which is a crash after which the pin ends; that a save covers a part
//! of the deliveries; the view of another log. Times are left out too: a pin may end at any moment. To make the number
//! of states finite, the model limits how often a worker crashes, how often a delivery is repeated, and how often an
//! operator retries.

mod consumer;
mod model;
mod store;
mod worker;

use crate::{breaks, holds};
use model::{AGAIN, BEHIND, BOTH, CAUGHT_UP, EXACT, FORWARD, LATE, ONCE, ORDERED, ORPHANED, PARKED, RETRIED};

/// The parameters of a check: the log, the workers, and the limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    variant: Variant,
    /// The events in order: the letter of their aggregate, a capital if they cannot be applied at first; `-` is an
    /// event of another type.
    log: &'static str,
    /// How many of them there are at the start.
    appended: usize,
    /// How often each worker may crash.
    crashes: &'static [usize],
    /// How often a delivery may be repeated.
    redeliveries: usize,
    /// How often an operator retries dead letters.
    retries: usize,
    /// How many deliveries may wait at a worker.
    inbox: usize,
    /// Whether a lagging replica may answer reads of documents.
    lags: bool,
    /// Whether each state is checked for whether one worker reaches the end from there.
    recovers: bool,
}

/// The protocol, or the protocol with one step left out or done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    AsWritten,
    /// A subscription outlives its consumer: it gets the deliveries of the next one of that name.
    FollowsTheName,
    /// A worker that creates a consumer takes one that another has created in between, at its position.
    JoinsAnothers,
    /// A save replaces any content.
    ComparesNothing,
    /// A save compares the checkpoint's revision and not those of the documents.
    ComparesNoDocuments,
    /// The checkpoint is saved in a write of its own, before the documents.
    CheckpointFirst,
    /// The checkpoint is saved in a write of its own, after the documents.
    CheckpointLast,
    /// A gap in the numbers of the deliveries does not end the subscription.
    IgnoresGaps,
    /// An event that was seen before is folded again.
    FoldsAgain,
    /// An existing consumer is created again after its last acknowledgment.
    ResumesAtAckFloor,
    /// A save without an answer is sent again unchanged, until there is an answer. This variant is sound.
    SendsAgain,
    /// As before; if the stored content differs, it is replaced by the content in memory.
    RefreshesRevisions,
    /// An event after a dead letter of its aggregate is applied.
    ParksOne,
    /// Dead letters are saved in a write of their own, before the rest.
    ParksBefore,
    /// Dead letters are saved in a write of their own, after the rest.
    ParksAfter,
    /// A retry does not change the checkpoint's revision.
    RetriesBeside,
    /// A worker that starts again uses the dead letters from before.
    RemembersLetters,
    /// A worker that starts reads the dead letters before the checkpoint.
    ReadsLettersFirst,
    /// The dead letters are read whenever documents are, from the same replica.
    ReadsLettersWithDocuments,
}

const BASE: Setup = Setup {
    variant: Variant::AsWritten,
    log: "a-ba",
    appended: 3,
    crashes: &[1],
    redeliveries: 1,
    retries: 0,
    inbox: 2,
    lags: false,
    recovers: true,
};

/// A lagging replica may answer reads of documents.
const REPLICAS: Setup = Setup { lags: true, redeliveries: 0, ..BASE };
const TWO: Setup = Setup { log: "aa", appended: 2, crashes: &[0, 0], redeliveries: 0, inbox: 1, ..BASE };
const PARKING: Setup = Setup { log: "Aba", crashes: &[0], redeliveries: 0, retries: 2, ..BASE };

/// Larger, and not checked for recovery, to limit the time.
const THREE_EVENTS: Setup = Setup { log: "aaa", appended: 3, inbox: 2, recovers: false, ..TWO };
const FOUR_EVENTS: Setup = Setup { log: "Aaba", recovers: false, ..PARKING };

#[test]
fn a_worker_that_crashes_goes_on_from_the_checkpoint() {
    holds(BASE, &[CAUGHT_UP, LATE, AGAIN]);
}

#[test]
fn documents_from_a_replica_that_lags_change_nothing() {
    holds(REPLICAS, &[CAUGHT_UP, LATE]);
}

#[test]
fn two_workers_do_not_disturb_each_other() {
    holds(TWO, &[CAUGHT_UP, LATE, BOTH, ORPHANED]);
}

#[test]
fn two_workers_follow_a_log_that_grows() {
    holds(Setup { log: "a-b", recovers: false, ..TWO }, &[CAUGHT_UP, LATE, BOTH, ORPHANED]);
}

#[test]
fn a_worker_takes_over_from_one_that_crashed() {
    let mortal = Setup { crashes: &[1, 0], recovers: false, ..TWO };
    holds(mortal, &[CAUGHT_UP, LATE, BOTH, ORPHANED]);
}

#[test]
fn what_cannot_be_applied_is_parked_and_can_be_retried() {
    holds(PARKING, &[CAUGHT_UP, LATE, PARKED, RETRIED]);
    holds(Setup { lags: true, ..PARKING }, &[CAUGHT_UP, LATE, PARKED, RETRIED]);
    let mortal = Setup { crashes: &[1], retries: 1, recovers: false, ..PARKING };
    holds(mortal, &[CAUGHT_UP, LATE, PARKED, RETRIED]);
}

#[test]
fn the_same_save_may_be_sent_again() {
    holds(Setup { variant: Variant::SendsAgain, ..BASE }, &[CAUGHT_UP, LATE, AGAIN]);
}

#[test]
fn each_step_that_is_left_out_breaks_a_promise() {
    let left_out = [
        (Variant::ComparesNothing, BASE, ONCE),
        (Variant::ComparesNothing, BASE, FORWARD),
        (Variant::ComparesNoDocuments, REPLICAS, EXACT),
        (Variant::CheckpointFirst, BASE, ORDERED),
        (Variant::CheckpointLast, BASE, ONCE),
        (Variant::IgnoresGaps, BASE, ORDERED),
        (Variant::FoldsAgain, BASE, ONCE),
        (Variant::ResumesAtAckFloor, BASE, ONCE),
        (Variant::RefreshesRevisions, THREE_EVENTS, ONCE),
    ];
    for (variant, setup, property) in left_out {
        breaks(Setup { variant, recovers: false, ..setup }, property);
    }
}

// The numbers of deliveries of two consumers cannot be compared: another worker may have received as many from the
// second one as this one from the first, and died before it saved anything.
#[test]
fn a_subscription_that_outlives_its_consumer_skips_events() {
    breaks(Setup { variant: Variant::FollowsTheName, ..THREE_EVENTS }, ORDERED);
    breaks(Setup { variant: Variant::FollowsTheName, ..THREE_EVENTS }, EXACT);
}

// The consumer may have delivered its last messages to a worker that has died since.
#[test]
fn a_worker_that_takes_over_a_consumer_made_in_between_skips_events() {
    breaks(Setup { variant: Variant::JoinsAnothers, recovers: false, ..TWO }, ORDERED);
    breaks(Setup { variant: Variant::JoinsAnothers, recovers: false, ..TWO }, EXACT);
}

#[test]
fn each_step_of_parking_that_is_left_out_breaks_a_promise() {
    let left_out = [
        (Variant::ParksOne, BEHIND),
        (Variant::ParksBefore, ONCE),
        (Variant::ParksAfter, ORDERED),
        (Variant::RetriesBeside, ONCE),
        (Variant::RemembersLetters, BEHIND),
        (Variant::RemembersLetters, ONCE),
        (Variant::ReadsLettersFirst, BEHIND),
        (Variant::ReadsLettersFirst, ONCE),
    ];
    for (variant, property) in left_out {
        breaks(Setup { variant, ..FOUR_EVENTS }, property);
    }
}

// The document of an aggregate with dead letters does not change, so its revision shows nothing. The dead letters are
// read from the leader, or known from the last save.
#[test]
fn dead_letters_are_not_read_from_a_replica_that_lags() {
    let reads = Setup { variant: Variant::ReadsLettersWithDocuments, ..FOUR_EVENTS };
    breaks(Setup { lags: true, ..reads }, BEHIND);
    holds(Setup { log: "Aba", ..reads }, &[CAUGHT_UP, PARKED]);
}

#[test]
#[ignore = "a million states and more; for a change of the protocol, with --release"]
fn larger_bounds_show_nothing_new() {
    let larger = [
        Setup { inbox: 2, ..TWO },
        Setup { crashes: &[1, 1], ..TWO },
        Setup { redeliveries: 1, ..TWO },
        Setup { log: "Aa", retries: 1, ..TWO },
        Setup { inbox: 1, ..THREE_EVENTS },
        Setup { log: "aaba", redeliveries: 2, ..BASE },
        Setup { crashes: &[1], redeliveries: 1, ..FOUR_EVENTS },
    ];
    for setup in larger {
        holds(setup, &[CAUGHT_UP, LATE]);
    }
}
