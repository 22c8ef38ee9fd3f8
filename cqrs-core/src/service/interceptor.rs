//! Interceptors around every dispatch: logging, authorization, validation.

use std::future::Future;

use serde_json::Value;

use crate::base::{
    error::{Error, Refused},
    future::BoxFuture,
    id::{CommandId, CorrelationId},
    metadata::Metadata,
};

/// Runs around the dispatch of commands and queries; the first one registered is the outermost.
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
    /// Passes the call on with [`Next::run`], perhaps changed, or refuses it.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the call is refused; the caller gets it as [`Error::Refused`](crate::Error::Refused).
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>>;
}

/// One command or query.
#[non_exhaustive]
pub struct Call<'a> {
    /// Whether it is a command or a query.
    pub kind: CallKind,
    /// The message's name, such as `create_order`.
    pub name: &'static str,
    /// The aggregate type, for a command, or the views, for a query: one, or those of a tuple.
    pub targets: &'static [&'static str],
    /// The aggregate's id; `None` for a query.
    pub id: Option<String>,
    /// The command's id; `None` for a query.
    pub command_id: Option<CommandId>,
    /// The business transaction; `None` for a query without one.
    pub correlation_id: Option<CorrelationId>,
    /// The metadata of the message. A command's events keep it, so an interceptor can add to it.
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

/// The kind of a [`Call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// A command.
    Command,
    /// A query.
    Query,
}

/// How a call ended, in a form that is the same for every message; the caller gets the typed result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A command was carried out, or a query answered.
    Done,
    /// The business refused the command, with this text.
    Rejected(String),
    /// A technical failure, with this text.
    Failed(String),
}

/// The rest of the chain: the next interceptor, and finally the dispatch.
pub struct Next<'a> {
    rest: &'a [Box<dyn Interceptor>],
    dispatch: Dispatch<'a>,
}

type Dispatch<'a> = Box<dyn FnOnce(Metadata) -> BoxFuture<'a, Outcome> + Send + 'a>;

impl<'a> Next<'a> {
    /// Passes `call` on. Of its fields, only changes of the metadata take effect.
    ///
    /// # Errors
    ///
    /// [`Refused`] when a later interceptor refuses the call.
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

/// Sends `call` through `interceptors` to `dispatch`. They see only the outcome; the caller gets the typed result
/// beside it.
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
    // An interceptor that returns without calling `next` has no typed result for the caller.
    receiver.try_recv().map_err(|_| Refused::new("an interceptor answered in place of the dispatch").into())
}
