//! The core alone, on memory.

use std::{
    borrow::Cow,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cqrs_benches::domain::{CreateOrder, Order, PayOrder};
use cqrs_core::{
    Aggregate as _, AggregateKey, Apply as _, Backend as _, Clock as _, CommandId, Context, CorrelationId,
    Event as _, EventId, Handle as _, Metadata,
    log::{Commit, JSON, Origin, RecordedEvent},
    memory::Memory,
    port::{EventStore as _, Expected, SystemClock},
};

use crate::{
    cli::Options,
    report::{Goal, Group, Line, Unit},
    rounds::{Contender, as_f64, in_turn},
    server::{orders, place, resident},
    workloads::loads::milliseconds_each,
};

/// How many orders a process keeps to measure the memory of one.
const KEPT: u64 = 100_000;

/// How many commands are measured together, because reading the clock takes time.
const AT_ONCE: u64 = 100;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let service = Contender::new("command of one event on memory", Unit::Microseconds, in_the_service);
    let by_hand = Contender::new("of which the handler's own", Unit::Microseconds, by_hand);
    let least =
        Contender::new("the least, by hand: ids, JSON, append to the memory", Unit::Microseconds, the_least);
    let mut lines = in_turn(options, vec![service, by_hand, least]).await?;
    let [whole, own, least] = &lines[..] else { anyhow::bail!("three contenders") };
    let over = |line: &Line| line.rounds.iter().zip(&own.rounds).map(|(line, own)| line - own).collect();
    let extra = Line::new("command, over the handler's own", Unit::Microseconds, over(whole));
    let needed = Line::new("the least, over the handler's own", Unit::Microseconds, over(least));
    lines.extend([extra.beside(&needed, None).goal(Goal::AtMost(1.2)), needed]);
    let (kept, none) = (grown_by(KEPT)?, grown_by(0)?);
    let each = (as_f64(kept) - as_f64(none)) / as_f64(KEPT);
    lines.push(Line::new("memory of an aggregate that is kept, one event old", Unit::Bytes, vec![each]));
    let setting = "one task, everything in this process's memory; no server".to_owned();
    Ok(Group { title: "The core alone".to_owned(), setting, lines })
}

async fn in_the_service(time: Duration) -> Result<f64> {
    // A new one each time, because the memory keeps all events.
    let service = orders(Memory::default(), 10).await?;
    place(&service, [1]).await?;
    let milliseconds = milliseconds_each(time, || async {
        for _ in 0..AT_ONCE {
            service.execute(PayOrder::usual(1)).await?;
        }
        Ok(())
    });
    Ok(milliseconds.await? * 1_000.0 / as_f64(AT_ONCE))
}

async fn by_hand(time: Duration) -> Result<f64> {
    let context = Context::new(CommandId::new(), SystemClock.now());
    let milliseconds = milliseconds_each(time, || async {
        let mut order = Order::default();
        for _ in 0..AT_ONCE {
            let events = order.handle(&std::hint::black_box(PayOrder::usual(1)), &context)?;
            events.iter().for_each(|event| order.apply(event));
        }
        std::hint::black_box(order);
        Ok(())
    });
    Ok(milliseconds.await? * 1_000.0 / as_f64(AT_ONCE))
}

/// The minimum for a program that records the events of a command with their envelope: two ids and the time, the events
/// as JSON, and the append with its check. Without a cache, a queue, a hash, memory of repeats, or handling of panics.
async fn the_least(time: Duration) -> Result<f64> {
    let (events, _) = Memory::default().split();
    let key = AggregateKey::new(Order::NAME, "1")?;
    let source: Arc<str> = "/orders".into();
    let (mut order, mut version, mut last, mut done) = (Order::default(), 0, 0, 0);
    let begin = Instant::now();
    while begin.elapsed() < time {
        for _ in 0..AT_ONCE {
            let command_id = CommandId::new();
            let context = Context::new(command_id, SystemClock.now());
            let origin = Arc::new(Origin {
                time: context.time,
                command: "pay_order".into(),
                command_id,
                fingerprint: 0,
                correlation_id: CorrelationId(command_id.0),
                causation_id: None,
                metadata: Metadata::default(),
            });
            let happened = order.handle(&std::hint::black_box(PayOrder::usual(1)), &context)?;
            let mut recorded = Vec::new();
            for event in &happened {
                let (event_type, mut data) = (event.event_type(), Vec::with_capacity(256));
                event.serialize_data(&mut serde_json::Serializer::new(&mut data))?;
                recorded.push(RecordedEvent {
                    id: EventId(SystemClock.new_id()),
                    origin: Arc::clone(&origin),
                    event_type: event_type.name.into(),
                    schema_version: event_type.version,
                    content_type: Cow::Borrowed(JSON),
                    data: data.into(),
                });
                order.apply(event);
            }
            let commit = Commit {
                aggregate: key.clone(),
                first_version: version + 1,
                source: Arc::clone(&source),
                events: recorded.into(),
            };
            version = commit.last_version();
            last = events.append(&commit, Expected::after(last)).await?;
            done += 1;
        }
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000_000.0 / as_f64(done))
}

/// The growth of a process's memory when it makes orders and keeps so many of them: measured in a new process, which
/// has freed nothing before.
fn grown_by(kept: u64) -> Result<u64> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["growth", &KEPT.to_string(), &kept.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("a number of bytes")
}

/// The growth of this process's memory when it makes so many orders and keeps some of them.
pub(crate) async fn growth(made: u64, kept: u64) -> Result<u64> {
    let service = orders(Memory::default(), kept).await?;
    let before = resident("self")?;
    for order in 0..made {
        service.execute(CreateOrder::usual(order)).await?;
    }
    Ok(resident("self")?.saturating_sub(before))
}
