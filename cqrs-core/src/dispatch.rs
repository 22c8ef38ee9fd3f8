//! One command or query on its way through the service, before it is awaited.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use crate::{
    Aggregate, Answer, Backend, BoxFuture, Call, CallKind, CausationId, Command, CommandError, CommandId,
    Context, CorrelationId, Error, Handle, Metadata, Outcome, Query, Receipt, Sources, View,
    cqrs::Inner,
    execute::{self, execute},
    interceptor::intercept,
    query::StoredDocuments,
};

/// A command that is carried out when it is awaited; see [`Cqrs::execute`](crate::Cqrs::execute).
#[must_use = "a command is carried out when it is awaited"]
pub struct Execute<'a, B: Backend, C> {
    inner: &'a Arc<Inner<B>>,
    command: C,
    id: Option<CommandId>,
    correlation_id: Option<CorrelationId>,
    causation_id: Option<CausationId>,
    metadata: Metadata,
}

impl<'a, B: Backend, C: Command> Execute<'a, B, C>
where
    C::Aggregate: Handle<C>,
{
    pub(crate) fn new(inner: &'a Arc<Inner<B>>, command: C) -> Self {
        Self {
            inner,
            command,
            id: None,
            correlation_id: None,
            causation_id: None,
            metadata: Metadata::default(),
        }
    }

    /// The command's id, under which it takes effect once. A new one unless it is set.
    pub fn id(mut self, id: CommandId) -> Self {
        self.id = Some(id);
        self
    }

    /// The business transaction. One of its own unless it is set.
    pub fn correlation(mut self, id: CorrelationId) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// The message that caused the command.
    pub fn caused_by(mut self, id: impl Into<CausationId>) -> Self {
        self.causation_id = Some(id.into());
        self
    }

    /// What travels with the command and is kept with its events.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    async fn run(self) -> Result<Receipt, CommandError<<C::Aggregate as Aggregate>::Rejection>> {
        let Self { inner, command, .. } = self;
        let id = self.id.unwrap_or_else(|| CommandId(inner.clock.new_id()));
        let mut context = Context::new(id, inner.clock.now());
        context.correlation_id = self.correlation_id.unwrap_or(context.correlation_id);
        context.causation_id = self.causation_id;
        let span = execute::span(&command, &context);
        let call = Call {
            kind: CallKind::Command,
            name: C::NAME,
            target: C::Aggregate::NAME,
            id: Some(command.aggregate_id().to_string()),
            command_id: Some(id),
            correlation_id: Some(context.correlation_id),
            metadata: self.metadata,
            body: &|| serde_json::to_value(&command),
        };
        let dispatch = |metadata| {
            context.metadata = metadata;
            let command = &command;
            async move {
                let (events, clock) = (&*inner.events, &*inner.clock);
                let result = execute(events, clock, inner.limits, command, context).await;
                (outcome_of(&result), result)
            }
        };
        intercept(&inner.interceptors, call, dispatch).instrument(span).await?
    }
}

impl<'a, B: Backend, C: Command> IntoFuture for Execute<'a, B, C>
where
    C::Aggregate: Handle<C>,
{
    type Output = Result<Receipt, CommandError<<C::Aggregate as Aggregate>::Rejection>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

fn outcome_of<R: std::error::Error>(result: &Result<Receipt, CommandError<R>>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(CommandError::Failed(error)) => Outcome::Failed(error.to_string()),
        Err(refusal) => Outcome::Rejected(refusal.to_string()),
    }
}

/// A query that is answered when it is awaited; see [`Cqrs::query`](crate::Cqrs::query).
#[must_use = "a query is answered when it is awaited"]
pub struct Ask<'a, B: Backend, Q> {
    inner: &'a Arc<Inner<B>>,
    query: Q,
    after: Option<(String, u64)>,
    patience: Duration,
    metadata: Metadata,
}

impl<'a, B: Backend, Q: Query> Ask<'a, B, Q>
where
    Q::View: Answer<Q>,
{
    pub(crate) fn new(inner: &'a Arc<Inner<B>>, query: Q) -> Self {
        Self { inner, query, after: None, patience: inner.patience, metadata: Metadata::default() }
    }

    /// Answers only once the view has seen the command that gave `receipt`: one's own writes are read.
    pub fn after(mut self, receipt: &Receipt) -> Self {
        self.after = Some((receipt.aggregate.clone(), receipt.position.sequence));
        self
    }

    /// How long to wait for that; the service's [`query_patience`](crate::Builder::query_patience) unless
    /// it is set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What interceptors see beside the query.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    async fn run(self) -> Result<Q::Answer, Error> {
        let Self { inner, query, after, patience, metadata } = self;
        let span = tracing::info_span!("query", query = Q::NAME, view = Q::View::NAME);
        let call = Call {
            kind: CallKind::Query,
            name: Q::NAME,
            target: Q::View::NAME,
            id: None,
            command_id: None,
            correlation_id: None,
            metadata,
            body: &|| Ok(serde_json::Value::Null),
        };
        let dispatch = |_| async move {
            let result = async {
                if let Some((aggregate, sequence)) = after {
                    wait::<B, Q::View>(inner, &aggregate, sequence, patience).await?;
                }
                <Q::View as Answer<Q>>::answer(query, &StoredDocuments::new(&*inner.views)).await
            }
            .await;
            let outcome = match &result {
                Ok(_) => Outcome::Done,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            (outcome, result)
        };
        intercept(&inner.interceptors, call, dispatch).instrument(span).await?
    }
}

impl<'a, B: Backend, Q: Query> IntoFuture for Ask<'a, B, Q>
where
    Q::View: Answer<Q>,
{
    type Output = Result<Q::Answer, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Waits until the view has seen `sequence`, if it sees that aggregate's events at all.
async fn wait<B: Backend, V: View>(
    inner: &Inner<B>,
    aggregate: &str,
    sequence: u64,
    patience: Duration,
) -> Result<(), Error> {
    let Some(projector) = inner.projector(V::NAME) else {
        return Ok(());
    };
    if !V::Of::names().contains(&aggregate) {
        return Ok(());
    }
    tokio::time::timeout(patience, projector.reached(&*inner.views, sequence))
        .await
        .unwrap_or(Err(Error::ViewBehind { view: V::NAME, sequence, waited: patience }))
}
