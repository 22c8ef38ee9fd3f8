//! Loads of aggregates whose events are close together beside reads of bare messages, which have the same data.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cqrs_benches::domain::{KeptOrder, Order, OrderRejection, PayKeptOrder, PayOrder};
use cqrs_core::{Aggregate, Command, CommandError, Handle};
use cqrs_nats::NatsBackend;

use crate::{
    cli::Options,
    raw::{Kind, Raw},
    report::{Goal, Group, Unit, beside_the_first},
    rounds::{Contender, as_f64, in_turn},
    server::{Orders, Server, Sync, orders},
};

/// How many messages the stream has before those that are read.
const BEFORE: u64 = 100_000;

/// How many orders of each length there are.
const OF_EACH: u64 = 64;

/// How long the orders are.
const LENGTHS: [u64; 3] = [10, 100, 1_000];

/// The lengths for which a load with a snapshot is measured: orders of ten events have none.
const KEPT_LENGTHS: [u64; 2] = [100, 1_000];

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let raw = server.raw("loads").await?;
    let bare = server.raw("bare").await?.bare()?;
    let backend = server.nats().await?.context("loads").await?;
    for raw in [&raw, &bare] {
        raw.fill(Kind::Order, 10_000_000..10_000_000 + BEFORE / 10, 1..11).await?;
        for length in LENGTHS {
            for order in orders_of(length) {
                raw.fill(Kind::Order, order..order + 1, 1..length + 1).await?;
            }
        }
    }
    let mut kept = Vec::new();
    for length in KEPT_LENGTHS {
        for order in orders_of(length) {
            raw.fill(Kind::KeptOrder, order..order + 1, 1..length + 1).await?;
        }
        kept.push(with_snapshots(&raw, &backend, orders_of(length)).await?);
    }
    let mut lines = Vec::new();
    for length in LENGTHS {
        let measured = in_turn(options, from_the_log([&bare, &raw], &backend, length)).await?;
        lines.extend(beside_the_first(measured, |place| (place == 1).then_some(Goal::AtMost(1.3))));
    }
    for (length, orders) in KEPT_LENGTHS.into_iter().zip(kept) {
        let contenders = from_snapshots(&raw, &backend, length, orders);
        let measured = in_turn(options, contenders).await?;
        lines.extend(beside_the_first(measured, |_| Some(Goal::AtMost(1.15))));
    }
    let title = "Loads of orders whose events lie together".to_owned();
    Ok(Group { title, setting: server.setting().await?, lines })
}

fn orders_of(length: u64) -> std::ops::Range<u64> {
    length * 1_000..length * 1_000 + OF_EACH
}

fn from_the_log<'a>(raw: [&'a Raw; 2], backend: &'a NatsBackend, length: u64) -> Vec<Contender<'a>> {
    let next = Arc::new(AtomicUsize::new(0));
    let read = |raw: &'a Raw, next: Arc<AtomicUsize>| {
        move |time| {
            let (raw, next) = (raw.clone(), Arc::clone(&next));
            milliseconds_each(time, move || {
                let raw = raw.clone();
                let order = orders_of(length).start + next.fetch_add(1, Ordering::Relaxed) as u64 % OF_EACH;
                async move {
                    let batch = usize::try_from(length)?;
                    let subject = raw.subject(Kind::Order, order);
                    let found = raw.get_batch(&subject, 1, batch).await?;
                    ensure!(found.len() == batch, "{} messages, not {length}", found.len());
                    nothing_since(&raw, subject, found.last()).await
                }
            })
        }
    };
    let [bare, own] = raw;
    vec![
        Contender::new(
            format!("batched direct get of {length} bare events, leader asked"),
            Unit::Milliseconds,
            read(bare, Arc::clone(&next)),
        ),
        // The least that is possible with these bytes.
        Contender::new(
            format!("batched direct get of {length} commits as they are stored, leader asked"),
            Unit::Milliseconds,
            read(own, next),
        ),
        Contender::new(format!("load of {length} events"), Unit::Milliseconds, move |time| {
            cold(backend.clone(), orders_of(length).collect(), PayOrder::refused, time)
        }),
    ]
}

fn from_snapshots<'a>(
    raw: &'a Raw,
    backend: &'a NatsBackend,
    length: u64,
    orders: Vec<Kept>,
) -> Vec<Contender<'a>> {
    let (next, orders) = (Arc::new(AtomicUsize::new(0)), Arc::new(orders));
    let ours = Arc::clone(&orders);
    let read = move |time| {
        let (raw, next, orders) = (raw.clone(), Arc::clone(&next), Arc::clone(&orders));
        milliseconds_each(time, move || {
            let (raw, orders) = (raw.clone(), Arc::clone(&orders));
            let place = next.fetch_add(1, Ordering::Relaxed) % orders.len();
            async move {
                let Kept { order, last } = orders[place];
                ensure!(snapshot(&raw, order).await?, "no snapshot of order {order}");
                let subject = raw.subject(Kind::KeptOrder, order);
                let found = raw.get_batch(&subject, last, 16).await?;
                ensure!(found.len() == 1, "{} messages after the snapshot, not 1", found.len());
                nothing_since(&raw, subject, found.last()).await
            }
        })
    };
    vec![
        Contender::new(
            format!("two direct gets, for {length} events, leader asked"),
            Unit::Milliseconds,
            read,
        ),
        Contender::new(format!("load of {length} events with a snapshot"), Unit::Milliseconds, move |time| {
            cold(backend.clone(), ours.iter().map(|kept| kept.order).collect(), refused, time)
        }),
    ]
}

