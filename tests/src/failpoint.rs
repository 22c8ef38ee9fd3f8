//! Places at which a test lets the process die, or stand still while something else dies.
//!
//! They are the calls of the ports that [`Stops`] and [`Sends`] stand around, and the place within a store's write at
//! which an adapter asks for [`IN_SAVE`](cqrs_core::__private::IN_SAVE). They do nothing unless the environment variable
//! [`VARIABLE`] arms one when the process starts: `die after-save statement-v1` aborts the process where the projection
//! of that name has just been saved for the first time, `die in-save generous-v1 2` within its second save,
//! `wait before-arm` says on standard output that it has come before the first deadline is armed, and goes when it is
//! told to [`go_on`].
//!
//! An abort is the end of the process at that very instruction: nothing is flushed, dropped or sent after it.

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

/// The environment variable that arms a point: `die|wait POINT [SUBJECT|any] [N]`. The action happens at the N-th hit of
/// the point for that subject; at the first hit for any subject if the last two are missing.
pub const VARIABLE: &str = "CQRS_FAILPOINT";

/// What a process says that waits at its point.
pub const REACHED: &str = "reached";

/// Whether what waits may go on.
static GO: Notify = Notify::const_new();

macro_rules! points {
    ($($(#[$docs:meta])+ $point:ident = $name:literal;)+) => {
        /// A place beside a call, and whom it concerns when it is reached.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[$docs])+ $point,)+
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name in the environment.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// Events have come, and nothing is done about them. Whom: the projection.
    AfterNext = "after-next";
    /// What events come to is about to be written, and nothing of it is. Whom: the projection.
    BeforeSave = "before-save";
    /// A store's write is under way: everything is sent but the commit. Whom: the projection, or what ends so.
    InSave = "in-save";
    /// Events are written together with the checkpoint. Whom: the projection.
    AfterSave = "after-save";
    /// Events are written with all that follows from them, and the event store was not told. Whom: the projection.
    BeforeAck = "before-ack";
    /// The event store was told about it. Whom: the projection.
    AfterAck = "after-ack";
    /// An event is known not to work, and is about to be set aside. Whom: the projection.
    BeforePark = "before-park";
    /// Dead letters are written. Whom: the projection.
    AfterPark = "after-park";
    /// A policy's state and intents are written, and nothing is carried out. Whom: the projection.
    BeforeCarryOut = "before-carry-out";
    /// A command is about to be sent, by a policy or for a deadline. Whom: the command's name.
    BeforeSend = "before-send";
    /// A command has its answer, and nobody has seen it. Whom: the command's name.
    AfterSend = "after-send";
    /// A deadline is about to be armed. Whom: the deadline.
    BeforeArm = "before-arm";
    /// A deadline is armed. Whom: the deadline.
    AfterArm = "after-arm";
    /// A deadline is about to be disarmed. Whom: the deadline.
    BeforeDisarm = "before-disarm";
    /// A deadline is disarmed. Whom: the deadline.
    AfterDisarm = "after-disarm";
    /// Intents are carried out, and their end is not written. Whom: the projection.
    BeforeSettle = "before-settle";
    /// The end of intents is written. Whom: the projection.
    AfterSettle = "after-settle";
    /// A command's commit is about to be appended. Whom: the aggregate.
    BeforeAppend = "before-append";
    /// A command's commit was appended, and nobody has seen the answer. Whom: the aggregate.
    AfterAppend = "after-append";
    /// A deadline that is due was handed out, and its command is not sent. Whom: the deadline.
    BeforeDue = "before-due";
    /// The command of a deadline has its answer, and the deadline is not over. Whom: the deadline.
    AfterDue = "after-due";
    /// The event store was told what becomes of a deadline. Whom: the deadline.
    AfterDone = "after-done";
    /// A handler is about to handle an event. Whom: the aggregate's id.
    BeforeHandle = "before-handle";
    /// A handler has handled an event, and its progress is not written. Whom: the aggregate's id.
    AfterHandle = "after-handle";
}

/// The code has come to `point`.
///
/// # Panics
///
/// When the environment arms something that is none of the points.
///
/// # Cancel safety
///
/// Dropped while it waits, it has been reached.
pub async fn reached(point: Point, whom: &(impl Display + ?Sized)) {
    if let Some(stop) = stop(point, whom) {
        stop.await;
    }
}

/// What happens now that the code has come to `point`; none where that is nothing.
fn stop(point: Point, whom: &(impl Display + ?Sized)) -> Option<BoxFuture<'static, ()>> {
    let armed = what_is_armed().filter(|armed| armed.concerns(point, whom))?;
    let is_time = armed.passed.fetch_add(1, Ordering::SeqCst) + 1 == armed.time;
    is_time.then(|| -> BoxFuture<'static, ()> { Box::pin(armed.action.happen()) })
}

fn what_is_armed() -> Option<&'static Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    ARMED.get_or_init(|| env::var(VARIABLE).ok().map(|text| read(&text))).as_ref()
}

/// Lets what waits at a point go on, or what will come to it.
pub fn go_on() {
    GO.notify_one();
}

/// What the environment has armed.
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
