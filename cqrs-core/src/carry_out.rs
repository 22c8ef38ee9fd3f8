//! Carrying out what policies want: commands and deadlines, until each has a definite answer.

use std::sync::{Arc, OnceLock, Weak};

use tracing::{debug, info};

use crate::{
    Backend, BoxFuture, CommandMessage, Deadline, Error, Receipt, RouteError, StoreError, codec,
    cqrs::Inner,
    deadline::AnyDeadlines,
    effects::{Action, Intent, Refusal, Request},
    lanes::{self, lanes},
    project::describe,
    router::CommandRoutes,
};

/// How many states of a policy are served at once.
const LANES: usize = 16;

/// Sends commands for policies and deadlines. It does not keep the service alive.
pub(crate) struct Carrier {
    dispatch: OnceLock<Box<dyn Dispatch>>,
    deadlines: Option<Arc<dyn AnyDeadlines>>,
}

/// Dispatch by name without the service's types.
pub(crate) trait Dispatch: Send + Sync + 'static {
    fn knows(&self, command: &str) -> bool;
    fn dispatch<'a>(
        &'a self,
        command: &'a str,
        message: CommandMessage,
    ) -> BoxFuture<'a, Result<Receipt, RouteError>>;
}

/// The routes to a service's commands, for as long as the service is there.
pub(crate) struct Routed<B: Backend> {
    pub(crate) inner: Weak<Inner<B>>,
    pub(crate) routes: CommandRoutes<B>,
}

impl<B: Backend> Dispatch for Routed<B> {
    fn knows(&self, command: &str) -> bool {
        self.routes.knows(command)
    }

    fn dispatch<'a>(
        &'a self,
        command: &'a str,
        message: CommandMessage,
    ) -> BoxFuture<'a, Result<Receipt, RouteError>> {
        Box::pin(async move {
            let Some(inner) = self.inner.upgrade() else {
                let what = "the service has ended".to_owned();
                return Err(Error::from(StoreError::Unavailable { what, source: None }).into());
            };
            self.routes.execute(&inner, command, message).await
        })
    }
}

/// How one thing that was wanted ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    Refused(Refusal),
    Failed(StoreError),
}

/// An intent as it is noted.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) note: String,
    pub(crate) intent: Intent,
}

/// What became of several intents.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Those that are over, each with its refusal if it was refused.
    pub(crate) over: Vec<(Pending, Option<Refusal>)>,
    /// Why the others are not.
    pub(crate) failure: Option<StoreError>,
}

impl Carrier {
    pub(crate) fn new(deadlines: Option<Arc<dyn AnyDeadlines>>) -> Self {
        Self { dispatch: OnceLock::new(), deadlines }
    }

    /// Lets it begin; the service's other parts are there from now on.
    pub(crate) fn set_dispatch(&self, dispatch: impl Dispatch) {
        // It is set once, where the service starts.
        let _ = self.dispatch.set(Box::new(dispatch));
    }

    /// What keeps an intent from ever being carried out by this program.
    pub(crate) fn check(&self, intent: &Intent) -> Result<(), String> {
        let (Action::Send(request) | Action::Arm { request, .. }) = &intent.action else { return Ok(()) };
        if self.dispatch.get().is_none_or(|dispatch| dispatch.knows(&request.command)) {
            return Ok(());
        }
        Err(unknown(request))
    }

    /// Carries out intents: those of one state in order, up to one that fails, those of several states at once.
    pub(crate) async fn carry_out(self: &Arc<Self>, pending: Vec<Pending>) -> Round {
        let lanes = lanes(pending, |pending| pending.intent.key.clone());
        let lane = |pending| {
            let this = Arc::clone(self);
            async move { this.lane(pending).await }
        };
        let mut all = Round::default();
        for ended in lanes::run(lanes, LANES, lane).await {
            let ended = ended.unwrap_or_else(|error| Round {
                over: Vec::new(),
                failure: Some(StoreError::unavailable("carrying out what a policy wants", error)),
            });
            all.over.extend(ended.over);
            // What does not pass by itself is what a person has to see.
            let replaces = all.failure.as_ref().is_none_or(StoreError::is_transient);
            all.failure = if replaces { ended.failure.or(all.failure) } else { all.failure };
        }
        all
    }

    async fn lane(&self, pending: Vec<Pending>) -> Round {
        let mut round = Round::default();
        for pending in pending {
            match self.perform(&pending.intent).await {
                Outcome::Done => round.over.push((pending, None)),
                Outcome::Refused(refusal) => round.over.push((pending, Some(refusal))),
                Outcome::Failed(error) => {
                    round.failure = Some(error);
                    break;
                }
            }
        }
        round
    }