/// The further request of a rejection: whether the leader has a later message.
async fn nothing_since(raw: &Raw, subject: String, last: Option<&async_nats::Message>) -> Result<()> {
    let headers = last.and_then(|last| last.headers.as_ref()).context("a message without headers")?;
    let last = headers.get(async_nats::header::NATS_SEQUENCE).context("a message without its sequence")?;
    ensure!(!raw.has_more(subject, last.as_str().parse()?).await?, "there is more");
    Ok(())
}

/// An order with a snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) order: u64,
    /// The sequence of its last commit.
    pub(crate) last: u64,
}

/// Pays each of these orders once through the framework, which then keeps a snapshot of it.
pub(crate) async fn with_snapshots(
    raw: &Raw,
    backend: &NatsBackend,
    numbers: impl IntoIterator<Item = u64>,
) -> Result<Vec<Kept>> {
    let service = orders(backend.clone(), 1_000).await?;
    let mut kept = Vec::new();
    for order in numbers {
        let receipt = service.execute(PayKeptOrder::from(PayOrder::usual(order))).await?;
        kept.push(Kept { order, last: receipt.position.sequence });
        let begin = Instant::now();
        // It is saved in the background.
        while !snapshot(raw, order).await? {
            ensure!(begin.elapsed() < Duration::from_secs(30), "order {order} gets no snapshot");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    service.stop().await;
    Ok(kept)
}

/// Reads the snapshot of an order, if there is one.
pub(crate) async fn snapshot(raw: &Raw, order: u64) -> Result<bool> {
    let bucket = format!("{}__snapshots", raw.stream.to_lowercase());
    let subject = format!("$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{}.{order}", Kind::KeptOrder.name());
    match raw.client.request(subject, "".into()).await {
        Ok(message) => Ok(message.status.is_none()),
        Err(error) if error.kind() == async_nats::client::RequestErrorKind::NoResponders => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The time of one load, in milliseconds: of a command that the order rejects, so that only its state is needed. Each
/// service loads an order once, so that none is in memory.
pub(crate) async fn cold<C>(
    backend: NatsBackend,
    numbers: Vec<u64>,
    refused: fn(u64) -> C,
    time: Duration,
) -> Result<f64>
where
    C: Command,
    C::Aggregate: Aggregate<Rejection = OrderRejection> + Handle<C>,
    Orders: Loads<C>,
{
    let (mut loads, mut took) = (0, Duration::ZERO);
    while took < time {
        let service = orders(backend.clone(), numbers.len() as u64).await?;
        let begin = Instant::now();
        for order in &numbers {
            service.load(refused(*order)).await?;
            loads += 1;
            if took + begin.elapsed() >= time {
                break;
            }
        }
        took += begin.elapsed();
        service.stop().await;
    }
    Ok(took.as_secs_f64() * 1_000.0 / as_f64(loads))
}

/// A service that loads an aggregate with a command that it rejects.
pub(crate) trait Loads<C> {
    fn load(&self, refused: C) -> impl Future<Output = Result<()>> + Send;
}

impl Loads<PayOrder> for Orders {
    async fn load(&self, refused: PayOrder) -> Result<()> {
        is_refused::<Order>(&self.execute(refused).await)
    }
}

impl Loads<PayKeptOrder> for Orders {
    async fn load(&self, refused: PayKeptOrder) -> Result<()> {
        is_refused::<KeptOrder>(&self.execute(refused).await)
    }
}

fn is_refused<A: Aggregate<Rejection = OrderRejection>>(
    answer: &Result<cqrs_core::Receipt, CommandError<OrderRejection>>,
) -> Result<()> {
    let refused = matches!(answer, Err(CommandError::Rejected(OrderRejection::NoAmount)));
    ensure!(refused, "{} was to refuse: {answer:?}", A::NAME);
    Ok(())
}

/// [`PayOrder::refused`] for an order that keeps snapshots.
pub(crate) fn refused(order: u64) -> PayKeptOrder {
    PayOrder::refused(order).into()
}

/// How long `step` takes when it is repeated for about this time, in milliseconds.
pub(crate) async fn milliseconds_each<F>(time: Duration, step: impl Fn() -> F) -> Result<f64>
where
    F: Future<Output = Result<()>>,
{
    let (begin, mut steps) = (Instant::now(), 0);
    while begin.elapsed() < time {
        step().await?;
        steps += 1;
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000.0 / as_f64(steps))
}
