//! The outbox of policies: executes intents (commands and deadlines), which were saved with the policy's state, in the
//! order of each state, until each has a definite outcome.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use tracing::{debug, info};

use crate::{
    base::{
        error::Error, future::BoxFuture, panics::awaited_unless_panics, source::describe,
        store_error::StoreError,
    },
    effects::intents::{Action, Intent, Refusal, Request},
    encoding::json,
    log::commit::Receipt,
    model::by_name::{CommandMessage, RouteError},
    port::{
        clock::Clock,
        deadlines::{AnyDeadlines, Deadline},
    },
};

/// Sends commands for policies and deadlines. It does not keep the service alive.
pub(crate) struct Carrier {
    dispatch: OnceLock<Box<dyn Dispatch>>,
    deadlines: Option<Arc<dyn AnyDeadlines>>,
    clock: Arc<dyn Clock>,
}

/// Dispatch of commands by the names of aggregate and command, without the service's types.
pub(crate) trait Dispatch: Send + Sync + 'static {
    fn knows(&self, aggregate: &str, command: &str) -> bool;
    fn dispatch<'a>(
        &'a self,
        aggregate: &'a str,
        command: &'a str,
        message: CommandMessage,
    ) -> BoxFuture<'a, Result<Receipt, RouteError>>;
}

/// The outcome of an intent.
#[derive(Debug)]
pub(crate) enum Sent {
    Done,
    Refused(Refusal),
    Failed(SendFailure),
}

/// Why an intent was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendFailure {
    pub(crate) reason: String,
    pub(crate) hope: Hope,
}

/// Whether a retry may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hope {
    /// By itself, or after an operator has repaired the store or granted a permission.
    Passes,
    /// In a program that knows the command or the version of the event.
    OtherProgram,
    /// Only after an operator has changed something.
    None,
}

impl SendFailure {
    pub(crate) fn never(reason: String) -> Self {
        Self { reason, hope: Hope::None }
    }

    fn passes(error: &dyn std::error::Error) -> Self {
        Self { reason: describe(error), hope: Hope::Passes }
    }
}

impl From<StoreError> for SendFailure {
    fn from(error: StoreError) -> Self {
        let hope = match &error {
            // The intent itself is right, and a permission can be granted while the service runs.
            StoreError::NotPermitted { .. } => Hope::Passes,
            StoreError::UnknownEvent { .. } | StoreError::UnknownVersion { .. } => Hope::OtherProgram,
            error if error.is_transient() => Hope::Passes,
            _ => Hope::None,
        };
        Self { reason: describe(&error), hope }
    }
}

/// An intent in the outbox.
#[derive(Debug, Clone)]
pub(crate) struct PendingIntent {
    /// Its sort key; see [`noted`](super::policy_projection::notes::noted).
    pub(crate) place: String,
    pub(crate) intent: Intent,
    /// How often an operator has retried it.
    pub(crate) attempts: u32,
}

/// The result of executing the intents of one state.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The key of the state.
    pub(crate) key: String,
    /// The intents with a definite outcome, each with its refusal if it was refused.
    pub(crate) over: Vec<(PendingIntent, Option<Refusal>)>,
    /// The intents that are not executed yet.
    pub(crate) rest: Vec<PendingIntent>,
    /// Why the first of `rest` was not executed.
    pub(crate) failure: Option<SendFailure>,
}

impl Carrier {
    pub(crate) fn new(deadlines: Option<Arc<dyn AnyDeadlines>>, clock: Arc<dyn Clock>) -> Self {
        Self { dispatch: OnceLock::new(), deadlines, clock }
    }

