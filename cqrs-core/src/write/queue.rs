//! One aggregate in this process: its last known state, and a queue of commands (group commit).
//!
//! There is no actor. The first caller runs its command in its own task. Callers that come meanwhile enter the queue. When
//! the first is done, a spawned task takes up to 64 commands from the queue at a time: each is handled on the state that
//! the command before it left, and all their events go into one append. So a hot aggregate is not limited to one command
//! for each round trip, and a caller that drops its future takes no other caller's command with it.

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use moka::sync::Cache;
use tokio::sync::oneshot;
use tracing::Span;

use crate::{
    base::{
        error::Error,
        id::{AggregateKey, InvalidId, with_text},
        panics::awaited_unless_panics,
    },
    model::{aggregate::Aggregate, command::Context},
    port::event_store::EventStore,
    write::{
        decide::{CommandResult, Decide, Identity},
        resources::Shell,
        settle::{PendingCommand, Settled, settle},
        state::Loaded,
    },
};

/// The most commands that one append carries out together.
const MAX_TOGETHER: usize = 64;

/// The most commands that may wait for one aggregate.
const MAX_WAITING: usize = 10_000;

/// The aggregates of one type that this process has seen lately.
pub struct Queues<A: Aggregate> {
    /// By their ids.
    lately: Cache<Arc<str>, Arc<Queue<A>>, RandomState>,
}

impl<A: Aggregate> Queues<A> {
    /// Room for the states of `capacity` aggregates.
    pub(crate) fn new(capacity: u64) -> Self {
        let builder = Cache::builder().max_capacity(capacity);
        Self { lately: builder.build_with_hasher(RandomState::default()) }
    }

    /// The aggregate of this id. One that was seen lately shares its key, which allocates nothing.
    pub(crate) fn queue(&self, id: &A::Id) -> Result<Arc<Queue<A>>, InvalidId> {
        with_text(id, |id| {
            if let Some(known) = self.lately.get(id) {
                return Ok(known);
            }
            let key = AggregateKey::new(A::NAME, id)?;
            Ok(self.lately.get_with(key.shared_id(), || Arc::new(Queue::new(key))))
        })
    }
}

/// One aggregate: its state and its queue, behind one lock.
pub(crate) struct Queue<A: Aggregate> {
    pub(crate) key: AggregateKey,
    guarded: Mutex<Guarded<A>>,
}

impl<A: Aggregate> Queue<A> {
    /// Carries out one command, alone or together with others that wait for the same aggregate.
    pub(crate) async fn execute<S: EventStore>(
        self: Arc<Self>,
        shell: &Arc<Shell<S>>,
        context: Context,
        identity: Identity,
        decide: impl Decide<A>,
    ) -> CommandResult<A> {
        let span = Span::current();
        let settled = if let Some(mut lead) = Lead::take(&self, shell) {
            let mut alone = [PendingCommand::new(context, identity, &decide, &span)];
            lead.settle(&mut alone).await;
            let [alone] = alone;
            alone.settled
        } else {
            let (reply, answer) = oneshot::channel();
            self.wait(Job { context, identity, decide: Box::new(decide), span, reply }, shell)?;
            // The sender is dropped without an answer only when the runtime shuts down.
            answer.await.ok()
        };
        match settled {
            Some(Settled::CommandResult(answer)) => answer,
            Some(Settled::Panic(panic)) => resume_unwind(panic),
            None => Err(Error::Interrupted { aggregate: self.key.clone() }.into()),
        }
    }
}

struct Guarded<A: Aggregate> {
    /// Whether a task carries out commands.
    led: bool,
    waiting: VecDeque<Job<A>>,
    /// The last known state; none while a task leads, and after a failure.
    state: Option<Box<Loaded<A>>>,
}

/// A command that waits.
struct Job<A: Aggregate> {
    context: Context,
    identity: Identity,
    decide: Box<dyn Decide<A>>,
    span: Span,
    reply: oneshot::Sender<Settled<A>>,
}

impl<A: Aggregate> Job<A> {
    fn pending(&self) -> PendingCommand<'_, A> {
        PendingCommand::new(self.context.clone(), self.identity, &*self.decide, &self.span)
    }
}

