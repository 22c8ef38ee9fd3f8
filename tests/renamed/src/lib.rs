//! All four derives in a crate that knows neither `cqrs_core` nor `serde` under these names.

use renamed::{Aggregate, Apply, Command, Context, Envelope, Event, Handle, Handled, Project, Query, View};
use serde_elsewhere::{Deserialize, Serialize};

/// The events of a light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Event)]
#[serde(crate = "serde_elsewhere")]
#[event(prefix = "light", crate = renamed)]
pub enum LightEvent {
    /// It is on, or off.
    Switched {
        /// Whether it is on.
        on: bool,
    },
}

/// A fact with a struct of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Event)]
#[serde(crate = "serde_elsewhere")]
#[event(name = "lamp.broken", crate = renamed)]
pub struct LampBroken {
    /// How long it was in use.
    pub hours: u32,
}

/// Why a light does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is so already")]
pub struct Already;

/// A light.
#[derive(Debug, Default, Clone, Copy, Aggregate)]
#[aggregate(id = u32, event = LightEvent, rejection = Already, commands(Switch, LightCommand), crate = renamed)]
pub struct Light {
    on: bool,
}

impl Apply<LightEvent> for Light {
    fn apply(&mut self, event: &LightEvent) {
        let LightEvent::Switched { on } = event;
        self.on = *on;
    }
}

/// Turns a light on or off.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, Command)]
#[serde(crate = "serde_elsewhere")]
#[command(aggregate = Light, upsert, crate = renamed)]
pub struct Switch {
    /// Which light.
    #[command(id)]
    pub light: u32,
    /// On or off.
    pub on: bool,
}

impl Handle<Switch> for Light {
    fn handle(&self, command: &Switch, _: &Context) -> Handled<Self> {
        if self.on == command.on { Err(Already) } else { Ok(LightEvent::Switched { on: command.on }.into()) }
    }
}

/// The same as an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Command)]
#[serde(crate = "serde_elsewhere")]
#[command(aggregate = Light, suffix = "light", crate = renamed)]
pub enum LightCommand {
    /// Turns it on.
    #[command(create)]
    Install(#[command(id)] u32),
    /// Turns it off.
    Remove {
        /// Which light.
        #[command(id)]
        light: u32,
    },
}

impl Handle<LightCommand> for Light {
    fn handle(&self, command: &LightCommand, _: &Context) -> Handled<Self> {
        let on = matches!(command, LightCommand::Install(_));
        Ok(LightEvent::Switched { on }.into())
    }
}

/// How often a light has been switched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "serde_elsewhere")]
pub struct Usage {
    /// The times.
    pub times: u64,
}

impl View for Usage {
    const NAME: &'static str = "usage";
    type Of = Light;
}

impl Project<LightEvent> for Usage {
    fn key(event: &Envelope<LightEvent>) -> Option<String> {
        Some(event.aggregate.id().to_owned())
    }

    fn project(&mut self, _: &Envelope<LightEvent>) {
        self.times += 1;
    }
}

/// Asks how often a light was switched.
#[derive(Debug, Clone, Copy, Query)]
#[query(view = Usage, answer = Option<Usage>, crate = renamed)]
pub struct GetUsage {
    /// Which light.
    #[query(key)]
    pub light: u32,
}
