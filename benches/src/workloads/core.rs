//! The core alone, on memory.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cqrs_benches::domain::{CreateOrder, Order, PayOrder};
use cqrs_core::{Apply as _, Clock as _, CommandId, Context, Handle as _, SystemClock, memory::Memory};

use crate::{
    cli::Options,
    report::{Goal, Group, Line, Unit},
    rounds::{Contender, as_f64, in_turn},
    server::{orders, place, resident},
    workloads::loads::milliseconds_each,
};

/// How many orders a process keeps to find out what one takes.
const KEPT: u64 = 100_000;

/// How many commands are measured at once, since asking for the time takes time.
const AT_ONCE: u64 = 100;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let service = Contender::new("command of one event on memory", Unit::Microseconds, in_the_service);
    let by_hand = Contender::new("of which the handler's own", Unit::Microseconds, by_hand);
    let mut lines = in_turn(options, vec![service, by_hand]).await?;
    let [whole, own] = &lines[..] else { anyhow::bail!("two contenders") };
    let rounds = whole.rounds.iter().zip(&own.rounds).map(|(whole, own)| whole - own).collect();
    let extra = Line::new("command, over the handler's own", Unit::Microseconds, rounds);
    lines.push(extra.goal(Goal::AtMost(1.0)));
    let (kept, none) = (grown_by(KEPT)?, grown_by(0)?);
    let each = (as_f64(kept) - as_f64(none)) / as_f64(KEPT);
    lines.push(Line::new("memory of an aggregate that is kept, one event old", Unit::Bytes, vec![each]));
    let setting = "one task, everything in this process's memory; no server".to_owned();
    Ok(Group { title: "The core alone".to_owned(), setting, lines })
}

async fn in_the_service(time: Duration) -> Result<f64> {
    // A new one each time, since the memory keeps all events.
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
    let context = Context::new(CommandId(SystemClock.new_id()), SystemClock.now());
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

/// What a process's memory grows by when it makes orders and keeps so many of them: asked of a new process, in
/// which nothing was freed before.
fn grown_by(kept: u64) -> Result<u64> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).args(["growth", &KEPT.to_string(), &kept.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("a number of bytes")
}

/// What this process's memory grows by when it makes so many orders and keeps some of them.
pub(crate) async fn growth(made: u64, kept: u64) -> Result<u64> {
    let service = orders(Memory::default(), kept).await?;
    let before = resident("self")?;
    for order in 0..made {
        service.execute(CreateOrder::usual(order)).await?;
    }
    Ok(resident("self")?.saturating_sub(before))
}