impl<A: Aggregate> Queue<A> {
    fn new(key: AggregateKey) -> Self {
        Self { key, guarded: Mutex::new(Guarded { led: false, waiting: VecDeque::new(), state: None }) }
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Guarded<A>> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a command wait for the leader; leads itself if that one has left in between.
    fn wait<S: EventStore>(self: &Arc<Self>, job: Job<A>, shell: &Arc<Shell<S>>) -> Result<(), Error> {
        let mut guarded = self.lock();
        if guarded.waiting.len() >= MAX_WAITING {
            return Err(Error::Overloaded { aggregate: self.key.clone(), waiting: MAX_WAITING });
        }
        guarded.waiting.push_back(job);
        let led = std::mem::replace(&mut guarded.led, true);
        drop(guarded);
        if !led {
            tokio::spawn(carry_out_waiting(Arc::clone(self), Arc::clone(shell)));
        }
        Ok(())
    }
}

/// The right to carry out commands on an aggregate. However it ends (also by a panic, or when the
/// caller's future is dropped), the queue is left in order and those who wait have a leader.
struct Lead<A: Aggregate, S: EventStore> {
    queue: Arc<Queue<A>>,
    shell: Arc<Shell<S>>,
    /// None while it is being worked on, so that whatever interrupts the work leaves no half state.
    state: Option<Box<Loaded<A>>>,
}

impl<A: Aggregate, S: EventStore> Lead<A, S> {
    /// Leads, unless somebody does.
    fn take(queue: &Arc<Queue<A>>, shell: &Arc<Shell<S>>) -> Option<Self> {
        let mut guarded = queue.lock();
        if guarded.led {
            return None;
        }
        guarded.led = true;
        let state = guarded.state.take();
        drop(guarded);
        Some(Self { queue: Arc::clone(queue), shell: Arc::clone(shell), state })
    }

    async fn settle(&mut self, commands: &mut [PendingCommand<'_, A>]) {
        let state = self.state.take();
        self.state = settle(&self.shell, &self.queue.key, state, commands).await;
    }
}

impl<A: Aggregate, S: EventStore> Drop for Lead<A, S> {
    fn drop(&mut self) {
        let mut guarded = self.queue.lock();
        guarded.state = self.state.take();
        guarded.led = false;
        if guarded.waiting.is_empty() {
            return;
        }
        // Outside a runtime nobody can lead, and those who wait are told so.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return guarded.waiting.clear() };
        guarded.led = true;
        drop(guarded);
        runtime.spawn(carry_out_waiting(Arc::clone(&self.queue), Arc::clone(&self.shell)));
    }
}

/// Leads until nobody waits.
async fn carry_out_waiting<A: Aggregate, S: EventStore>(queue: Arc<Queue<A>>, shell: Arc<Shell<S>>) {
    let mut lead = Lead { queue: Arc::clone(&queue), shell, state: queue.lock().state.take() };
    loop {
        let jobs: Vec<_> = {
            let mut guarded = queue.lock();
            let together = guarded.waiting.len().min(MAX_TOGETHER);
            // A caller that has gone away before its turn has taken its command with it.
            guarded.waiting.drain(..together).filter(|job| !job.reply.is_closed()).collect()
        };
        if jobs.is_empty() && queue.lock().waiting.is_empty() {
            return;
        }
        let mut commands: Vec<_> = jobs.iter().map(Job::pending).collect();
        let panic = awaited_unless_panics(lead.settle(&mut commands)).await.err();
        let settled: Vec<_> = commands.into_iter().map(|command| command.settled).collect();
        for (job, settled) in jobs.into_iter().zip(settled) {
            // A panic outside of handlers, such as of `apply`, is every caller's to know that has no answer.
            let panicked = || panic.clone().map(|panic| Settled::Panic(Box::new(panic)));
            let settled = settled.or_else(panicked);
            if let Some(settled) = settled {
                // Nobody waits any more: the command has taken effect all the same.
                let _ = job.reply.send(settled);
            }
        }
    }
}
