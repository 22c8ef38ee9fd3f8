//! The steps at which a process dies.

use std::fmt;

use cqrs_tests::failpoint::Point;

/// The stores that have a step.
pub(crate) const ON_KV: u8 = 1;
pub(crate) const ON_DATABASE: u8 = 2;
pub(crate) const ON_MEMORY: u8 = 4;
/// Events and views in one file.
pub(crate) const IN_FILE: u8 = 8;

const WITH_ROWS: u8 = ON_DATABASE | IN_FILE;
const DURABLE: u8 = ON_KV | WITH_ROWS;
const ALL: u8 = DURABLE | ON_MEMORY;

/// At which hit of the failpoint the process dies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) point: Point,
    pub(crate) whom: &'static str,
    pub(crate) time: u32,
    on: u8,
}

const fn step(point: Point, whom: &'static str, time: u32, on: u8) -> Step {
    Step { point, whom, time, on }
}

const STEPS: &[Step] = &[
    // A view of documents.
    step(Point::BeforeSave, "statement-v1", 1, ALL),
    step(Point::InSave, "statement-v1", 1, DURABLE),
    step(Point::AfterSave, "statement-v1", 1, ALL),
    step(Point::AfterAck, "statement-v1", 1, ALL),
    // Events that a view sets aside.
    step(Point::BeforePark, "picky-v1", 1, ALL),
    step(Point::InSave, "picky-v1", 1, DURABLE),
    step(Point::AfterPark, "picky-v1", 1, ALL),
    // A view in tables of its own.
    step(Point::BeforeSave, "rows-v1", 1, WITH_ROWS),
    step(Point::InSave, "rows-v1", 1, WITH_ROWS),
    step(Point::AfterSave, "rows-v1", 1, WITH_ROWS),
    step(Point::AfterAck, "rows-v1", 1, WITH_ROWS),
    // A policy: its intents are saved and executed, and their outcomes are saved; then the intents that follow from a
    // refusal.
    step(Point::AfterNext, "generous-v1", 1, ALL),
    step(Point::BeforePark, "generous-v1", 1, ALL),
    step(Point::InSave, "generous-v1", 1, DURABLE),
    step(Point::AfterPark, "generous-v1", 1, ALL),
    step(Point::BeforeCarryOut, "generous-v1", 1, ALL),
    step(Point::BeforeSend, "deposit", 1, ALL),
    step(Point::BeforeAppend, "account/expires", 1, ALL),
    step(Point::InSave, "account/expires", 1, IN_FILE),
    step(Point::AfterAppend, "account/expires", 1, ALL),
    step(Point::AfterSend, "deposit", 3, ALL),
    step(Point::BeforeArm, "nine/expires", 1, ALL),
    step(Point::AfterArm, "nine/expires", 1, ALL),
    step(Point::BeforeDisarm, "nine/disarmed", 1, ALL),
    step(Point::AfterDisarm, "nine/disarmed", 1, ALL),
    step(Point::BeforeSettle, "generous-v1", 1, ALL),
    step(Point::InSave, "generous-v1", 2, DURABLE),
    step(Point::AfterSettle, "generous-v1", 1, ALL),
    step(Point::AfterSend, "withdraw", 1, ALL),
    step(Point::BeforeSettle, "generous-v1", 2, ALL),
    step(Point::InSave, "generous-v1", 3, DURABLE),
    step(Point::BeforeAck, "generous-v1", 1, ALL),
    step(Point::AfterAck, "generous-v1", 1, ALL),
    // A deadline that is due.
    step(Point::BeforeDue, "nine/expires", 1, ALL),
    step(Point::AfterDue, "nine/expires", 1, ALL),
    step(Point::AfterDone, "nine/expires", 1, ALL),
    // A handler.
    step(Point::BeforeHandle, "any", 4, ALL),
    step(Point::AfterHandle, "any", 4, ALL),
    step(Point::InSave, "notary-v1", 1, DURABLE),
    step(Point::AfterSave, "notary-v1", 1, ALL),
];

/// The steps on a kind of store.
pub(crate) fn steps(on: u8) -> Vec<Step> {
    STEPS.iter().filter(|step| step.on & on != 0).copied().collect()
}

/// The steps that the environment selects.
pub(crate) fn chosen(on: u8) -> Vec<Step> {
    let wanted = std::env::var("CRASH_STEP").ok();
    let is_wanted = |step: &Step| wanted.as_ref().is_none_or(|wanted| step.to_string().starts_with(wanted));
    steps(on).into_iter().filter(is_wanted).collect()
}

pub(crate) fn points_without_a_step() -> Vec<Point> {
    let is_met = |point: &Point| STEPS.iter().any(|step| step.point == *point);
    Point::ALL.iter().filter(|point| !is_met(point)).copied().collect()
}

impl fmt::Display for Step {
    /// As an environment variable of the worker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.point.name(), self.whom, self.time)
    }
}
