//! Commands on cached aggregates beside publishes of the same data with the same check.

use std::time::{Duration, Instant};

use anyhow::Result;
use cqrs_benches::domain::{Order, PayOrder, SendParcel};
use cqrs_core::{Command, Handle, port::BoxFuture};

use crate::{
    cli::Options,
    raw::{Raw, Template},
    report::{Goal, Group, Unit, beside_the_first},
    rounds::{Contender, Until, in_turn, per_second},
    server::{Orders, Server, Sync, place, processor_time},
};

/// The first numbers of the raw side's orders.
const RAW: u64 = 1_000_000;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let many = options.tasks;
    let service = server.orders("commands", 2 * many).await?;
    let own = server.raw("commands").await?;
    let raw = own.bare()?;
    place(&service, 1..=many).await?;
    // A difference of one percent is visible only in short turns that follow each other closely.
    let turns = options.shorter();
    let mut lines = Vec::new();
    for (tasks, goal) in [(1, 0.95), (many, 0.85)] {
        for events in [Written::One, Written::Three] {
            let of = format!("{}, {}", counted(tasks), events.words());
            let publish =
                Contender::new(format!("publish with check, {of}"), Unit::CommandsPerSecond, |time| {
                    publishing(raw.clone(), events.template(&raw), tasks, time)
                });
            // The most that is possible with these bytes.
            let same = format!("publish of what the framework writes, {of}");
            let same = Contender::new(same, Unit::CommandsPerSecond, |time| {
                publishing(own.clone(), events.template(&own).unchanged(), tasks, time)
            });
            let command = Contender::new(format!("command, {of}"), Unit::CommandsPerSecond, |time| {
                events.commanding(service.clone(), tasks, time)
            });
            let measured = in_turn(&turns, vec![publish, same, command]).await?;
            lines.extend(beside_the_first(measured, |place| (place == 1).then_some(Goal::AtLeast(goal))));
        }
    }
    let what = "publish without check, 256 under way";
    let pour = Contender::new(what, Unit::CommandsPerSecond, |time| {
        let raw = raw.clone();
        async move { per_second(time, [|until| raw.pour(2 * RAW, until)]).await }
    });
    lines.extend(in_turn(options, vec![pour]).await?);
    let publish = busy(format!("this process, per publish of {}", counted(many)), |time| {
        publishing(raw.clone(), raw.one_event.clone(), many, time)
    });
    let command = busy(format!("this process, per command of {}", counted(many)), |time| {
        Written::One.commanding(service.clone(), many, time)
    });
    lines.extend(beside_the_first(in_turn(options, vec![publish, command]).await?, |_| None));
    service.stop().await;
    let title = "Commands on cached aggregates, one order for each task".to_owned();
    Ok(Group { title, setting: server.setting().await?, lines })
}

/// How many events a command leads to.
#[derive(Debug, Clone, Copy)]
enum Written {
    One,
    Three,
}

impl Written {
    fn words(self) -> &'static str {
        match self {
            Self::One => "1 event",
            Self::Three => "3 events",
        }
    }

    fn template(self, raw: &Raw) -> Template {
        match self {
            Self::One => raw.one_event.clone(),
            Self::Three => raw.three_events.clone(),
        }
    }

    fn commanding(self, service: Orders, tasks: u64, time: Duration) -> BoxFuture<'static, Result<f64>> {
        match self {
            Self::One => Box::pin(commanding(service, PayOrder::usual, 1..=tasks, time)),
            Self::Three => Box::pin(commanding(service, SendParcel::usual, 1..=tasks, time)),
        }
    }
}

/// The processor time of this process for each command or publish, in microseconds. The server is another process, and
/// shares the processors.
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

/// The number of tasks as text.
pub(crate) fn counted(tasks: u64) -> String {
    if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") }
}

/// Publishes per second of so many tasks, each on a subject of its own.
pub(crate) async fn publishing(raw: Raw, template: Template, tasks: u64, time: Duration) -> Result<f64> {
    // New subjects each time, because the tasks do not know the sequences of an earlier round.
    let first = RAW + raw.next(tasks);
    let task = |order| {
        let (raw, template) = (raw.clone(), template.clone());
        move |until| raw.append(template, order, until)
    };
    per_second(time, (first..first + tasks).map(task)).await
}

/// Commands per second, with a task for each of these orders.
pub(crate) async fn commanding<C>(
    service: Orders,
    command: fn(u64) -> C,
    orders: impl IntoIterator<Item = u64>,
    time: Duration,
) -> Result<f64>
where
    C: Command<Aggregate = Order> + Send,
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