    /// Sets the service's dispatch; before that, intents wait.
    pub(crate) fn set_dispatch(&self, dispatch: impl Dispatch) {
        // The service sets it once, when it starts.
        let _ = self.dispatch.set(Box::new(dispatch));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fails if this program can never execute the intent.
    pub(crate) fn check(&self, intent: &Intent) -> Result<(), String> {
        let (Action::Send(request) | Action::Arm { request, .. }) = &intent.action else { return Ok(()) };
        if self.dispatch.get().is_none_or(|dispatch| dispatch.knows(&request.aggregate, &request.command)) {
            return Ok(());
        }
        Err(unknown(request))
    }

    /// Executes the intents of one state in order, up to the first that fails.
    pub(crate) async fn carry_out(&self, key: String, pending: Vec<PendingIntent>) -> Ended {
        let mut ended = Ended { key, over: Vec::new(), rest: Vec::new(), failure: None };
        let mut pending = pending.into_iter();
        for pending in pending.by_ref() {
            match self.perform(&pending.intent).await {
                Sent::Done => ended.over.push((pending, None)),
                Sent::Refused(refusal) => ended.over.push((pending, Some(refusal))),
                Sent::Failed(failure) => {
                    ended.failure = Some(failure);
                    ended.rest.push(pending);
                    break;
                }
            }
        }
        ended.rest.extend(pending);
        ended
    }

    async fn perform(&self, intent: &Intent) -> Sent {
        let done = |result: Result<(), StoreError>| match result {
            Ok(()) => Sent::Done,
            Err(error) => Sent::Failed(error.into()),
        };
        match (&intent.action, &self.deadlines) {
            (Action::Send(request), _) => self.send(request).await,
            (Action::Arm { deadline, at, request }, Some(deadlines)) => {
                let payload = match json::encode(request) {
                    Ok(payload) => payload,
                    Err(error) => return Sent::Failed(SendFailure::never(error.to_string())),
                };
                let (id, order, arming) = (deadline.clone(), intent.order, request.id.0);
                done(deadlines.arm(&Deadline { id, at: *at, payload, order, arming }).await)
            }
            (Action::Disarm { deadline }, Some(deadlines)) => {
                done(deadlines.disarm(deadline, intent.order).await)
            }
            // A service with policies always has a store of deadlines.
            (Action::Arm { .. } | Action::Disarm { .. }, None) => {
                Sent::Failed(SendFailure::never("this service keeps no deadlines".to_owned()))
            }
        }
    }

    /// Sends a command. A panic fails only this command.
    pub(crate) async fn send(&self, request: &Request) -> Sent {
        let Some(dispatch) = self.dispatch.get() else {
            let what = "the service is starting".to_owned();
            return Sent::Failed(StoreError::Unavailable { what, source: None }.into());
        };
        let sent = dispatch.dispatch(&request.aggregate, &request.command, request.message());
        match awaited_unless_panics(sent).await {
            Ok(Ok(receipt)) => {
                debug!(command = request.command, id = %request.id, repeat = receipt.repeat, "a policy's command");
                Sent::Done
            }
            Ok(Err(error)) => outcome(request, error),
            Err(panic) => Sent::Failed(SendFailure::never(format!("its handler panicked: {panic}"))),
        }
    }
}

/// Sorts an error: the command was refused, has to be sent again, or needs an operator.
fn outcome(request: &Request, error: RouteError) -> Sent {
    let refused = |reason: String| {
        info!(command = request.command, id = %request.id, reason, "a policy's command is refused");
        Sent::Refused(Refusal { request: request.clone(), reason })
    };
    let failure = match error {
        RouteError::Rejected(rejection) => return refused(rejection.to_string()),
        RouteError::Failed(Error::Refused(refusal)) => return refused(refusal.reason),
        RouteError::Failed(Error::Store(error)) => error.into(),
        RouteError::Failed(
            error @ (Error::Conflict { .. }
            | Error::Unknown { .. }
            | Error::Overloaded { .. }
            | Error::Interrupted { .. }),
        ) => SendFailure::passes(&error),
        RouteError::Unknown { .. } => SendFailure { reason: unknown(request), hope: Hope::OtherProgram },
        error @ RouteError::BadBody { .. } => {
            SendFailure { reason: describe(&error), hope: Hope::OtherProgram }
        }
        error @ RouteError::Failed(_) => SendFailure::never(describe(&error)),
    };
    Sent::Failed(failure)
}

fn unknown(request: &Request) -> String {
    format!(
        "this service has no command {:?}: put it into the list `commands(…)` or `internal(…)` of aggregate {:?}, and \
         that into the service",
        request.command, request.aggregate
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::{
        base::{
            error::Refused,
            id::{AggregateKey, CausationId, CommandId, CorrelationId},
            metadata::Metadata,
        },
        memory::{MemoryDueQueue, MemoryEvents},
        port::deadlines::Deadlines,
    };

    fn request() -> Request {
        Request {
            command: "pay".into(),
            aggregate: "order".into(),
            aggregate_id: "7".into(),
            id: CommandId(Uuid::nil()),
            correlation_id: CorrelationId(Uuid::nil()),
            causation_id: CausationId(Uuid::nil()),
            metadata: Metadata::default(),
            body: RawValue::from_string("{}".into()).unwrap(),
        }
    }

    /// Notes the calls that it gets.
    #[derive(Default)]
    struct Told(Mutex<Vec<(String, u64, Option<Uuid>)>>);

    impl Deadlines for Told {
        type Queue = MemoryDueQueue;

        async fn prepare(&self) -> Result<(), StoreError> {
            Ok(())
        }

        async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
            let Deadline { id, order, arming, .. } = deadline.clone();
            self.0.lock().unwrap().push((id, order, Some(arming)));
            Ok(())
        }

        async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
            self.0.lock().unwrap().push((id.to_owned(), order, None));
            Ok(())
        }

        async fn due(&self, clock: Arc<dyn Clock>) -> Result<MemoryDueQueue, StoreError> {
            Deadlines::due(&MemoryEvents::default(), clock).await
        }

        async fn overdue(&self, _: Timestamp) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    #[tokio::test]
    async fn a_deadline_is_told_when_it_was_decided() {
        let told = Arc::new(Told::default());
        let deadlines: Arc<dyn AnyDeadlines> = told.clone();
        let carrier = Carrier::new(Some(deadlines), Arc::new(crate::port::clock::SystemClock));
        let request = Request { id: CommandId(Uuid::from_u128(3)), ..request() };
        let deadline = || "a/b/c".to_owned();
        let arm = Action::Arm { deadline: deadline(), at: Timestamp::UNIX_EPOCH, request };
        let intents = [(7, arm), (9, Action::Disarm { deadline: deadline() })];
        let pending = intents.map(|(order, action)| PendingIntent {
            place: order.to_string(),
            intent: Intent { key: "c".into(), order, action },
            attempts: 0,
        });
        let ended = carrier.carry_out("c".into(), pending.into()).await;
        assert_eq!((ended.over.len(), ended.rest.len(), ended.failure), (2, 0, None));
        let expected = [(deadline(), 7, Some(Uuid::from_u128(3))), (deadline(), 9, None)];
        assert_eq!(*told.0.lock().unwrap(), expected);
    }

    #[test]
    fn every_answer_has_its_outcome() {
        let of = |error| match outcome(&request(), error) {
            Sent::Done => "done".to_owned(),
            Sent::Refused(refusal) => format!("refused: {}", refusal.reason),
            Sent::Failed(failure) => format!("{:?}: {}", failure.hope, failure.reason),
        };
        let aggregate = AggregateKey::new("order", "7").unwrap();
        assert_eq!(of(RouteError::Rejected("no".into())), "refused: no");
        assert_eq!(of(Error::from(Refused::new("who?")).into()), "refused: who?");
        let passes = |error: RouteError| assert!(of(error).starts_with("Passes: "));
        passes(Error::Conflict { aggregate: aggregate.clone(), attempts: 1 }.into());
        passes(Error::Overloaded { aggregate: aggregate.clone(), waiting: 1 }.into());
        passes(Error::Interrupted { aggregate: aggregate.clone() }.into());
        let unavailable = || StoreError::Unavailable { what: "x".into(), source: None };
        passes(Error::from(unavailable()).into());
        let (what, permission) = ("x".to_owned(), "publish".to_owned());
        passes(Error::from(StoreError::NotPermitted { what, permission }).into());
        let command = CommandId(Uuid::nil());
        let source = Box::new(unavailable());
        passes(Error::Unknown { aggregate: aggregate.clone(), command, source }.into());
        let never = |error: RouteError| assert!(of(error).starts_with("None: "));
        never(Error::AnotherCommand { aggregate: aggregate.clone(), command }.into());
        never(Error::from(StoreError::TooLarge { what: "x".into(), bytes: 2, limit: 1 }).into());
        let (event_type, reason) = ("order.paid", "x".into());
        never(Error::Unrecordable { aggregate: aggregate.clone(), event_type, reason }.into());
        let other = |error: RouteError| assert!(of(error).starts_with("OtherProgram: "));
        let (event_type, known) = (event_type.to_owned(), Vec::new());
        other(Error::from(StoreError::UnknownEvent { aggregate, sequence: 1, event_type, known }).into());
        other(RouteError::BadBody { name: "pay", reason: "x".into() });
        let gone = of(RouteError::Unknown { name: "pay".into(), known: String::new() });
        assert!(gone.starts_with("OtherProgram: ") && gone.contains("commands(…)"), "{gone}");
    }
}
