//! Views that catch up with a large stream beside a consumer that decodes bare messages, which have the same data.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use cqrs_benches::domain::{Order, OrderEvent, OrderSummary};
use cqrs_core::{Cqrs, Event as _, memory::MemoryViews, operate::ProjectorState, port::ViewStore};
use cqrs_nats::NatsEvents;
use cqrs_sql::{PostgresViews, SqliteViews};
use cqrs_tests::postgres::LocalPostgres;
use futures_util::TryStreamExt as _;

use crate::{
    cli::Options,
    raw::{Kind, Raw},
    report::{Goal, Group, Line, Unit},
    rounds::{Contender, as_f64, in_turn},
    server::{Server, Sync},
};

/// How many events each order has.
const LENGTH: u64 = 100;

/// The priority group of the consumer.
const GROUP: &str = "readers";

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let raw = server.raw("projections").await?;
    let bare = server.raw("bare").await?.bare()?;
    let events = server.nats().await?.context("projections").await?.events;
    for raw in [&raw, &bare] {
        raw.fill(Kind::Order, 1..1 + options.events / LENGTH, 1..1 + LENGTH).await?;
    }
    let postgres = LocalPostgres::start().await;
    let folder = tempfile::tempdir()?;
    let round = AtomicU64::new(0);
    let fresh = || round.fetch_add(1, Ordering::Relaxed);

    let all = options.events;
    let what = format!("pull and decode of {all} bare events");
    let any = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let in_turns = pull::Config {
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec![GROUP.to_owned()],
        ..any.clone()
    };
    let pull = Contender::new(what.clone(), Unit::EventsPerSecond, |time| {
        pull_and_decode(bare.clone(), any.clone(), all, time)
    });
    let pinned = Contender::new(format!("{what}, pinned to one client"), Unit::EventsPerSecond, |time| {
        pull_and_decode(bare.clone(), in_turns.clone(), all, time)
    });
    let memory = Contender::new("view in memory", Unit::EventsPerSecond, |time| {
        catch_up(events.clone(), MemoryViews::default(), all, time)
    });
    let sqlite = Contender::new("view in SQLite", Unit::EventsPerSecond, |time| {
        let (events, file) = (events.clone(), folder.path().join(format!("{}.db", fresh())));
        async move { catch_up(events, SqliteViews::open(&file, "orders").await?, all, time).await }
    });
    let in_postgres = Contender::new("view in Postgres", Unit::EventsPerSecond, |time| {
        let (events, url, context) = (events.clone(), postgres.url(), format!("orders{}", fresh()));
        async move { catch_up(events, PostgresViews::connect(&url, &context).await?, all, time).await }
    });
    let kv = Contender::new("view in key-value buckets", Unit::EventsPerSecond, |time| {
        let (events, context, server) = (events.clone(), format!("views{}", fresh()), &server);
        async move {
            let views = server.nats().await?.context(&context).await?.views;
            catch_up(events, views, all, time).await
        }
    });
    let documents = Contender::new("the same documents in batches", Unit::EventsPerSecond, |time| {
        raw.clone().documents(format!("documents{}", fresh()), all / LENGTH, all, time)
    });
    let contenders = vec![pull, memory, pinned, sqlite, in_postgres, kv, documents];
    let lines = in_turn(options, contenders).await?;
    let lines = beside(lines)?;
    let setting = server.setting().await?;
    Ok(Group {
        title: format!("A view of orders that catches up with {all} events, {LENGTH} of each order in turn"),
        setting: format!("{setting}; SQLite in WAL mode with synchronous = NORMAL; Postgres with fsync"),
        lines,
    })
}

fn beside(lines: Vec<Line>) -> Result<Vec<Line>> {
    let [pull, memory, pinned, sqlite, postgres, kv, documents] =
        <[Line; 7]>::try_from(lines).ok().context("seven contenders")?;
    Ok(vec![
        memory.beside(&pull, Some(Goal::AtLeast(0.6))),
        sqlite.beside(&pull, None).goal(Goal::AtLeast(50_000.0)),
        postgres.beside(&pull, None).goal(Goal::AtLeast(30_000.0)),
        kv.beside(&documents, Some(Goal::AtLeast(0.85))),
        documents,
        pinned.beside(&pull, None),
        pull,
    ])
}

/// How many events a consumer delivers and decodes per second, with the client alone.
async fn pull_and_decode(raw: Raw, config: pull::Config, all: u64, time: Duration) -> Result<f64> {
    let stream = raw.jetstream.get_stream(&raw.stream).await?;
    let begin = Instant::now();
    let group = config.priority_groups.first().cloned();
    let consumer = stream.create_consumer(config).await?;
    let mut requests = consumer.stream().max_messages_per_batch(1_024);
    if let Some(group) = group {
        requests = requests.group(group);
    }
    let mut messages = requests.messages().await?;
    let mut events = 0;
    while events < all && begin.elapsed() < time {
        let message = messages.try_next().await?.context("no more messages")?;
        std::hint::black_box(decode(&message.payload)?);
        events += 1;
    }
    let took = begin.elapsed();
    stream.delete_consumer(&consumer.cached_info().name).await?;
    Ok(as_f64(events) / took.as_secs_f64())
}

/// Decodes the data of one event. The consumer knows the types: the first event of an order creates it, the others are
/// payments. The few messages of the templates have attributes.
fn decode(payload: &[u8]) -> Result<Option<OrderEvent>> {
    if payload.starts_with(b"[") || payload.starts_with(b"{\"id\":") {
        return Ok(None);
    }
    let wanted = if payload.starts_with(b"{\"amount\":") { "order.paid" } else { "order.created" };
    let known = OrderEvent::TYPES.iter().find(|known| known.name == wanted);
    let mut data = serde_json::Deserializer::from_slice(payload);
    Ok(Some(OrderEvent::deserialize_data(*known.context("an unknown type")?, &mut data)?))
}

/// How many events per second a new view applies, until it has all or the time is up.
async fn catch_up<V: ViewStore>(events: NatsEvents, views: V, all: u64, time: Duration) -> Result<f64> {
    let begin = Instant::now();
    let service = Cqrs::builder((events, views)).aggregate::<Order>().view::<OrderSummary>().start().await?;
    loop {
        let status = service.projectors().into_iter().next().context("a projector")?;
        let took = begin.elapsed();
        let halted = matches!(status.state, ProjectorState::Halted { .. } | ProjectorState::Retrying { .. });
        ensure!(!halted && status.dead_letters == 0, "the projector is in trouble: {status:?}");
        if status.sequence >= all || took >= time {
            service.stop().await;
            ensure!(status.sequence > 0, "nothing was saved in {time:?}: use more --seconds");
            return Ok(as_f64(status.sequence.min(all)) / took.as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