    async fn perform(&self, intent: &Intent) -> Outcome {
        let done = |result: Result<(), StoreError>| result.map_or_else(Outcome::Failed, |()| Outcome::Done);
        match (&intent.action, &self.deadlines) {
            (Action::Send(request), _) => {
                failpoint!(BeforeSend, &request.command);
                let outcome = self.send(request).await;
                failpoint!(AfterSend, &request.command);
                outcome
            }
            (Action::Arm { deadline, at, request }, Some(deadlines)) => {
                let payload = match codec::to_json(request) {
                    Ok(payload) => payload,
                    Err(error) => return Outcome::Failed(StoreError::refused(request.shown(), error)),
                };
                let (id, order, arming) = (deadline.clone(), intent.order, request.id.0);
                failpoint!(BeforeArm, deadline);
                let armed = deadlines.arm(&Deadline { id, at: *at, payload, order, arming }).await;
                failpoint!(AfterArm, deadline);
                done(armed)
            }
            (Action::Disarm { deadline }, Some(deadlines)) => {
                failpoint!(BeforeDisarm, deadline);
                let disarmed = deadlines.disarm(deadline, intent.order).await;
                failpoint!(AfterDisarm, deadline);
                done(disarmed)
            }
            // Policies cannot be added without deadlines.
            (Action::Arm { .. } | Action::Disarm { .. }, None) => {
                let what = "this service keeps no deadlines".to_owned();
                Outcome::Failed(StoreError::Refused { what, source: None })
            }
        }
    }

    /// Sends a command.
    pub(crate) async fn send(&self, request: &Request) -> Outcome {
        let Some(dispatch) = self.dispatch.get() else {
            let what = "the service is starting".to_owned();
            return Outcome::Failed(StoreError::Unavailable { what, source: None });
        };
        match dispatch.dispatch(&request.command, request.message()).await {
            Ok(receipt) => {
                debug!(command = request.command, id = %request.id, repeat = receipt.repeat, "a policy's command");
                Outcome::Done
            }
            Err(error) => outcome(request, error),
        }
    }
}

/// What an error says about a command: it was refused, it has to be sent again, or a person must look.
fn outcome(request: &Request, error: RouteError) -> Outcome {
    let refused = |reason: String| {
        info!(command = request.command, id = %request.id, reason, "a policy's command is refused");
        Outcome::Refused(Refusal { request: request.clone(), reason })
    };
    match error {
        RouteError::Rejected(rejection) => refused(rejection.to_string()),
        RouteError::Failed(Error::Refused(refusal)) => refused(refusal.reason),
        RouteError::Failed(Error::Store(error)) => Outcome::Failed(error),
        RouteError::Failed(
            error @ (Error::Conflict { .. }
            | Error::Unknown { .. }
            | Error::Overloaded { .. }
            | Error::Interrupted { .. }),
        ) => Outcome::Failed(StoreError::unavailable(request.shown(), error)),
        RouteError::Unknown { .. } => {
            Outcome::Failed(StoreError::Refused { what: unknown(request), source: None })
        }
        error => Outcome::Failed(StoreError::Refused {
            what: format!("{} cannot be carried out: {}", request.shown(), describe(&error)),
            source: None,
        }),
    }
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
    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::{AggregateKey, CausationId, CommandId, CorrelationId, Metadata, Refused};

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

    #[test]
    fn every_answer_has_its_outcome() {
        let of = |error| match outcome(&request(), error) {
            Outcome::Done => "done".to_owned(),
            Outcome::Refused(refusal) => format!("refused: {}", refusal.reason),
            Outcome::Failed(error) if error.is_transient() => "again".to_owned(),
            Outcome::Failed(error) => format!("halts: {error}"),
        };
        let aggregate = AggregateKey::new("order", "7").unwrap();
        assert_eq!(of(RouteError::Rejected("no".into())), "refused: no");
        assert_eq!(of(Error::from(Refused::new("who?")).into()), "refused: who?");
        assert_eq!(of(Error::Conflict { aggregate: aggregate.clone(), attempts: 1 }.into()), "again");
        assert_eq!(of(Error::Overloaded { aggregate: aggregate.clone(), waiting: 1 }.into()), "again");
        assert_eq!(of(Error::Interrupted { aggregate: aggregate.clone() }.into()), "again");
        let unavailable = || StoreError::Unavailable { what: "x".into(), source: None };
        assert_eq!(of(Error::from(unavailable()).into()), "again");
        let command = CommandId(Uuid::nil());
        let source = Box::new(unavailable());
        assert_eq!(of(Error::Unknown { aggregate: aggregate.clone(), command, source }.into()), "again");
        assert!(of(Error::AnotherCommand { aggregate, command }.into()).starts_with("halts"));
        let gone = of(RouteError::Unknown { name: "pay".into(), known: String::new() });
        assert!(gone.contains("commands(…)"), "{gone}");
    }
}
