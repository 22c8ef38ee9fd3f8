//! The contract for stores of deadlines.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    contract::{HOSTILE, LONG, opened, soon},
    port::{
        clock::{Clock, SystemClock},
        deadlines::{Deadline, Deadlines, Due, DueQueue},
    },
};

/// Far enough ahead for the steps of a case before it.
const AHEAD: Duration = Duration::from_secs(2);

/// So far ahead that it is not due while a case runs.
const FAR: Duration = Duration::from_secs(3_600);

fn deadline(id: &str, at: Timestamp, order: u64) -> Deadline {
    let payload = format!("{id} {order}").into();
    Deadline { id: id.to_owned(), at, payload, order, arming: Uuid::new_v4() }
}

fn ahead(by: Duration) -> Timestamp {
    SystemClock.now() + by
}

/// A deadline that is due at once.
fn past(id: &str, order: u64) -> Deadline {
    deadline(id, Timestamp::UNIX_EPOCH, order)
}

async fn arm<D: Deadlines>(store: &D, deadline: &Deadline) {
    store.arm(deadline).await.expect("arming");
}

/// Waits for the next deadline; a queue may end at any time, and is then opened again.
async fn next<D: Deadlines>(store: &D, queue: &mut D::Queue) -> Due {
    soon("a deadline", async {
        loop {
            match queue.next().await {
                Ok(due) => return due,
                Err(error) if error.is_transient() => *queue = due(store).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

async fn due<D: Deadlines>(store: &D) -> D::Queue {
    opened("a queue", || store.due(Arc::new(SystemClock))).await
}

/// The next deadline must be this one; ends it.
async fn expect<D: Deadlines>(store: &D, queue: &mut D::Queue, expected: &Deadline) {
    let due = next(store, queue).await;
    assert_eq!((due.id(), due.payload()), (expected.id.as_str(), &expected.payload));
    due.done().await.expect("done");
}

/// It is delivered on time, with its payload.
pub async fn a_deadline_comes_when_it_is_due_and_not_before<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    store.prepare().await.expect("the same place");
    let mut queue = due(store).await;
    let later = deadline("later", ahead(AHEAD + Duration::from_millis(500)), 1);
    let sooner = deadline("sooner", ahead(AHEAD), 1);
    arm(store, &later).await;
    arm(store, &sooner).await;
    expect(store, &mut queue, &sooner).await;
    assert!(SystemClock.now() >= sooner.at);
    expect(store, &mut queue, &later).await;
    assert!(SystemClock.now() >= later.at);
}

/// However long ago.
pub async fn a_time_that_is_past_has_come<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    for at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, SystemClock.now()] {
        let armed = deadline("past", at, 1);
        arm(store, &armed).await;
        expect(store, &mut due(store).await, &armed).await;
    }
    // The largest time is in the future.
    arm(store, &deadline("never", Timestamp::MAX, 1)).await;
    let marker = past("marker", 1);
    arm(store, &marker).await;
    expect(store, &mut due(store).await, &marker).await;
}

/// The next delivery is the next armed deadline.
pub async fn a_disarmed_deadline_does_not_come<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    store.disarm("unknown", 1).await.expect("nothing to do");
    arm(store, &deadline("disarmed", ahead(AHEAD), 1)).await;
    let kept = deadline("kept", ahead(AHEAD + Duration::from_millis(500)), 1);
    arm(store, &kept).await;
    store.disarm("disarmed", 2).await.expect("disarming");
    store.disarm("disarmed", 2).await.expect("disarming again");
    expect(store, &mut due(store).await, &kept).await;
    // A disarmed deadline can be armed again.
    let again = past("disarmed", 3);
    arm(store, &again).await;
    expect(store, &mut due(store).await, &again).await;
}

/// As long as no receiver has it.
pub async fn a_deadline_that_is_due_can_be_disarmed<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    // When the second is delivered, the first is due as well.
    let [first, second] = [past("first", 1), past("second", 1)];
    arm(store, &first).await;
    arm(store, &second).await;
    let mut queue = due(store).await;
    let handed_out = next(store, &mut queue).await;
    handed_out.later(Duration::ZERO).await.expect("later");
    drop(queue);
    store.disarm("first", 2).await.expect("disarming");
    store.disarm("second", 2).await.expect("disarming");
    let marker = past("marker", 1);
    arm(store, &marker).await;
    let mut queue = due(store).await;
    loop {
        // Deadlines that the first queue had taken may be delivered once more.
        let due = next(store, &mut queue).await;
        let id = due.id().to_owned();
        due.done().await.expect("done");
        if id == "marker" {
            break;
        }
    }
    let last = past("last", 1);
    arm(store, &last).await;
    expect(store, &mut queue, &last).await;
}

