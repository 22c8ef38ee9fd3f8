//! Commands on cached aggregates beside publishes with the same headers and check.

use std::time::{Duration, Instant};

use anyhow::Result;
use cqrs_benches::domain::{Order, PayOrder, SendParcel};
use cqrs_core::{Backend, Command, Handle};

use crate::{
    cli::Options,
    raw::{Raw, Template},
    report::{Goal, Group, Unit},
    rounds::{Contender, Until, in_turn, per_second},
    server::{Orders, Server, Sync, place, processor_time},
};

/// The numbers from which the raw side takes its orders.
const RAW: u64 = 1_000_000;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let many = options.tasks;
    let service = server.orders("commands", 2 * many).await?;
    let raw = server.raw("commands").await?;
    place(&service, 1..=many).await?;
    let mut contenders = Vec::new();
    for tasks in [1, many] {
        for (events, template) in [("1 event", &raw.one_event), ("3 events", &raw.three_events)] {
            let (raw, template) = (raw.clone(), template.clone());
            let what = format!("publish with check, {}, {events}", counted(tasks));
            contenders.push(Contender::new(what, Unit::CommandsPerSecond, move |time| {
                publishing(raw.clone(), template.clone(), tasks, time)
            }));
        }
        let (one, three) = (service.clone(), service.clone());
        contenders.push(Contender::new(
            format!("command, {}, 1 event", counted(tasks)),
            Unit::CommandsPerSecond,
            move |time| commanding(one.clone(), PayOrder::usual, 1..=tasks, time),
        ));
        contenders.push(Contender::new(
            format!("command, {}, 3 events", counted(tasks)),
            Unit::CommandsPerSecond,
            move |time| commanding(three.clone(), SendParcel::usual, 1..=tasks, time),
        ));
    }
    contenders.push(Contender::new(
        "publish without check, 256 under way",
        Unit::CommandsPerSecond,
        |time| {
            let raw = raw.clone();
            async move { per_second(time, [|until| raw.pour(2 * RAW, until)]).await }
        },
    ));
    let (publishes, template) = (raw.clone(), raw.one_event.clone());
    contenders.push(busy(format!("this process, per publish of {}", counted(many)), move |time| {
        publishing(publishes.clone(), template.clone(), many, time)
    }));
    let commands = service.clone();
    contenders.push(busy(format!("this process, per command of {}", counted(many)), move |time| {
        commanding(commands.clone(), PayOrder::usual, 1..=many, time)
    }));
    let lines = in_turn(options, contenders).await?;
    // Four for one task, four for many, and what is there for comparison.
    let lines = lines.chunks(4).zip([0.95, 0.9, 0.0]).flat_map(|(of_tasks, goal)| match of_tasks {
        [raw_one, raw_three, one, three] => {
            let goal = Some(Goal::AtLeast(goal));
            let one = one.clone().beside(raw_one, goal);
            vec![raw_one.clone(), one, raw_three.clone(), three.clone().beside(raw_three, goal)]
        }
        [without_check, publish, command] => {
            vec![without_check.clone(), publish.clone(), command.clone().beside(publish, None)]
        }
        rest => rest.to_vec(),
    });
    let lines = lines.collect();
    service.stop().await;
    let title = "Commands on cached aggregates, one order for each task".to_owned();
    Ok(Group { title, setting: server.setting().await?, lines })
}

/// How long this process keeps a processor busy for each thing that is done, in microseconds. The server is another
/// process, and the two share the processors.
fn busy<'a, F>(what: String, mut per_second: impl FnMut(Duration) -> F + 'a) -> Contender<'a>
where
    F: Future<Output = Result<f64>> + Send + 'a,
{
    Contender::new(what, Unit::Microseconds, move |time| {
        let doing = per_second(time);
        async move {
            let (busy, begin) = (processor_time()?, Instant::now());
            let done = doing.await? * begin.elapsed().as_secs_f64();
            Ok((processor_time()? - busy) * 1_000_000.0 / done)
        }
    })
}

/// So many tasks, in words.
pub(crate) fn counted(tasks: u64) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

/// Publishes per second of so many tasks, each on a subject of its own.
pub(crate) async fn publishing(raw: Raw, template: Template, tasks: u64, time: Duration) -> Result<f64> {
    // New subjects each time, since the tasks do not know how far an earlier round came.
    let first = RAW + raw.next(tasks);
    let task = |order| {
        let (raw, template) = (raw.clone(), template.clone());
        move |until| raw.append(template, order, until)
    };
    per_second(time, (first..first + tasks).map(task)).await
}

/// Commands per second, with a task for each of these orders.
pub(crate) async fn commanding<B: Backend, C>(
    service: Orders<B>,
    command: fn(u64) -> C,
    orders: impl IntoIterator<Item = u64>,
    time: Duration,
) -> Result<f64>
where
    C: Command<Aggregate = Order>,
    Order: Handle<C>,
{
    let task = |order| {
        let service = service.clone();
        move |until: Until| async move {
            let mut done = 0;
            while until.goes_on() {
                service.execute(command(order)).await?;
                done += 1;
            }
            Ok(done)
        }
    };
    per_second(time, orders.into_iter().map(task)).await
}
