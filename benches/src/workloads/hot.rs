//! Many tasks on one aggregate.

use anyhow::Result;
use cqrs_benches::domain::PayOrder;

use crate::{
    cli::Options,
    report::{Goal, Group, Unit},
    rounds::{Contender, in_turn},
    server::{Server, Sync, place},
    workloads::commands::{commanding, counted},
};

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let service = server.orders("hot", 10).await?;
    place(&service, [1, 2]).await?;
    let contender = |order, tasks: u64| {
        let service = service.clone();
        let what = format!("{} on one order", counted(tasks));
        Contender::new(what, Unit::CommandsPerSecond, move |time| {
            // An error or a rejection ends the run: there must be none.
            commanding(service.clone(), PayOrder::usual, (0..tasks).map(move |_| order), time)
        })
    };
    let lines = in_turn(options, vec![contender(1, 1), contender(2, options.tasks)]).await?;
    let [lone, many] = &lines[..] else { anyhow::bail!("two contenders") };
    let lines = vec![lone.clone(), many.clone().beside(lone, Some(Goal::AtLeast(5.0)))];
    service.stop().await;
    let title = "One hot aggregate".to_owned();
    Ok(Group { title, setting: server.setting().await?, lines })
}
