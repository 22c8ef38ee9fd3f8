//! Commands while the stream grows: in aggregates, and in events. And the memory of the server for each subject.

use anyhow::Result;
use cqrs_benches::domain::PayOrder;

use crate::{
    cli::Options,
    raw::Kind,
    report::{Goal, Group, Line, Unit, beside_the_first},
    rounds::{Contender, as_f64, in_turn},
    server::{Server, Sync, place},
    workloads::commands::commanding,
};

/// How many aggregates the streams have that grow in events.
const AGGREGATES: u64 = 10_000;

/// The orders of the commands.
const HOT: u64 = 100_000_000;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let before = server.memory()?;
    let sizes = |least: u64, most: u64| {
        std::iter::successors(Some(least), |size| size.checked_mul(10)).take_while(move |size| *size <= most)
    };
    let mut contenders = Vec::new();
    let mut subjects = 0;
    // The largest first, so that the growth of the server's memory is due to it.
    let aggregates: Vec<_> = sizes(1_000, options.most_aggregates).collect();
    for size in aggregates.iter().rev() {
        contenders.insert(0, grown(&server, options, &format!("{size} aggregates"), *size, 1).await?);
        if subjects == 0 {
            subjects = server.memory()?.saturating_sub(before) * 1_000_000 / size;
        }
    }
    let by_aggregates = contenders.len();
    for size in sizes(10_000, options.most_events) {
        let versions = (size / AGGREGATES).max(1);
        contenders
            .push(grown(&server, options, &format!("{size} events"), AGGREGATES.min(size), versions).await?);
    }
    let mut lines = in_turn(&options.shorter(), contenders).await?;
    let by_events = lines.split_off(by_aggregates);
    let goal = |_| Some(Goal::AtLeast(0.9));
    let grown = [lines, by_events].into_iter();
    let mut all: Vec<Line> = grown.flat_map(|lines| beside_the_first(lines, goal)).collect();
    let megabytes = as_f64(subjects) / 1_000_000.0;
    all.push(Line::new("memory of the server per million subjects", Unit::Megabytes, vec![megabytes]));
    let title = format!("Commands of {} tasks while the stream grows", options.tasks);
    Ok(Group { title, setting: server.setting().await?, lines: all })
}

/// A stream with so many aggregates of so many events each, and commands to others in it.
async fn grown<'a>(
    server: &'a Server,
    options: &Options,
    what: &str,
    aggregates: u64,
    versions: u64,
) -> Result<Contender<'a>> {
    let context = what.replace(' ', "-");
    let raw = server.raw(&context).await?;
    raw.fill(Kind::Order, 1..1 + aggregates, 1..1 + versions).await?;
    let service = server.orders(&context, 2 * options.tasks).await?;
    let hot = HOT..HOT + options.tasks;
    place(&service, hot.clone()).await?;
    Ok(Contender::new(format!("with {what} in the stream"), Unit::CommandsPerSecond, move |time| {
        commanding(service.clone(), PayOrder::usual, hot.clone(), time)
    }))
}
