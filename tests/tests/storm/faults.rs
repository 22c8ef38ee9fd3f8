//! The faults, and a random choice among them.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    random::Random,
    workload::{Bank, DUPLICATE_WINDOW},
};
use cqrs_tests::{cluster::Cluster, proxy::Proxy};
use tokio::time::{Instant, sleep};

/// How long the servers have to become healthy before the next fault happens anyway.
const RECOVERY: Duration = Duration::from_secs(15);

/// How often each fault happened.
pub(crate) type Counts = BTreeMap<&'static str, usize>;

/// What happens to a server.
#[derive(Debug, Clone, Copy)]
enum ServerFault {
    Kill,
    Restart,
    Pause(Duration),
}

/// What happens to the connections of a service, or to all connections of a server.
#[derive(Debug, Clone, Copy)]
enum LinkFault {
    Reset,
    Refuse(Duration),
    StallRequests(Duration),
    StallAnswers(Duration),
    HalfOpen(Duration),
    /// The answers are held back until the servers have forgotten the commands, and are then lost.
    Expire,
}

/// Faults on servers and on connections, one after the other each, both at the same time.
pub(crate) struct Weather<'a> {
    cluster: &'a mut Cluster,
    bank: &'a Bank,
    random: Random,
}

impl<'a> Weather<'a> {
    pub(crate) fn new(cluster: &'a mut Cluster, bank: &'a Bank, random: Random) -> Self {
        Self { cluster, bank, random }
    }

    /// Causes faults for this time; in the end everything works again.
    pub(crate) async fn rage(self, length: Duration) -> Counts {
        let Self { cluster, bank, mut random } = self;
        let end = Instant::now() + length;
        let (links, stream) = (&bank.links, bank.stream());
        let (on_servers, on_links) = (random.fork(), random.fork());
        let (mut counts, others) = tokio::join!(
            rage_on_servers(cluster, &stream, on_servers, end),
            rage_on_links(links, on_links, end)
        );
        counts.extend(others);
        counts
    }
}

async fn rage_on_servers(cluster: &mut Cluster, stream: &str, mut random: Random, end: Instant) -> Counts {
    let mut counts = Counts::new();
    while Instant::now() < end {
        sleep(random.between(1_000, 2_500)).await;
        let fault = match random.below(10) {
            0..4 => ServerFault::Kill,
            4..6 => ServerFault::Restart,
            // Sometimes long enough for the others to elect a new leader.
            6 => ServerFault::Pause(random.between(4_000, 9_000)),
            _ => ServerFault::Pause(random.between(300, 2_000)),
        };
        let leader = if random.percent(35) { cluster.leader(stream).await } else { None };
        let node = leader.unwrap_or_else(|| random.index(cluster.size()));
        let name = strike_server(cluster, node, fault, leader.is_some() && cluster.size() > 1).await;
        *counts.entry(name).or_default() += 1;
        recover(cluster, stream).await;
    }
    counts
}

async fn strike_server(cluster: &mut Cluster, node: usize, fault: ServerFault, leader: bool) -> &'static str {
    match fault {
        ServerFault::Kill => {
            cluster.kill(node).await;
            cluster.restart(node).await;
            if leader { "kill leader" } else { "kill server" }
        }
        ServerFault::Restart => {
            cluster.stop(node).await;
            cluster.restart(node).await;
            if leader { "restart leader" } else { "restart server" }
        }
        ServerFault::Pause(length) => {
            // A single server that is down for long only adds time.
            let length = if cluster.size() == 1 { length.min(Duration::from_secs(1)) } else { length };
            cluster.pause(node).await;
            sleep(length).await;
            cluster.resume(node).await;
            if leader { "pause leader" } else { "pause server" }
        }
    }
}

async fn recover(cluster: &Cluster, stream: &str) {
    let deadline = Instant::now() + RECOVERY;
    while !cluster.is_healthy(stream).await && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

async fn rage_on_links(links: &[Vec<Proxy>], mut random: Random, end: Instant) -> Counts {
    let mut counts = Counts::new();
    while Instant::now() < end {
        sleep(random.between(700, 1_700)).await;
        let fault = match random.below(12) {
            0..3 => LinkFault::Reset,
            3..5 => LinkFault::Refuse(random.between(100, 1_500)),
            5..7 => LinkFault::StallRequests(random.between(200, 1_500)),
            7..9 => LinkFault::StallAnswers(random.between(200, 1_500)),
            9 => LinkFault::HalfOpen(random.between(200, 1_500)),
            // Longer than it takes a client to notice.
            10 => LinkFault::HalfOpen(random.between(5_000, 7_000)),
            _ => LinkFault::Expire,
        };
        // A service is cut off from all servers, or a server from all services.
        let hit: Vec<&Proxy> = if random.percent(85) {
            links[random.index(links.len())].iter().collect()
        } else {
            let server = random.index(links[0].len());
            links.iter().map(|link| &link[server]).collect()
        };
        *counts.entry(strike_links(&hit, fault, random.percent(50)).await).or_default() += 1;
    }
    counts
}

/// After a stall the connections may be reset, which loses what would otherwise arrive late.
async fn strike_links(hit: &[&Proxy], fault: LinkFault, lose: bool) -> &'static str {
    let (name, strike, length, lose): (_, fn(&Proxy), _, _) = match fault {
        LinkFault::Reset => ("reset", Proxy::reset, Duration::ZERO, false),
        LinkFault::Refuse(length) => ("refuse", Proxy::refuse, length, false),
        LinkFault::StallRequests(length) => ("stall requests", Proxy::stall_requests, length, lose),
        LinkFault::StallAnswers(length) => ("stall answers", Proxy::stall_answers, length, lose),
        LinkFault::HalfOpen(length) => ("half-open", Proxy::half_open, length, lose),
        LinkFault::Expire => {
            ("expiry", Proxy::stall_answers, DUPLICATE_WINDOW + Duration::from_secs(1), true)
        }
    };
    for proxy in hit {
        strike(proxy);
    }
    sleep(length).await;
    for proxy in hit {
        if lose {
            proxy.reset();
        }
        proxy.pass();
    }
    name
}
