//! Many tasks on a few aggregates, on a server that syncs every write.

use anyhow::Result;
use cqrs_benches::domain::PayOrder;

use crate::{
    cli::Options,
    report::{Goal, Group, Unit},
    rounds::{Contender, in_turn},
    server::{Server, Sync, place},
    workloads::commands::{commanding, publishing},
};

/// How many aggregates the tasks share.
const ORDERS: u64 = 8;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Always).await?;
    let service = server.orders("sync", 2 * ORDERS).await?;
    let raw = server.raw("sync").await?;
    place(&service, 1..=ORDERS).await?;
    let tasks = options.tasks;
    let publish = Contender::new(
        format!("publish with check, {tasks} tasks, one subject each"),
        Unit::CommandsPerSecond,
        |time| publishing(raw.clone(), raw.one_event.clone(), tasks, time),
    );
    let command = Contender::new(
        format!("command, {tasks} tasks on {ORDERS} orders"),
        Unit::CommandsPerSecond,
        |time| commanding(service.clone(), PayOrder::usual, (0..tasks).map(|task| 1 + task % ORDERS), time),
    );
    let lines = in_turn(options, vec![publish, command]).await?;
    let [publish, command] = &lines[..] else { anyhow::bail!("two contenders") };
    let lines = vec![publish.clone(), command.clone().beside(publish, Some(Goal::AtLeast(1.5)))];
    service.stop().await;
    let title = "Every write synced to the disk".to_owned();
    Ok(Group { title, setting: server.setting().await?, lines })
}