/// The newer one replaces the older: at an earlier time, at a later time, and when the older one is already due.
pub async fn armed_again_it_comes_once_with_what_is_newest<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    arm(store, &deadline("put off", ahead(AHEAD), 1)).await;
    arm(store, &deadline("put forward", ahead(AHEAD * 10), 1)).await;
    arm(store, &past("due", 1)).await;
    let off = deadline("put off", ahead(AHEAD + Duration::from_millis(500)), 2);
    let forward = deadline("put forward", ahead(AHEAD), 2);
    let again = past("due", 2);
    for armed in [&off, &forward, &again] {
        arm(store, armed).await;
    }
    let mut queue = due(store).await;
    for armed in [&again, &forward, &off] {
        expect(store, &mut queue, armed).await;
    }
}

/// At any moment around the one at which the older one becomes due.
pub async fn armed_again_as_it_becomes_due_it_comes_once<D: Deadlines>(store: &D) {
    const MANY: u64 = 100;
    store.prepare().await.expect("the place");
    join_all((0..MANY).map(|number| async move {
        let id = number.to_string();
        arm(store, &past(&id, 1)).await;
        tokio::time::sleep(Duration::from_millis(number * 5)).await;
        arm(store, &past(&id, 2)).await;
    }))
    .await;
    let mut queue = due(store).await;
    let mut expected: BTreeSet<_> = (0..MANY).map(|number| number.to_string()).collect();
    while !expected.is_empty() {
        let due = next(store, &mut queue).await;
        assert_eq!(due.payload(), format!("{} 2", due.id()).as_bytes());
        assert!(expected.remove(due.id()), "{:?} came twice", due.id());
        due.done().await.expect("done");
    }
}

/// A service arms again whenever the answer is lost.
pub async fn the_same_arming_is_armed_once<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let armed = past("once", 1);
    arm(store, &armed).await;
    arm(store, &armed).await;
    let mut queue = due(store).await;
    expect(store, &mut queue, &armed).await;
    let marker = past("marker", 1);
    arm(store, &marker).await;
    expect(store, &mut queue, &marker).await;
}

/// A late call with an earlier decision.
pub async fn what_is_older_undoes_nothing<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let newer = deadline("ordered", ahead(AHEAD), 5);
    arm(store, &newer).await;
    store.disarm("ordered", 4).await.expect("disarming");
    arm(store, &past("ordered", 4)).await;
    expect(store, &mut due(store).await, &newer).await;
}

/// Every text is an id of its own.
pub async fn no_id_reaches_another<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    for id in HOSTILE {
        arm(store, &deadline(id, ahead(AHEAD), 1)).await;
    }
    for id in ["*", ">", "a.b"] {
        store.disarm(id, 2).await.expect("disarming");
    }
    let mut queue = due(store).await;
    let mut expected: BTreeSet<_> =
        HOSTILE.into_iter().filter(|id| !["*", ">", "a.b"].contains(id)).collect();
    while !expected.is_empty() {
        let due = next(store, &mut queue).await;
        assert!(expected.remove(due.id()), "{:?} came, expected are {expected:?}", due.id());
        assert_eq!(due.payload(), format!("{} 1", due.id()).as_bytes());
        due.done().await.expect("done");
    }
}

/// Until a receiver calls `done`; after a crash the deadline is as before.
pub async fn what_is_not_done_comes_again<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let armed = past("again", 1);
    arm(store, &armed).await;
    let mut queue = due(store).await;
    next(store, &mut queue).await.later(Duration::from_millis(10)).await.expect("later");
    drop(next(store, &mut queue).await);
    drop(queue);
    let mut queue = due(store).await;
    expect(store, &mut queue, &armed).await;
    let marker = past("marker", 1);
    arm(store, &marker).await;
    expect(store, &mut queue, &marker).await;
}

/// Several instances of a service share the deadlines.
pub async fn of_those_who_wait_one_gets_it<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let (mut first, mut second) = (due(store).await, due(store).await);
    let mut expected: BTreeSet<_> = (0..20).map(|number| number.to_string()).collect();
    for id in &expected {
        arm(store, &past(id, 1)).await;
    }
    while !expected.is_empty() {
        let due = soon("a deadline", async {
            tokio::select! {
                due = first.next() => due,
                due = second.next() => due,
            }
        });
        let Ok(due) = due.await else { continue };
        assert!(expected.remove(due.id()), "{:?} came twice", due.id());
        due.done().await.expect("done");
    }
}

