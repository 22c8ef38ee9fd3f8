//! A command with its settings, before it is awaited.

use std::{borrow::Borrow, sync::Arc};

use tracing::{Instrument, Span, field};

use crate::{
    base::{
        error::{CommandError, Error},
        future::BoxFuture,
        id::{AggregateKey, CausationId, CommandId, CorrelationId},
        metadata::Metadata,
    },
    encoding::fingerprint::{self, Unhashable},
    log::{commit::Receipt, envelope::Envelope},
    model::{
        aggregate::{Aggregate, Handle},
        command::{Command, Context, Fields, Lifecycle},
    },
    port::backend::Backend,
    service::{
        interceptor::{Call, CallKind, Outcome, intercept},
        runtime::Runtime,
    },
    write::{
        decide::{Decide, Identity, decide},
        queue::Queues,
    },
};

/// A command that is carried out when it is awaited; see [`Cqrs::execute`](crate::Cqrs::execute).
#[must_use = "a command is carried out when it is awaited"]
pub struct Execute<'a, B: Backend, C: Command> {
    /// Runs it: `Execute::run` of this type. A function pointer keeps the bound `Handle<C>` off `IntoFuture`, so that a
    /// missing handler is one compile error, where the command is executed, and not a second one at the `await`.
    run: fn(Self) -> BoxFuture<'a, ExecuteResult<C>>,
    runtime: &'a Arc<Runtime<B>>,
    queues: &'a Arc<Queues<C::Aggregate>>,
    command: C,
    id: Option<CommandId>,
    correlation_id: Option<CorrelationId>,
    causation_id: Option<CausationId>,
    metadata: Metadata,
}

/// The result of a command.
type ExecuteResult<C> = Result<Receipt, CommandError<<<C as Command>::Aggregate as Aggregate>::Rejection>>;

impl<'a, B: Backend, C: Command> Execute<'a, B, C>
where
    C::Aggregate: Handle<C>,
{
    pub(crate) fn new(
        runtime: &'a Arc<Runtime<B>>,
        queues: &'a Arc<Queues<C::Aggregate>>,
        command: C,
    ) -> Self {
        let metadata = Metadata::default();
        let run = |this: Self| -> BoxFuture<'a, _> { Box::pin(this.run()) };
        Self { run, runtime, queues, command, id: None, correlation_id: None, causation_id: None, metadata }
    }

    /// The command's id, under which it takes effect once. By default a new one.
    pub fn id(mut self, id: CommandId) -> Self {
        self.id = Some(id);
        self
    }

    /// The business transaction. By default a new one.
    pub fn correlation(mut self, id: CorrelationId) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// The message that caused the command.
    pub fn caused_by(mut self, id: impl Into<CausationId>) -> Self {
        self.causation_id = Some(id.into());
        self
    }

    /// The metadata of the command, which its events keep.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Makes the command a consequence of an event: the event is its cause, and it takes over the event's business
    /// transaction and metadata. For event handlers; policies do so by themselves.
    pub fn following<E>(self, event: &Envelope<E>) -> Self {
        self.correlation(event.correlation_id).caused_by(event.id).metadata(event.metadata.clone())
    }

    async fn run(self) -> ExecuteResult<C> {
        let Self { runtime, queues, command, .. } = self;
        let shell = &runtime.shell;
        let id = self.id.unwrap_or_else(|| CommandId(shell.clock.new_id()));
        let mut context = Context::new(id, shell.clock.now());
        context.correlation_id = self.correlation_id.unwrap_or(context.correlation_id);
        context.causation_id = self.causation_id;
        let queue = queues.queue(command.aggregate_id()).map_err(Error::from)?;
        let key = &queue.key;
        let fingerprint = hash_of(&command).map_err(|source| encode_error(&command, key, &source))?;
        let creates = command.lifecycle() == Lifecycle::Create;
        let identity = Identity { name: command.name(), fingerprint, creates };
        let span = span(&command, key, &context);
        if let Some(traceparent) = self.metadata.traceparent() {
            span.record("traceparent", traceparent);
        }
        if runtime.interceptors.is_empty() {
            context.metadata = self.metadata;
            let decide = decision(command, key.clone());
            return queue.execute(shell, context, identity, decide).instrument(span).await;
        }
        // Shared by the interceptors, which may ask for its JSON, and the queue, which may run it later.
        let command = Arc::new(command);
        let shown = Arc::clone(&command);
        let body = || serde_json::to_value(Fields(&*shown));
        let call = Call {
            kind: CallKind::Command,
            name: command.name(),
            target: C::Aggregate::NAME,
            id: Some(key.id().to_owned()),
            command_id: Some(id),
            correlation_id: Some(context.correlation_id),
            metadata: self.metadata,
            body: &body,
        };
        let dispatch = |metadata| {
            context.metadata = metadata;
            let decide = decision::<C>(command, queue.key.clone());
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
    command: impl Borrow<C> + Send + Sync + 'static,
    key: AggregateKey,
) -> impl Decide<C::Aggregate>
where
    C::Aggregate: Handle<C>,
{
    move |context: &Context, state: &C::Aggregate, version| {
        decide(command.borrow(), context, state, version, &key)
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

impl<'a, B: Backend, C: Command> IntoFuture for Execute<'a, B, C> {
    type Output = Result<Receipt, CommandError<<C::Aggregate as Aggregate>::Rejection>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        (self.run)(self)
    }
}

fn outcome_of<R: std::error::Error>(result: &Result<Receipt, CommandError<R>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(CommandError::Failed(error)) => Outcome::Failed(error.to_string()),
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
