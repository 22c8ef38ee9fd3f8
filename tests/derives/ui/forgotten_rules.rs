//! Views, policies and handlers without rules for their aggregates' events, and queries that no view answers: each is
//! reported.

use cqrs_core::{
    Start,
    Aggregate, Apply, Effects, Envelope, Event, EventHandler, HandlerError, On, Policy, Project, React, View,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Serialize, Deserialize, Event)]
#[event(name = "sent")]
struct Sent;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No)]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Sent, rejection = No)]
struct Parcel;

impl Apply<Sent> for Parcel {
    fn apply(&mut self, _: &Sent) {}
}

#[derive(Default, Serialize, Deserialize)]
struct NoProject;

impl View for NoProject {
    const NAME: &'static str = "summary";
    type Of = Order;
}

#[derive(Default, Serialize, Deserialize)]
struct NoReact;

impl Policy for NoReact {
    const NAME: &'static str = "policy";
    const START: Start = Start::Beginning;
    type Of = Order;
}

struct NoOn;

impl EventHandler for NoOn {
    const NAME: &'static str = "handler";
    const START: Start = Start::Beginning;
    type Of = Order;
}

/// Each of these says what it does about one aggregate of two.
#[derive(Default, Serialize, Deserialize)]
struct Half;

impl View for Half {
    const NAME: &'static str = "half";
    type Of = (Order, Parcel);
}

impl Project<Paid> for Half {
    fn project(&mut self, _: &Envelope<Paid>) {}
}

impl Policy for Half {
    const NAME: &'static str = "half";
    const START: Start = Start::Beginning;
    type Of = (Order, Parcel);
}

impl React<Paid> for Half {
    fn react(&mut self, _: &Envelope<Paid>, _: &mut Effects) {}
}

impl EventHandler for Half {
    const NAME: &'static str = "half";
    const START: Start = Start::Beginning;
    type Of = (Order, Parcel);
}

impl On<Paid> for Half {
    async fn on(&self, _: &Envelope<Paid>) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[derive(Default, Serialize, Deserialize)]
struct OfEvents;

impl View for OfEvents {
    const NAME: &'static str = "of-events";
    type Of = Paid;
}

impl Project<Paid> for OfEvents {
    fn project(&mut self, _: &Envelope<Paid>) {}
}

fn main() {}
