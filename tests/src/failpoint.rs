//! Points before and after the calls of the ports. There a test lets the process abort, or wait while the test ends
//! another process.
//!
//! [`Stops`] and [`Sends`] wrap the ports. One point is inside a store's write: the adapter calls
//! [`IN_SAVE`](cqrs_core::__private::IN_SAVE) there. The points do nothing unless the environment variable [`VARIABLE`]
//! arms one when the process starts: `die after-save statement-v1` aborts the process after the first save of that
//! projection, `die in-save generous-v1 2` aborts it during its second save, `wait before-arm` writes a line to standard
//! output before the first deadline is armed, and waits for [`go_on`].
//!
//! An abort ends the process at that instruction: nothing is flushed, dropped or sent after it.

mod ports;

use std::{
    env,
    fmt::Display,
    str::FromStr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use cqrs_core::port::BoxFuture;
use tokio::sync::Notify;

pub use ports::{Sends, Stops};

/// The environment variable that arms a point: `die|wait POINT [SUBJECT|any] [N]`. The action happens at the N-th hit
/// of the point for that subject; at the first hit for any subject if the last two are missing.
pub const VARIABLE: &str = "CQRS_FAILPOINT";

/// The word that a waiting process writes.
pub const REACHED: &str = "reached";

/// Wakes the process that waits at its point.
static GO: Notify = Notify::const_new();

macro_rules! points {
    ($($(#[$docs:meta])+ $point:ident = $name:literal;)+) => {
        /// A point before, after or in a call. It is reached for a subject, such as a projection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[$docs])+ $point,)+
        }

        impl Point {
            /// All points.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name in the environment variable.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// Events were delivered, and nothing is done about them. Subject: the projection.
    AfterNext = "after-next";
    /// The results of events are about to be written together with the checkpoint. Subject: the projection.
    BeforeSave = "before-save";
    /// A store's write is in progress: everything is sent except the commit. Subject: the projection; a store may pass
    /// a longer name that ends with it.
    InSave = "in-save";
    /// Events are written together with the checkpoint. Subject: the projection.
    AfterSave = "after-save";
    /// Events and all that follows from them are written, and the delivery is not acknowledged. Subject: the
    /// projection.
    BeforeAck = "before-ack";
    /// The delivery is acknowledged to the event store. Subject: the projection.
    AfterAck = "after-ack";
    /// An event has failed, and is about to be set aside. Subject: the projection.
    BeforePark = "before-park";
    /// Dead letters are written. Subject: the projection.
    AfterPark = "after-park";
    /// A policy's state and intents are written, and nothing is executed. Subject: the projection.
    BeforeCarryOut = "before-carry-out";
    /// A command of a policy or of a deadline is about to be sent. Subject: the command's name.
    BeforeSend = "before-send";
    /// A command of a policy or of a deadline has its answer. Subject: the command's name.
    AfterSend = "after-send";
    /// A deadline is about to be armed. Subject: the deadline.
    BeforeArm = "before-arm";
    /// A deadline is armed. Subject: the deadline.
    AfterArm = "after-arm";
    /// A deadline is about to be disarmed. Subject: the deadline.
    BeforeDisarm = "before-disarm";
    /// A deadline is disarmed. Subject: the deadline.
    AfterDisarm = "after-disarm";
    /// Intents are executed, and their outcomes are not written. Subject: the projection.
    BeforeSettle = "before-settle";
    /// The outcomes of intents are written. Subject: the projection.
    AfterSettle = "after-settle";
    /// A command's commit is about to be appended. Subject: the aggregate.
    BeforeAppend = "before-append";
    /// A command's commit was appended, and the answer was not handled. Subject: the aggregate.
    AfterAppend = "after-append";
    /// A deadline that is due was delivered, and its command is not sent. Subject: the deadline.
    BeforeDue = "before-due";
    /// The command of a deadline has its answer, and the deadline has not ended. Subject: the deadline.
    AfterDue = "after-due";
    /// The event store was told that a deadline has ended or is delayed. Subject: the deadline.
    AfterDone = "after-done";
    /// A handler is about to handle an event. Subject: the aggregate's id.
    BeforeHandle = "before-handle";
    /// A handler has handled an event, and its progress is not written. Subject: the aggregate's id.
    AfterHandle = "after-handle";
}

/// Acts if `point` is armed for this subject.
///
/// # Panics
///
/// If the environment variable is malformed, or names no point.
///
/// # Cancel safety
///
/// If it is dropped while it waits, the point counts as reached.
pub async fn reached(point: Point, whom: &(impl Display + ?Sized)) {
    if let Some(stop) = stop(point, whom) {
        stop.await;
    }
}

/// Counts a hit of `point`. The action of the armed point is returned at its hit, so that an adapter can flush its
/// connection before.
fn stop(point: Point, whom: &(impl Display + ?Sized)) -> Option<BoxFuture<'static, ()>> {
    let armed = what_is_armed().filter(|armed| armed.concerns(point, whom))?;
    let is_time = armed.passed.fetch_add(1, Ordering::SeqCst) + 1 == armed.time;
    is_time.then(|| -> BoxFuture<'static, ()> { Box::pin(armed.action.happen()) })
}

fn what_is_armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| env::var(VARIABLE).ok().map(|text| read(&text))).as_ref()
}

/// Wakes the process that waits at a point, or that will wait at it.
pub fn go_on() {
    GO.notify_one();
}

/// The armed point.
#[derive(Debug)]
struct Armed {
    action: Action,
    point: Point,
    whom: Option<String>,
    time: u32,
    passed: AtomicU32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Die,
    Wait,
}

impl Action {
    async fn happen(self) {
        match self {
            Self::Die => std::process::abort(),
            Self::Wait => {
                println!("{REACHED}");
                GO.notified().await;
            }
        }
    }
}

impl Armed {
    fn concerns(&self, point: Point, whom: &(impl Display + ?Sized)) -> bool {
        self.point == point && self.whom.as_ref().is_none_or(|end| whom.to_string().ends_with(end))
    }
}

fn read(text: &str) -> Armed {
    text.parse().unwrap_or_else(|()| panic!("{VARIABLE}={text:?} arms nothing that there is"))
}

impl FromStr for Armed {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace();
        let action = match words.next() {
            Some("die") => Action::Die,
            Some("wait") => Action::Wait,
            _ => return Err(()),
        };
        let name = words.next().ok_or(())?;
        let point = *Point::ALL.iter().find(|point| point.name() == name).ok_or(())?;
        let whom = words.next().filter(|whom| *whom != "any").map(str::to_owned);
        let time = words.next().map_or(Ok(1), str::parse).map_err(drop)?;
        Ok(Self { action, point, whom, time, passed: AtomicU32::new(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_armed_by_its_name() {
        let armed: Armed = "die in-save generous-v1 2".parse().unwrap();
        assert_eq!((armed.action, armed.time), (Action::Die, 2));
        assert!(armed.concerns(Point::InSave, "KV_bank__generous-v1"));
        assert!(
            !armed.concerns(Point::InSave, "statement-v1")
                && !armed.concerns(Point::AfterSave, "generous-v1")
        );
        let armed: Armed = "wait before-arm".parse().unwrap();
        assert_eq!((armed.action, armed.time), (Action::Wait, 1));
        assert!(armed.concerns(Point::BeforeArm, "whatever"));
    }

    #[test]
    fn what_is_no_point_arms_nothing() {
        for text in ["", "die", "die never", "sleep in-save", "die in-save any often"] {
            assert!(text.parse::<Armed>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
