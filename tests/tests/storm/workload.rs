//! Many callers with fixed command ids, over few hot and many cold accounts, and the record of their calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cqrs_core::{
    Backend, Command, CommandError, CommandId, Cqrs, Error, Handle, Receipt, StoreError,
    port::{EventStore, Subscribe, Subscription as _},
};
use cqrs_nats::{Nats, NatsBackend, Topology};
use cqrs_tests::{
    cluster::Cluster,
    domain::{Account, AccountRejection, Open, deposit, withdraw},
    eventually,
    history::{Call, Entry, Outcome, Refusal, Request, Stored},
    proxy::Proxy,
    unique_context, with_causes,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::random::Random;

pub(crate) type Service = Cqrs<(Account,), ()>;
type Answer = Result<Receipt, CommandError<AccountRejection>>;

/// How many services share the log, each with a connection of its own.
const SERVICES: usize = 8;
const WRITERS: usize = 96;
/// How many accounts are hot at any time, and after how many commands each is replaced by a new one: every command
/// reads the whole account.
const HOT: usize = 12;
const HEAT: u64 = 60;
const COLD: u64 = 4_000;
/// The servers forget message ids after this time, so that some repeats come too late.
pub(crate) const DUPLICATE_WINDOW: Duration = Duration::from_secs(2);
/// How often a command is sent at most.
const CALLS: usize = 6;

/// The services, each behind proxies of its own: one before each server.
pub(crate) struct Bank {
    context: String,
    pub(crate) services: Vec<Service>,
    pub(crate) links: Vec<Vec<Proxy>>,
}

impl Bank {
    pub(crate) async fn open(cluster: &Cluster) -> Self {
        let context = unique_context("storm");
        let (mut services, mut links) = (Vec::new(), Vec::new());
        for service in 0..SERVICES {
            let mut proxies = Vec::new();
            for port in cluster.ports() {
                proxies.push(Proxy::start(port).await.unwrap());
            }
            let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
            let backend = backend(&urls.join(","), &context, cluster.size()).await;
            if service == 0 {
                shorten_duplicate_window(cluster, Topology::new(&*context).stream()).await;
            }
            services.push(start(backend, service).await);
            links.push(proxies);
        }
        Self { context, services, links }
    }

    pub(crate) fn stream(&self) -> String {
        Topology::new(&*self.context).stream().to_owned()
    }

    /// The stream of a view's documents.
    pub(crate) fn bucket(&self, view: &str) -> String {
        format!("KV_{}_{view}", self.context)
    }

    /// The stores, on a connection of their own to the servers, without proxies.
    pub(crate) async fn backend(&self, cluster: &Cluster) -> NatsBackend {
        backend(&cluster.url(), &self.context, cluster.size()).await
    }

    /// Everything in the log, read on a connection of its own.
    pub(crate) async fn log(&self, cluster: &Cluster) -> Vec<Stored> {
        let (events, _) = self.backend(cluster).await.split();
        whole_log(&events).await
    }
}

/// A service on the stores, the n-th of those that share the log.
pub(crate) async fn start<B: Backend>(backend: B, service: usize) -> Service {
    // Services with short limits report unknown outcomes more often.
    let patience = [30_000, 10_000, 2_000, 300][service % 4];
    let builder = Cqrs::builder(backend).aggregate::<Account>();
    builder.append_patience(Duration::from_millis(patience)).start().await.unwrap()
}

/// Everything in a log.
pub(crate) async fn whole_log(events: &impl EventStore) -> Vec<Stored> {
    let last = events.log(&["account"]).await.unwrap().last_sequence;
    let request = Subscribe { subscriber: "checker", aggregates: &["account"], after: 0 };
    let mut subscription = events.subscribe(request).await.unwrap();
    let mut log: Vec<Stored> = Vec::new();
    while log.last().map_or(0, |stored| stored.sequence) < last {
        let delivered = subscription.next(1_000).await.unwrap();
        log.extend(delivered.iter().map(|delivery| Stored::from(delivery.as_ref().unwrap())));
        subscription.done(log[log.len() - 1].sequence).await.unwrap();
    }
    log
}

/// Opens the context as soon as the servers are ready for it.
async fn backend(url: &str, context: &str, replicas: usize) -> NatsBackend {
    let mut opened = None;
    eventually("the context is open", async || {
        let Ok(nats) = Nats::connect(url).await else { return false };
        opened = nats.open(Topology::new(context).replicas(replicas)).await.ok();
        opened.is_some()
    })
    .await;
    opened.unwrap()
}

async fn shorten_duplicate_window(cluster: &Cluster, stream: &str) {
    let client = async_nats::connect(cluster.url().split(',').collect::<Vec<_>>()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let mut config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    config.duplicate_window = DUPLICATE_WINDOW;
    jetstream.update_stream(&config).await.unwrap();
}

/// Writers at work.
pub(crate) struct Workload {
    writers: JoinSet<Vec<Entry>>,
    stop: Arc<AtomicBool>,
}

impl Workload {
    pub(crate) fn start(services: &[Service], mut random: Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let heat: Arc<[AtomicU64]> = (0..HOT).map(|_| AtomicU64::new(0)).collect();
        let start = Instant::now();
        // Two workloads on one log share neither accounts nor commands.
        let run = random.below(1 << 40);
        let writer = |number: usize| Writer {
            name: format!("{run:x}-{number}"),
            run,
            service: services[number % services.len()].clone(),
            heat: Arc::clone(&heat),
            random: random.fork(),
            start,
        };
        let writers: Vec<Writer> = (0..WRITERS).map(writer).collect();
        let writers = writers.into_iter().map(|writer| writer.work(Arc::clone(&stop))).collect();
        Self { writers, stop }
    }

    /// Lets each writer finish its command, and returns the record.
    pub(crate) async fn stop(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.join_all().await.into_iter().flatten().collect()
    }
}

struct Writer {
    name: String,
    run: u64,
    service: Service,
    heat: Arc<[AtomicU64]>,
    random: Random,
    start: Instant,
}

impl Writer {
    async fn work(mut self, stop: Arc<AtomicBool>) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let id = CommandId::derived([&self.name, &entries.len().to_string()]);
            let (account, request) = self.choose();
            let mut entry = Entry { id, account, request, calls: Vec::new() };
            while self.wants(&entry) {
                let call = self.call(&entry).await;
                entry.calls.push(call);
            }
            entries.push(entry);
        }
        entries
    }

    fn choose(&mut self) -> (String, Request) {
        let amount = 1 + self.random.below(20);
        let request = match self.random.below(100) {
            0..12 => Request::Open(amount),
            12..70 => Request::Deposit(amount),
            _ => Request::Withdraw(amount),
        };
        if self.random.percent(50) {
            return (format!("{:x}-cold-{}", self.run, self.random.below(COLD)), request);
        }
        let slot = self.random.index(HOT);
        let count = self.heat[slot].fetch_add(1, Ordering::Relaxed);
        // The first caller opens the account; concurrent callers may not find it.
        let request = if count.is_multiple_of(HEAT) { Request::Open(amount) } else { request };
        (format!("{:x}-hot-{slot}-{}", self.run, count / HEAT), request)
    }

    /// Whether the command is sent, or sent again: some callers give up sooner than others.
    fn wants(&mut self, entry: &Entry) -> bool {
        match entry.calls.last().map(|call| &call.outcome) {
            None => true,
            Some(Outcome::Done { .. } | Outcome::Refused(_)) => false,
            Some(_) => entry.calls.len() < CALLS && self.random.percent(70),
        }
    }

    async fn call(&mut self, entry: &Entry) -> Call {
        if !entry.calls.is_empty() {
            // Some callers send again after the servers have forgotten the command's id.
            let late = self.random.percent(10);
            sleep(if late { DUPLICATE_WINDOW * 3 / 2 } else { self.random.between(0, 100) }).await;
        }
        let start = self.start.elapsed();
        // A caller with a timeout drops the call at any point.
        let patience = if self.random.percent(2) { self.random.between(0, 20) } else { Duration::MAX };
        let answer = timeout(patience, self.send(entry)).await;
        let outcome = answer.map_or_else(|_| Outcome::Unknown("dropped".into()), outcome);
        Call { start, end: self.start.elapsed(), outcome }
    }

    async fn send(&self, entry: &Entry) -> Answer {
        let account = entry.account.clone();
        match entry.request {
            Request::Open(amount) => {
                self.execute(entry.id, Open { account, owner: "anna".into(), amount }).await
            }
            Request::Deposit(amount) => self.execute(entry.id, deposit(account, amount)).await,
            Request::Withdraw(amount) => self.execute(entry.id, withdraw(account, amount)).await,
        }
    }

    async fn execute<C>(&self, id: CommandId, command: C) -> Answer
    where
        C: Command<Aggregate = Account>,
        Account: Handle<C>,
    {
        self.service.execute(command).id(id).await
    }
}

