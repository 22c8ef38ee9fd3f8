//! What makes a command the same command: what it says, not how it happens to be written down.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};

use cqrs_core::{
    Aggregate, Apply, Command, CommandError, CommandId, Context, Cqrs, Error, Event, Events, Handle,
    memory::Memory,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "shelf")]
enum ShelfEvent {
    Filled { pieces: u32 },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = ShelfEvent, rejection = Never, commands(Fill))]
struct Shelf {
    pieces: u32,
}

#[derive(Debug, thiserror::Error)]
enum Never {}

/// Its tables have no order: each one is walked through in an order of its own.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Shelf, upsert)]
struct Fill {
    #[command(id)]
    shelf: u32,
    pieces: HashMap<String, u32>,
    colours: HashSet<String>,
}

impl Apply<ShelfEvent> for Shelf {
    fn apply(&mut self, ShelfEvent::Filled { pieces }: &ShelfEvent) {
        self.pieces += pieces;
    }
}

impl Handle<Fill> for Shelf {
    fn handle(&self, command: &Fill, _: &Context) -> Result<Events<ShelfEvent>, Never> {
        Ok(ShelfEvent::Filled { pieces: command.pieces.values().sum() }.into())
    }
}

fn fill(kinds: u32) -> Fill {
    let texts = || (0..kinds).map(|kind| kind.to_string());
    Fill { shelf: 1, pieces: texts().zip(1..).collect(), colours: texts().collect() }
}

#[tokio::test]
async fn a_command_with_hash_tables_is_the_same_when_it_is_sent_again() {
    let service = Cqrs::builder(Memory::default()).aggregate::<Shelf>().start().await.unwrap();
    let id = CommandId::derived(["fill"]);
    let first = service.execute(fill(50)).id(id).await.unwrap();
    for _ in 0..10 {
        let again = service.execute(fill(50)).id(id).await.unwrap();
        assert_eq!((again.repeat, again.position), (true, first.position));
    }
    let another = service.execute(fill(49)).id(id).await.unwrap_err();
    assert!(matches!(another, CommandError::Failed(Error::AnotherCommand { .. })), "{another}");
}
