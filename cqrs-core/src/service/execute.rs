//! A command with its settings, before it is awaited.

use std::{
    borrow::Borrow,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use jiff::Timestamp;
use tracing::{Instrument, Span, field};

use crate::{
    base::{
        error::{CommandError, Error},
        future::BoxFuture,
        id::{AggregateKey, CausationId, CommandId, CorrelationId},
        metadata::Metadata,
        rejection::IsRejection,
        source::describe,
    },
    encoding::fingerprint::{self, Unhashable},
    log::{commit::Receipt, envelope::Envelope},
    model::{
        aggregate::{Aggregate, Handle},
        command::{Command, CommandOf, Context, Fields, Lifecycle},
    },
    service::{
        deferred::Deferred,
        interceptor::{Call, CallKind, Outcome, intercept},
        runtime::Runtime,
    },
    write::{
        decide::{Decide, Identity, decide},
        queue::Queues,
    },
};

/// A command that is carried out when it is awaited; see [`Cqrs::execute`](crate::Cqrs::execute).
///
/// It borrows nothing, so that it can also be spawned, or awaited together with others:
///
/// ```
/// # use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Event, Handle, Handled, memory::Memory};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Paid }
/// # #[derive(Debug, thiserror::Error)]
/// # enum Never {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderEvent, rejection = Never, commands(Pay))]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
/// # #[derive(Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order, upsert)]
/// # struct Pay { #[command(id)] order: u32 }
/// # impl Handle<Pay> for Order {
/// #     fn handle(&self, _: &Pay, _: &Context) -> Handled<Self> { Ok(OrderEvent::Paid.into()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().start().await?;
/// let (one, other) = tokio::join!(cqrs.execute(Pay { order: 1 }), cqrs.execute(Pay { order: 2 }));
/// assert_eq!((one?.version, other?.version), (1, 1));
///
/// let later = tokio::spawn(cqrs.execute(Pay { order: 1 }));
/// assert_eq!(later.await??.version, 2);
/// # Ok(())
/// # }
/// ```
///
/// Its settings are made before it is polled for the first time; later ones have no effect.
#[must_use = "a command is carried out when it is awaited"]
pub struct Execute<C: Command>(Deferred<Settings<C>, ExecuteResult<C>>);

/// A command and its settings. The command is a `C` until it begins, so that a `C` that cannot be sent is reported where
/// it is declared, and not a second time where it is executed; then it is a [`CommandOf<C>`].
struct Settings<C: Command, Form = C> {
    runtime: Arc<Runtime>,
    queues: Arc<Queues<C::Aggregate>>,
    command: Form,
    id: Option<CommandId>,
    correlation_id: Option<CorrelationId>,
    causation_id: Option<CausationId>,
    metadata: Metadata,
    expected: Option<u64>,
}

/// The result of a command.
type ExecuteResult<C> = Result<Receipt, CommandError<<<C as Command>::Aggregate as Aggregate>::Rejection>>;

impl<C: Command> Execute<C>
where
    C::Aggregate: Handle<C>,
{
    pub(crate) fn new(runtime: &Arc<Runtime>, queues: &Arc<Queues<C::Aggregate>>, command: C) -> Self {
        let settings = Settings {
            runtime: Arc::clone(runtime),
            queues: Arc::clone(queues),
            command,
            id: None,
            correlation_id: None,
            causation_id: None,
            metadata: Metadata::default(),
            expected: None,
        };
        Self(Deferred::Prepared(settings, |settings| Box::pin(settings.begun().run())))
    }
}

/// Without the bound `Handle<C>`, for the same reason.
impl<C: Command> Execute<C> {
    /// As a future that can be sent in generic code, too, which does not know that a `C` can.
    pub(crate) fn begun(self) -> BoxFuture<'static, ExecuteResult<C>> {
        self.0.begun()
    }

    /// The command's id, under which it takes effect once. By default a new one. Make one with [`CommandId::new`] and
    /// keep it, to send the command again under the same id when no answer came.
    ///
    /// A repeat must be the same command. It is compared by its name and by the content of its fields, as JSON shows
    /// them: with any difference it fails with [`Error::AnotherCommand`]. Three things do not count, since they say
    /// nothing or differ from run to run:
    ///
    /// - the order of the elements of lists, sets and maps: serde shows a `HashSet` like a `Vec`, and a hash table has
    ///   another order each time. So a repeat with a `Vec` in another order is the same command, has no second effect,
    ///   and gets the receipt of the first one;
    /// - the names of Rust types, and whether a value is wrapped in a newtype or in `Some`;
    /// - the [`metadata`](Self::metadata), the [`correlation`](Self::correlation), the [cause](Self::caused_by) and the
    ///   [expected version](Self::expecting).
    ///
    /// The order of tuples and arrays (`[T; N]`) counts. A list whose order has a meaning can carry it in its elements,
    /// such as a number for each.
    pub fn id(self, id: CommandId) -> Self {
        Self(self.0.with(|settings| settings.id = Some(id)))
    }

    /// The version of the aggregate on which the caller has decided, such as that of the page that a person has seen;
    /// 0 if it did not exist. If the aggregate has another version, nothing is stored, and the command fails with
    /// [`CommandError::Changed`]. The lifecycle and the handler are asked only if the version is the expected one.
    ///
    /// A [`Receipt`] has the version after its command, [`Cqrs::aggregate`](crate::Cqrs::aggregate) the present one. A
    /// repeat under the same [`id`](Self::id) gets its first receipt, although its own events have changed the version
    /// since.
    ///
    /// ```
    #[doc = include_str!("../../examples/expecting.rs")]
    /// ```
    pub fn expecting(self, version: u64) -> Self {
        Self(self.0.with(|settings| settings.expected = Some(version)))
    }

    /// The business transaction. By default a new one.
    pub fn correlation(self, id: CorrelationId) -> Self {
        Self(self.0.with(|settings| settings.correlation_id = Some(id)))
    }

    /// The message that caused the command.
    pub fn caused_by(self, id: impl Into<CausationId>) -> Self {
        Self(self.0.with(|settings| settings.causation_id = Some(id.into())))
    }

    /// The metadata of the command, which its events keep: `.metadata([("user", "anna")].try_into()?)`.
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self(self.0.with(|settings| settings.metadata = metadata))
    }

    /// Makes the command a consequence of an event: the event is its cause, and it takes over the event's business
    /// transaction and metadata. For event handlers; policies do so by themselves.
    pub fn following<E>(self, event: &Envelope<E>) -> Self {
        self.correlation(event.correlation_id).caused_by(event.id).metadata(event.metadata.clone())
    }
}

