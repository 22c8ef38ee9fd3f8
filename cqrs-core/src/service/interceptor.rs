//! What happens around every dispatch: logging, authorization, validation.

use std::future::Future;

use serde_json::Value;

use crate::base::{
    error::{Error, Refused},
    future::BoxFuture,
    id::{CommandId, CorrelationId},
    metadata::Metadata,
};

/// Stands around the dispatch of commands and queries; the first one registered is the outermost.
///
/// ```
/// use cqrs_core::{intercept::{Call, Interceptor, Next, Outcome, Refused}, port::BoxFuture};
///
/// struct OnlyKnownUsers;
///
/// impl Interceptor for OnlyKnownUsers {
///     fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
///         Box::pin(async move {
///             match call.metadata.get("user") {
///                 Some(_) => next.run(call).await,
///                 None => Err(Refused::new(format!("{} needs a user", call.name))),
///             }
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interceptor",
    note = "add `impl Interceptor for {Self}` with `fn around`"
)]
pub trait Interceptor: Send + Sync + 'static {
    /// Lets the call through with [`Next::run`], perhaps changed, or refuses it.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the call does not go through; the caller gets it as
    /// [`Error::Refused`](crate::Error::Refused).
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>>;
}

/// One command or query on its way.
#[non_exhaustive]
pub struct Call<'a> {
    /// Whether it is a command or a query.
    pub kind: CallKind,
    /// The message's name, such as `create_order`.
    pub name: &'static str,
    /// The aggregate type, for a command, or the view, for a query.
    pub target: &'static str,
    /// The aggregate's id; none for a query.
    pub id: Option<String>,
    /// The command's id; none for a query.
    pub command_id: Option<CommandId>,
    /// The business transaction; none for a query that was given none.
    pub correlation_id: Option<CorrelationId>,
    /// What travels with the message. For a command it is kept with its events, so an interceptor can
    /// add to it.
    pub metadata: Metadata,
    pub(crate) body: &'a (dyn Fn() -> Result<Value, serde_json::Error> + Send + Sync),
}

impl Call<'_> {
    /// The command's fields as JSON, for validation and logs; null for a query.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the command cannot be written as JSON.
    pub fn body(&self) -> Result<Value, Refused> {
        (self.body)()
            .map_err(|error| Refused::new(format!("{} cannot be written as JSON: {error}", self.name)))
    }
}

/// What kind of message a [`Call`] carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A command.
    Command,
    /// A query.
    Query,
}

/// How a call ended, as far as it is the same for every message; the caller gets the typed result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A command was carried out, or a query answered.
    Done,
    /// The business said no, in these words.
    Rejected(String),
    /// A technical failure, in these words.
    Failed(String),
}

/// The rest of the way: the next interceptor, and at last the dispatch itself.
pub struct Next<'a> {
    rest: &'a [Box<dyn Interceptor>],
    dispatch: Dispatch<'a>,
}

type Dispatch<'a> = Box<dyn FnOnce(Metadata) -> BoxFuture<'a, Outcome> + Send + 'a>;

impl<'a> Next<'a> {
    /// Goes on with `call`. Of its fields only the metadata can be changed on the way.
    ///
    /// # Errors
    ///
    /// [`Refused`] when a later interceptor does not let it through.
    ///
    /// # Cancel safety
    ///
    /// That of the dispatch: a dropped command may take effect.
    pub fn run(self, call: Call<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
        if let Some((first, rest)) = self.rest.split_first() {
            return first.around(call, Next { rest, dispatch: self.dispatch });
        }
        let dispatch = (self.dispatch)(call.metadata);
        Box::pin(async move { Ok(dispatch.await) })
    }
}

/// Sends `call` through `interceptors`, around `dispatch`. They see only the outcome; the typed result
/// comes back to the caller beside it.
pub(crate) async fn intercept<'a, T, F>(
    interceptors: &'a [Box<dyn Interceptor>],
    call: Call<'a>,
    dispatch: impl FnOnce(Metadata) -> F + Send + 'a,
) -> Result<T, Error>
where
    T: Send + 'a,
    F: Future<Output = (Outcome, T)> + Send + 'a,
{
    if interceptors.is_empty() {
        return Ok(dispatch(call.metadata).await.1);
    }
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let dispatch: Dispatch<'a> = Box::new(move |metadata| {
        Box::pin(async move {
            let (outcome, result) = dispatch(metadata).await;
            // The receiver lives until the interceptors are done, so this cannot fail.
            let _ = sender.send(result);
            outcome
        })
    });
    Next { rest: interceptors, dispatch }.run(call).await?;
    // An interceptor that answers without calling `next` has nothing typed to give to the caller.
    receiver.try_recv().map_err(|_| Refused::new("an interceptor answered in place of the dispatch").into())
}
