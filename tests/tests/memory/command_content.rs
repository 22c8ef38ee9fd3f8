//! The content of a command decides whether it is the same command, not the form in which it is written.

use std::collections::{HashMap, HashSet};

use cqrs_core::{
    Aggregate, Apply, Command, CommandError, CommandId, Context, Cqrs, Error, Event, Events, Handle,
    Metadata,
    by_name::{CommandMessage, RouteError, Router},
    memory::Memory,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "shelf")]
enum ShelfEvent {
    Filled { pieces: u32 },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = ShelfEvent, rejection = Never, commands(Fill, Weigh))]
struct Shelf {
    pieces: u32,
}

#[derive(Debug, thiserror::Error)]
enum Never {}

/// Its tables have no order: each one is iterated in a different order.
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

/// It has a list, and an array, whose places have a meaning.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Shelf, upsert)]
struct Stack {
    #[command(id)]
    shelf: u32,
    kinds: Vec<String>,
    size: [u32; 2],
    label: Option<String>,
}

impl Handle<Stack> for Shelf {
    fn handle(&self, command: &Stack, _: &Context) -> Result<Events<ShelfEvent>, Never> {
        let pieces = u32::try_from(command.kinds.len()).unwrap_or(u32::MAX);
        Ok(ShelfEvent::Filled { pieces }.into())
    }
}

/// It has numbers whose JSON text differs from that of most programs.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Shelf, upsert)]
struct Weigh {
    #[command(id)]
    shelf: u32,
    kilograms: f64,
    exactly: Endless,
}

/// From any JSON but `null`, it is read without end.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

impl Handle<Weigh> for Shelf {
    fn handle(&self, _: &Weigh, _: &Context) -> Result<Events<ShelfEvent>, Never> {
        Ok(ShelfEvent::Filled { pieces: 0 }.into())
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

#[tokio::test]
async fn the_order_of_a_list_does_not_make_another_command_and_that_of_an_array_does() {
    let service = Cqrs::builder(Memory::default()).aggregate::<Shelf>().start().await.unwrap();
    let id = CommandId::derived(["stack"]);
    let stack =
        |kinds: [&str; 2], size| Stack { shelf: 1, kinds: kinds.map(String::from).into(), size, label: None };
    let first = service.execute(stack(["cups", "plates"], [1, 2])).id(id).await.unwrap();
    let metadata = Metadata::try_from([("user", "anna")]).unwrap();
    let again = service.execute(stack(["plates", "cups"], [1, 2])).id(id).metadata(metadata).await.unwrap();
    assert_eq!((again.repeat, again.position), (true, first.position));
    let labelled = Stack { label: Some("cups".into()), ..stack(["cups", "plates"], [1, 2]) };
    for other in [stack(["cups", "plates"], [2, 1]), stack(["cups", "cups"], [1, 2]), labelled] {
        let shown = format!("{other:?}");
        let error = service.execute(other).id(id).await.unwrap_err();
        assert!(matches!(error, CommandError::Failed(Error::AnotherCommand { .. })), "{shown}: {error}");
    }
}

/// Without care, JSON changes a fifth of all numbers to a neighbouring one.
#[tokio::test]
async fn a_command_with_any_number_is_the_same_when_it_comes_by_name() {
    let service = Cqrs::builder(Memory::default()).aggregate::<Shelf>().start().await.unwrap();
    let router = Router::new(service.clone());
    // Some of the numbers are in every power of two.
    for number in (0..2_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
        let kilograms = f64::from_bits(number);
        if !kilograms.is_finite() {
            continue;
        }
        let command = Weigh { shelf: 1, kilograms, exactly: Endless(None) };
        let id = CommandId::derived([number.to_string()]);
        let body = serde_json::to_vec(&command).unwrap().into();
        service.execute(command).id(id).await.unwrap();
        let message = CommandMessage { id: Some(id), body, ..CommandMessage::default() };
        assert!(router.execute("weigh", message).await.unwrap().repeat, "{kilograms}");
    }
}

#[tokio::test]
async fn a_command_that_is_read_without_end_is_refused() {
    let service = Cqrs::builder(Memory::default()).aggregate::<Shelf>().start().await.unwrap();
    let router = Router::new(service);
    let body = br#"{"shelf":1,"kilograms":1.5,"exactly":1}"#.as_slice().into();
    let error =
        router.execute("weigh", CommandMessage { body, ..CommandMessage::default() }).await.unwrap_err();
    assert!(matches!(&error, RouteError::BadBody { reason, .. } if reason.contains("too deep")), "{error}");
}