/// However long the receiver takes: it is alive.
pub async fn whoever_holds_a_deadline_keeps_it<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let [first, second] = [past("first", 1), past("second", 1)];
    arm(store, &first).await;
    let held = next(store, &mut due(store).await).await;
    let mut others = due(store).await;
    let other = tokio::time::timeout(LONG, next(store, &mut others)).await;
    assert!(other.is_err(), "{other:?} came while somebody had it");
    held.done().await.expect("done");
    arm(store, &second).await;
    expect(store, &mut others, &second).await;
}

/// A deadline that is disarmed or armed again is not delivered any more, also if it is delayed before or afterwards.
pub async fn what_comes_again_later_says_how_often<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let armed = past("again", 1);
    arm(store, &armed).await;
    let mut queue = due(store).await;
    for times in 0..3 {
        let due = next(store, &mut queue).await;
        assert_eq!((due.put_off(), due.payload()), (times, &armed.payload));
        due.later(Duration::from_millis(10)).await.expect("later");
    }
    next(store, &mut queue).await.later(FAR).await.expect("later");
    let newer = past("again", 2);
    arm(store, &newer).await;
    let due = next(store, &mut queue).await;
    assert_eq!(
        (due.put_off(), due.payload()),
        (0, &newer.payload),
        "armed again, it begins from the beginning"
    );
    let newest = deadline("again", ahead(AHEAD), 3);
    arm(store, &newest).await;
    due.later(Duration::ZERO).await.expect("later");
    expect(store, &mut queue, &newest).await;

    arm(store, &past("disarmed", 1)).await;
    next(store, &mut queue).await.later(Duration::from_secs(1)).await.expect("later");
    store.disarm("disarmed", 2).await.expect("disarming");
    arm(store, &past("disarmed too", 1)).await;
    let due = next(store, &mut queue).await;
    store.disarm("disarmed too", 2).await.expect("disarming");
    due.later(Duration::ZERO).await.expect("later");
    let marker = deadline("marker", ahead(AHEAD), 1);
    arm(store, &marker).await;
    expect(store, &mut queue, &marker).await;
}

/// More deadlines than any store delivers at once.
pub async fn those_that_come_again_later_hold_up_no_others<D: Deadlines>(store: &D) {
    const MANY: usize = 1_100;
    store.prepare().await.expect("the place");
    let mut queue = due(store).await;
    for number in 0..MANY {
        arm(store, &past(&format!("late {number}"), 1)).await;
    }
    let mut late = BTreeSet::new();
    while late.len() < MANY {
        let due = next(store, &mut queue).await;
        late.insert(due.id().to_owned());
        due.later(FAR).await.expect("later");
    }
    let marker = past("marker", 1);
    arm(store, &marker).await;
    expect(store, &mut queue, &marker).await;
}

/// Whichever of the two calls the store receives first.
pub async fn what_is_armed_while_it_is_disarmed_comes<D: Deadlines>(store: &D) {
    store.prepare().await.expect("the place");
    let mut queue = due(store).await;
    for number in 0..50 {
        let id = number.to_string();
        arm(store, &deadline(&id, ahead(FAR), 1)).await;
        let newer = past(&id, 2);
        let ((), disarmed) = tokio::join!(arm(store, &newer), store.disarm(&id, 1));
        disarmed.expect("disarming");
        expect(store, &mut queue, &newer).await;
    }
}

/// Also while a receiver has it.
pub async fn what_is_due_is_counted_until_it_is_done_or_delayed<D: Deadlines>(store: &D) {
    let counted = async |expected: u64| {
        soon(&format!("a count of {expected}"), async {
            while store.overdue(SystemClock.now()).await.expect("a number") != expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    };
    store.prepare().await.expect("the place");
    counted(0).await;
    let mut queue = due(store).await;
    arm(store, &deadline("far", ahead(FAR), 1)).await;
    for id in ["done", "delayed"] {
        arm(store, &past(id, 1)).await;
    }
    counted(2).await;
    for left in [1, 0] {
        let due = next(store, &mut queue).await;
        assert_eq!(store.overdue(SystemClock.now()).await.expect("a number"), left + 1, "a receiver has it");
        match due.id() {
            "delayed" => due.later(FAR).await.expect("later"),
            _ => due.done().await.expect("done"),
        }
        counted(left).await;
    }
}