/// The outcome that a caller takes from an answer.
///
/// # Panics
///
/// At an error that no fault of this suite may lead to.
pub(crate) fn outcome(answer: Answer) -> Outcome {
    match answer {
        Ok(receipt) => Outcome::Done {
            version: receipt.version,
            events: receipt.events,
            position: receipt.position,
            repeat: receipt.repeat,
        },
        Err(CommandError::NotFound(_)) => Outcome::Refused(Refusal::Missing),
        Err(CommandError::AlreadyExists(_)) => Outcome::Refused(Refusal::Exists),
        Err(CommandError::Rejected(AccountRejection::Insufficient { balance, .. })) => {
            Outcome::Refused(Refusal::Insufficient(balance))
        }
        Err(CommandError::Failed(error)) if may_come(&error) => match error {
            Error::Unknown { .. } => Outcome::Unknown(with_causes(&error)),
            error => Outcome::Failed(with_causes(&error)),
        },
        Err(error) => panic!("no fault of this suite leads to {}", with_causes(&error)),
    }
}

/// Whether a fault of this suite may lead to an error: no stream is ever missing, full or forbidden.
fn may_come(error: &Error) -> bool {
    let passes = |error: &StoreError| {
        use StoreError::{NoLeader, Stalled, Unavailable};
        matches!(error, Unavailable { .. } | NoLeader { .. } | Stalled { .. })
    };
    match error {
        Error::Conflict { .. } => true,
        Error::Unknown { source, .. } => passes(source),
        Error::Store(source) => passes(source),
        _ => false,
    }
}

pub(crate) fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done { repeat: false, .. } => "done",
        Outcome::Done { .. } => "repeat",
        Outcome::Refused(_) => "refused",
        Outcome::Failed(_) => "failed",
        Outcome::Unknown(_) => "unknown",
    }
}