impl<C: Command> Settings<C> {
    fn begun(self) -> Settings<C, CommandOf<C>> {
        Settings {
            runtime: self.runtime,
            queues: self.queues,
            command: self.command.into(),
            id: self.id,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            metadata: self.metadata,
            expected: self.expected,
        }
    }
}

impl<C: Command> Settings<C, CommandOf<C>>
where
    C::Aggregate: Handle<C>,
{
    async fn run(self) -> ExecuteResult<C> {
        let Self { runtime, queues, command, .. } = self;
        let shell = &runtime.shell;
        let given = self.id.is_some();
        let id = self.id.unwrap_or_else(|| CommandId(shell.clock.new_id()));
        // Its time is that of the decision, which sets it.
        let mut context = Context::new(id, Timestamp::UNIX_EPOCH);
        context.correlation_id = self.correlation_id.unwrap_or(context.correlation_id);
        context.causation_id = self.causation_id;
        let (queue, identity, span) = {
            let command: &C = command.borrow();
            let queue = queues.queue(command.aggregate_id()).map_err(Error::from)?;
            let fingerprint =
                hash_of(command).map_err(|source| encode_error(command, &queue.key, &source))?;
            let creates = command.lifecycle() == Lifecycle::Create;
            let span = span(command, &queue.key, &context);
            (queue, Identity { name: command.name(), fingerprint, creates, given }, span)
        };
        let key = &queue.key;
        if let Some(traceparent) = self.metadata.traceparent() {
            span.record("traceparent", traceparent);
        }
        if runtime.interceptors.is_empty() {
            context.metadata = self.metadata;
            let decide = decision::<C>(command, self.expected, key.clone());
            return queue.execute(shell, context, identity, decide).instrument(span).await;
        }
        // Shared by the interceptors, which may ask for its JSON, and the queue, which may run it later.
        let command = Arc::new(command);
        let shown = Arc::clone(&command);
        let body = || serde_json::to_value(Fields::<C>((*shown).borrow()));
        let call = Call {
            kind: CallKind::Command,
            name: identity.name,
            targets: const { &[C::Aggregate::NAME] },
            id: Some(key.id().to_owned()),
            command_id: Some(id),
            correlation_id: Some(context.correlation_id),
            metadata: self.metadata,
            body: &body,
        };
        let dispatch = |metadata| {
            context.metadata = metadata;
            let decide = decision::<C>(command, self.expected, queue.key.clone());
            async move {
                let result = queue.execute(shell, context, identity, decide).await;
                (outcome_of(&result), result)
            }
        };
        // On the heap, so that a service without interceptors has a smaller future.
        Box::pin(intercept(&runtime.interceptors, call, dispatch)).instrument(span).await?
    }
}

/// The command's decision, for the task that carries it out.
fn decision<C: Command>(
    command: impl Borrow<CommandOf<C>> + Send + Sync + 'static,
    expected: Option<u64>,
    key: AggregateKey,
) -> impl Decide<C::Aggregate>
where
    C::Aggregate: Handle<C>,
{
    move |context: &Context, state: &C::Aggregate, version| {
        let command: &CommandOf<C> = command.borrow();
        decide::<C>(command.borrow(), context, state, version, expected, &key)
    }
}

/// A hash of the command's name and fields, the same in every program and at every time.
fn hash_of<C: Command>(command: &C) -> Result<u64, Unhashable> {
    let fields = fingerprint::content(&Fields(command))?;
    Ok(fingerprint::fold(fingerprint::text(command.name()), fields))
}

fn encode_error<C: Command>(command: &C, key: &AggregateKey, source: &Unhashable) -> Error {
    let source = serde::ser::Error::custom(source);
    Error::Encode { what: format!("command {} on {key}", command.name()), source }
}

impl<C: Command> Future for Execute<C> {
    type Output = ExecuteResult<C>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

fn outcome_of<R: IsRejection>(result: &Result<Receipt, CommandError<R>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(CommandError::Failed(error)) => Outcome::Failed(describe(&error)),
        Err(refusal) => Outcome::Rejected(refusal.to_string()),
    }
}

/// The span of one command's execution, with the ids that logs are searched by.
fn span<C: Command>(command: &C, key: &AggregateKey, context: &Context) -> Span {
    tracing::info_span!(
        "execute",
        command = command.name(),
        aggregate = key.name(),
        id = key.id(),
        command_id = %context.command_id,
        correlation_id = %context.correlation_id,
        traceparent = field::Empty,
        attempts = field::Empty,
    )
}
