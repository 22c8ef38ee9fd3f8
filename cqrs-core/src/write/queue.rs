//! One aggregate in this process: its last known state, and a queue of commands (group commit).
//!
//! There is no actor. The first caller runs its command in its own task. Commands of other callers meanwhile enter the
//! queue. When the first command has ended, a spawned task takes up to 64 commands from the queue at a time: each is
//! handled on the state that the command before it left, and all their events are appended as one commit. So a hot
//! aggregate is not limited to one command for each round trip, and a caller that drops its future takes no other
//! caller's command with it.

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
    write::{
        decide::{CommandResult, Decide, Identity},
        resources::Shell,
        settle::{PendingCommand, Settled, settle},
        state::Loaded,
    },
};

/// The most commands in one commit.
const MAX_TOGETHER: usize = 64;

/// The most commands that may wait for one aggregate.
const MAX_WAITING: usize = 10_000;

/// The aggregates of one type that this process has used recently.
pub struct Queues<A: Aggregate> {
    /// The queues by aggregate id.
    lately: Cache<Arc<str>, Arc<Queue<A>>, RandomState>,
}

impl<A: Aggregate> Queues<A> {
    /// Makes a cache of the states of `capacity` aggregates.
    pub(crate) fn new(capacity: u64) -> Self {
        let builder = Cache::builder().max_capacity(capacity);
        Self { lately: builder.build_with_hasher(RandomState::default()) }
    }

    /// The queue of the aggregate with this id. A cached one shares its key, which allocates nothing.
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

/// One aggregate: its state and its queue of commands, behind one lock.
pub(crate) struct Queue<A: Aggregate> {
    pub(crate) key: AggregateKey,
    guarded: Mutex<Guarded<A>>,
}

impl<A: Aggregate> Queue<A> {
    /// Carries out one command, alone or as a part of a group commit.
    pub(crate) async fn execute(
        self: Arc<Self>,
        shell: &Arc<Shell>,
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
    /// The last known state; `None` while a task carries out commands, and after a failure.
    state: Option<Box<Loaded<A>>>,
}

/// A command in the queue.
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

    /// Code that can panic never runs under the lock, so a poisoned lock is still whole.
    fn lock(&self) -> MutexGuard<'_, Guarded<A>> {
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues a command. If the task that carried out commands has ended in between, it spawns another.
    fn wait(self: &Arc<Self>, job: Job<A>, shell: &Arc<Shell>) -> Result<(), Error> {
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

/// The right to carry out commands on an aggregate; one task has it at a time. When the task ends (also by a panic, or
/// because the caller drops its future), `drop` puts the state back, and spawns a task for the commands that wait.
struct Lead<A: Aggregate> {
    queue: Arc<Queue<A>>,
    shell: Arc<Shell>,
    /// `None` while it is being worked on: an interrupted task leaves no half-changed state.
    state: Option<Box<Loaded<A>>>,
}

impl<A: Aggregate> Lead<A> {
    /// Takes the right, unless another task has it.
    fn take(queue: &Arc<Queue<A>>, shell: &Arc<Shell>) -> Option<Self> {
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

impl<A: Aggregate> Drop for Lead<A> {
    fn drop(&mut self) {
        let mut guarded = self.queue.lock();
        guarded.state = self.state.take();
        guarded.led = false;
        if guarded.waiting.is_empty() {
            return;
        }
        // Outside a runtime no task can be spawned: the waiting callers get `Error::Interrupted`.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return guarded.waiting.clear() };
        guarded.led = true;
        drop(guarded);
        runtime.spawn(carry_out_waiting(Arc::clone(&self.queue), Arc::clone(&self.shell)));
    }
}

/// Carries out commands until the queue is empty.
async fn carry_out_waiting<A: Aggregate>(queue: Arc<Queue<A>>, shell: Arc<Shell>) {
    let mut lead = Lead { queue: Arc::clone(&queue), shell, state: queue.lock().state.take() };
    loop {
        let jobs: Vec<_> = {
            let mut guarded = queue.lock();
            let together = guarded.waiting.len().min(MAX_TOGETHER);
            // A caller that dropped its future before its command was taken from the queue has withdrawn the command.
            guarded.waiting.drain(..together).filter(|job| !job.reply.is_closed()).collect()
        };
        if jobs.is_empty() && queue.lock().waiting.is_empty() {
            return;
        }
        let mut commands: Vec<_> = jobs.iter().map(Job::pending).collect();
        let panic = awaited_unless_panics(lead.settle(&mut commands)).await.err();
        let settled: Vec<_> = commands.into_iter().map(|command| command.settled).collect();
        for (job, settled) in jobs.into_iter().zip(settled) {
            // A panic outside of the handlers, such as in `apply`, goes to every caller that has no answer yet.
            let panicked = || panic.clone().map(|panic| Settled::Panic(Box::new(panic)));
            let settled = settled.or_else(panicked);
            if let Some(settled) = settled {
                // The caller dropped its future: the command has taken effect all the same.
                let _ = job.reply.send(settled);
            }
        }
    }
}
