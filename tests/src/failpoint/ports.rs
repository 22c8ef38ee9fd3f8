//! Wrappers of the ports of a service, with the points before and after their calls.

use std::{mem, sync::Arc};

use cqrs_core::{
    __private::IN_SAVE,
    Clock, StoreError,
    intercept::{Call, CallKind, Interceptor, Next, Outcome, Refused},
    log::Commit,
    port::{
        AppendError, Batch, BoxFuture, Capabilities, Deadline, Deadlines, Delivery, Due, DueQueue,
        EventStore, Expected, Note, ProjectError, Projection, ProjectionId, Save, SaveError, Subscribe,
        Subscription, ViewStore,
    },
};

use super::{Point, reached, stop};

/// A port with the points before and after its calls. Unless a point is armed, it only forwards the calls.
#[derive(Debug, Clone)]
pub struct Stops<P> {
    inner: P,
}

impl<P> Stops<P> {
    /// Wraps `inner`, and sets the hook for the point inside a write.
    pub fn new(inner: P) -> Self {
        IN_SAVE.get_or_init(|| |whom| stop(Point::InSave, whom));
        Self { inner }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: EventStore + Deadlines + Clone> EventStore for Stops<S> {
    type Subscription = Following<S::Subscription>;

    crate::pass_on! {
        to inner: source name era backlog read last last_confirmed next_after last_before commit_at
            has_subscriber forget log search aggregates load_snapshot save_snapshot
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::none().deadlines(self.clone());
        match self.inner.capabilities().progress_store() {
            Some(progress) => capabilities.progress(Stops::new(progress.clone())),
            None => capabilities,
        }
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        reached(Point::BeforeAppend, &commit.aggregate).await;
        let answer = self.inner.append(commit, expected).await;
        reached(Point::AfterAppend, &commit.aggregate).await;
        answer
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<Self::Subscription, StoreError> {
        // The name of a subscriber begins with the projection; a view store with a name adds that name.
        let projection = request.subscriber.split("=at=").next().unwrap_or_default().to_owned();
        Ok(Following { inner: self.inner.subscribe(request).await?, projection, taken: Vec::new() })
    }
}

/// A subscription of a projection.
#[derive(Debug)]
pub struct Following<S> {
    inner: S,
    projection: String,
    /// The deliveries of a call that was dropped while it waited: the next call returns them.
    taken: Vec<Delivery>,
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: Subscription> Subscription for Following<S> {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        if self.taken.is_empty() {
            self.taken = self.inner.next(max).await?;
            reached(Point::AfterNext, &self.projection).await;
        }
        Ok(mem::take(&mut self.taken))
    }

    fn pending(&self) -> u64 {
        self.inner.pending()
    }

    fn is_standby(&self) -> bool {
        self.inner.is_standby()
    }

    async fn done(&mut self, sequence: u64) -> Result<(), StoreError> {
        reached(Point::BeforeAck, &self.projection).await;
        let told = self.inner.done(sequence).await;
        reached(Point::AfterAck, &self.projection).await;
        told
    }

    async fn leave(self) {
        self.inner.leave().await;
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: Deadlines> Deadlines for Stops<S> {
    type Queue = Stops<S::Queue>;

    async fn prepare(&self) -> Result<(), StoreError> {
        self.inner.prepare().await
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        reached(Point::BeforeArm, &deadline.id).await;
        let armed = self.inner.arm(deadline).await;
        reached(Point::AfterArm, &deadline.id).await;
        armed
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        reached(Point::BeforeDisarm, id).await;
        let disarmed = self.inner.disarm(id, order).await;
        reached(Point::AfterDisarm, id).await;
        disarmed
    }

    async fn due(&self, clock: Arc<dyn Clock>) -> Result<Self::Queue, StoreError> {
        Ok(Stops { inner: self.inner.due(clock).await? })
    }

    async fn overdue(&self, now: jiff::Timestamp) -> Result<u64, StoreError> {
        self.inner.overdue(now).await
    }
}

impl<Q: DueQueue> DueQueue for Stops<Q> {
    async fn next(&mut self) -> Result<Due, StoreError> {
        let due = self.inner.next().await?;
        reached(Point::BeforeDue, due.id()).await;
        let (id, payload, put_off) = (due.id().to_owned(), due.payload().clone(), due.put_off());
        let stops = Due::new(id.clone(), payload, move |again| async move {
            let told = match again {
                None => {
                    reached(Point::AfterDue, &id).await;
                    due.done().await
                }
                Some(pause) => due.later(pause).await,
            };
            reached(Point::AfterDone, &id).await;
            told
        });
        Ok(stops.put_off_before(put_off))
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: ViewStore> ViewStore for Stops<S> {
    crate::pass_on! { to inner: all views but save }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        written(projection, save.notes, self.inner.save(projection, save.clone())).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<P: Projection> Projection for Stops<P> {
    type Store = P::Store;

    crate::pass_on! {
        to inner: settings under_way open checkpoint notes resume waiting let_go reached remove
    }

    fn store(&self) -> &P::Store {
        self.inner.store()
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        written(projection, batch.notes, self.inner.project(projection, batch)).await
    }
}

/// A write of a projection. Its notes say which kind it is: a projector adds dead letters, and a policy adds intents,
/// removes them, or marks them as failed.
async fn written<E>(
    projection: &ProjectionId,
    notes: &[Note],
    write: impl Future<Output = Result<u64, E>>,
) -> Result<u64, E> {
    let has = |prefix, is_new: bool| {
        notes.iter().any(|note| note.key.starts_with(prefix) && note.content.is_some() == is_new)
    };
    if has("pending/", false) || has("failed/", true) {
        reached(Point::BeforeSettle, projection).await;
        let revision = write.await?;
        reached(Point::AfterSettle, projection).await;
        return Ok(revision);
    }
    let (parks, wants) = (has("dead/", true), has("pending/", true));
    reached(Point::BeforeSave, projection).await;
    if parks {
        reached(Point::BeforePark, projection).await;
    }
    let revision = write.await?;
    reached(Point::AfterSave, projection).await;
    if parks {
        reached(Point::AfterPark, projection).await;
    }
    if wants {
        reached(Point::BeforeCarryOut, projection).await;
    }
    Ok(revision)
}

/// The points before and after each command. A rejected command appends nothing, so the event store does not see it.
#[derive(Debug)]
pub struct Sends;

impl Interceptor for Sends {
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
        if call.kind != CallKind::Command {
            return next.run(call);
        }
        Box::pin(async move {
            let command = call.name;
            reached(Point::BeforeSend, command).await;
            let outcome = next.run(call).await;
            reached(Point::AfterSend, command).await;
            outcome
        })
    }
}
