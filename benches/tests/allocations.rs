//! How often a command allocates, beyond its own handler, and how often a query does: numbers that grow only for a reason.

use allocation_counter::{AllocationInfo, measure};
use cqrs_benches::domain::{CreateOrder, GetOrder, Order, OrderSummary, PayOrder, SendParcel};
use cqrs_core::{
    Apply as _, Clock as _, Command, CommandId, Context, Cqrs, Handle, memory::Memory, port::SystemClock,
};
use tokio::runtime::{Builder, Runtime};

/// Enough commands, and queries, that rare allocations, such as of a table that grows, do not count for much.
const COMMANDS: u64 = 2_000;

/// The most allocations of a command of one event on an aggregate in memory. One of them is the future of the append, by
/// which a service does not depend on the type of its store (decision 0079).
const MOST_FOR_ONE_EVENT: f64 = 7.5;

/// The same for a command of three events.
const MOST_FOR_THREE_EVENTS: f64 = 14.5;

/// The most allocations of a query by key, with those of the document.
const MOST_FOR_A_QUERY: f64 = 5.5;

#[test]
fn a_command_of_one_event_allocates_no_more_than_it_did() {
    let extra = extra(PayOrder::usual);
    println!("{extra:.2} allocations per command of one event, over the handler's own");
    assert!(extra <= MOST_FOR_ONE_EVENT, "{extra:.2} allocations, not {MOST_FOR_ONE_EVENT}");
}

#[test]
fn a_command_of_three_events_allocates_no_more_than_it_did() {
    let extra = extra(SendParcel::usual);
    println!("{extra:.2} allocations per command of three events, over the handler's own");
    assert!(extra <= MOST_FOR_THREE_EVENTS, "{extra:.2} allocations, not {MOST_FOR_THREE_EVENTS}");
}

#[test]
fn a_query_by_key_allocates_no_more_than_it_did() {
    let runtime = runtime();
    let (cqrs, receipt) = runtime.block_on(async {
        let builder = Cqrs::builder(Memory::default()).aggregate::<Order>().view::<OrderSummary>();
        let cqrs = builder.start().await.expect("it starts");
        let receipt = cqrs.execute(CreateOrder::usual(1)).await.expect("a new order");
        cqrs.caught_up().await.expect("the view has it");
        (cqrs, receipt)
    });
    let queries = |number| {
        runtime.block_on(async {
            for _ in 0..number {
                let order = cqrs.query(GetOrder { order: 1 }).after(&receipt).await.expect("an answer");
                assert!(order.is_some());
            }
        });
    };
    queries(1_000);
    let each =
        count(measure(|| queries(COMMANDS))) / f64::from(u32::try_from(COMMANDS).expect("not that many"));
    println!("{each:.2} allocations per query by key");
    assert!(each <= MOST_FOR_A_QUERY, "{each:.2} allocations, not {MOST_FOR_A_QUERY}");
}

/// The allocations of a command in the service, without those of making the command, handling it and applying its
/// events.
fn extra<C>(command: fn(u64) -> C) -> f64
where
    C: Command<Aggregate = Order>,
    Order: Handle<C>,
{
    let whole = in_the_service(command);
    let own = by_hand(command);
    (count(whole) - count(own)) / f64::from(u32::try_from(COMMANDS).expect("not that many"))
}

fn in_the_service<C>(command: fn(u64) -> C) -> AllocationInfo
where
    C: Command<Aggregate = Order>,
    Order: Handle<C>,
{
    let runtime = runtime();
    let cqrs = runtime.block_on(async {
        let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().start().await.expect("it starts");
        cqrs.execute(CreateOrder::usual(1)).await.expect("a new order");
        cqrs
    });
    let commands = |number| {
        runtime.block_on(async {
            for _ in 0..number {
                cqrs.execute(command(1)).await.expect("it is not refused");
            }
        });
    };
    // An aggregate that remembers the maximum number of commands.
    commands(1_000);
    measure(|| commands(COMMANDS))
}

fn by_hand<C>(command: fn(u64) -> C) -> AllocationInfo
where
    C: Command<Aggregate = Order>,
    Order: Handle<C>,
{
    let mut order = Order::default();
    let context = Context::new(CommandId::new(), SystemClock.now());
    measure(|| {
        for _ in 0..COMMANDS {
            let events = order.handle(&command(1), &context).expect("it is not refused");
            events.iter().for_each(|event| order.apply(event));
        }
    })
}

/// Allocations are counted on this thread only.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[expect(clippy::cast_precision_loss, reason = "far below what a double holds exactly")]
fn count(info: AllocationInfo) -> f64 {
    info.count_total as f64
}
