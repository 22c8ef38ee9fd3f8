//! Logs written while a command is handled or an event projected carry their ids.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cqrs_core::{
    Aggregate, Apply, Command, Context, CorrelationId, Cqrs, Envelope, Event, Handle, Handled, Project, View,
    memory::Memory,
};
use cqrs_tests::lines::Lines;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "lamp.lit")]
struct Lit;

#[derive(Debug, thiserror::Error)]
enum Never {}

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Lit, rejection = Never)]
struct Lamp;

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Lamp, upsert)]
struct Light(#[command(id)] u32);

impl Apply<Lit> for Lamp {
    fn apply(&mut self, _: &Lit) {}
}

impl Handle<Light> for Lamp {
    fn handle(&self, _: &Light, _: &Context) -> Handled<Self> {
        tracing::info!("handling");
        Ok(Lit.into())
    }
}

impl View for Lamp {
    const NAME: &'static str = "lamps";
    type Of = Lamp;
}

impl Project<Lit> for Lamp {
    fn project(&mut self, _: &Envelope<Lit>) {
        tracing::info!("projecting");
    }
}

#[tokio::test]
async fn spans_carry_the_ids() {
    let lines = Lines::default();
    let _guard = lines.collect();

    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Lamp>().view::<Lamp>().start().await.unwrap();
    let correlation: CorrelationId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
    let receipt = cqrs.execute(Light(7)).correlation(correlation).await.unwrap();
    cqrs.caught_up().await.unwrap();

    let text = lines.text();
    for (what, also) in
        [("handling", "execute{command=\"light\""), ("projecting", "project{projection=lamps-v1}")]
    {
        let line = text.lines().find(|line| line.ends_with(what)).unwrap_or_else(|| panic!("{what}: {text}"));
        let command = format!("command_id={}", receipt.command_id);
        let correlation = format!("correlation_id={correlation}");
        for part in [also, "aggregate=\"lamp\"", "id=", &command, &correlation] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}
