//! The intents of a policy, as data: commands with derived ids, and deadlines.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    base::{
        id::{CausationId, CommandId, CorrelationId, check_id, is_name},
        metadata::Metadata,
    },
    log::envelope::Envelope,
    model::{
        aggregate::{Aggregate, Lists},
        by_name::CommandMessage,
        command::{self, Command},
        event::Event,
    },
};

/// Collects the intents of a policy. Nothing is executed at once: the intents are saved together with the policy's
/// state and progress (transactional outbox), and then executed in this order.
#[derive(Debug)]
pub struct Effects {
    cause: CausedBy,
    pub(crate) intents: Vec<Intent>,
    /// Why an intent cannot be saved; the first such reason.
    problem: Option<String>,
}

/// The event, or the refused command, that a policy reacts to: the cause of its intents.
#[derive(Debug, Clone)]
pub(crate) struct CausedBy {
    pub(crate) policy: &'static str,
    /// The key of the policy's state.
    pub(crate) key: String,
    /// The id of the event, or of the refused command.
    pub(crate) id: Uuid,
    /// The first event in the chain of causes: a refused command leaves nothing in the log that could be a cause.
    pub(crate) causation_id: CausationId,
    pub(crate) correlation_id: CorrelationId,
    pub(crate) metadata: Metadata,
    /// The sequence of that first event.
    pub(crate) order: u64,
}

impl CausedBy {
    pub(crate) fn event<E: Event>(policy: &'static str, key: String, event: &Envelope<E>) -> Self {
        Self {
            policy,
            key,
            id: event.id.0,
            causation_id: event.id.into(),
            correlation_id: event.correlation_id,
            metadata: event.metadata.clone(),
            order: event.position.sequence,
        }
    }

    pub(crate) fn refusal(policy: &'static str, intent: &Intent, request: &Request) -> Self {
        Self {
            policy,
            key: intent.key.clone(),
            id: request.id.0,
            causation_id: request.causation_id,
            correlation_id: request.correlation_id,
            metadata: request.metadata.clone(),
            order: intent.order,
        }
    }
}

impl Effects {
    pub(crate) fn of(cause: CausedBy) -> Self {
        Self { cause, intents: Vec::new(), problem: None }
    }

    /// Sends a command. Its id is derived from the policy and the event, so that it takes effect once, however often
    /// the event is delivered and the command sent. The command must be in a list of its aggregate, see [`Lists`].
    #[expect(clippy::needless_pass_by_value, reason = "a command is sent once")]
    pub fn send<C: Command<Aggregate: Lists<C>>>(&mut self, command: C) {
        if let Some(request) = self.request(&command) {
            self.push(Action::Send(request));
        }
    }

    /// Arms a deadline: `command` is sent at `time`, unless the deadline is disarmed or armed again before. A
    /// deadline's name (1 to 64 of `a-z`, `0-9`, `_` and `-`) belongs to this state of this policy. The command must be in
    /// a list of its aggregate, see [`Lists`].
    ///
    /// The command may already be in flight when its deadline is disarmed. So the aggregate decides: it must refuse a
    /// command that is out of date.
    #[expect(clippy::needless_pass_by_value, reason = "a command is sent once")]
    pub fn at<C: Command<Aggregate: Lists<C>>>(&mut self, deadline: &str, time: Timestamp, command: C) {
        let (deadline, request) = (self.deadline(deadline), self.request(&command));
        if let (Some(deadline), Some(request)) = (deadline, request) {
            self.push(Action::Arm { deadline, at: time, request });
        }
    }

    /// Disarms a deadline of this state. Nothing happens if it is not armed.
    pub fn disarm(&mut self, deadline: &str) {
        if let Some(deadline) = self.deadline(deadline) {
            self.push(Action::Disarm { deadline });
        }
    }

    /// The intents, or why one of them cannot be saved.
    pub(crate) fn into_intents(self) -> Result<Vec<Intent>, String> {
        self.problem.map_or(Ok(self.intents), Err)
    }

    fn push(&mut self, action: Action) {
        self.intents.push(Intent { key: self.cause.key.clone(), order: self.cause.order, action });
    }

    fn request<C: Command>(&mut self, command: &C) -> Option<Request> {
        let id = command.aggregate_id().to_string();
        let checked = check_id(&id).map_err(|error| error.to_string());
        match checked.and_then(|()| body_of(command)) {
            Ok(body) => Some(Request {
                command: command.name().to_owned(),
                aggregate: C::Aggregate::NAME.to_owned(),
                aggregate_id: id,
                id: self.next_id(),
                correlation_id: self.cause.correlation_id,
                causation_id: self.cause.causation_id,
                metadata: self.cause.metadata.clone(),
                body,
            }),
            Err(reason) => self.refuse(format!("command {} cannot be sent: {reason}", command.name())),
        }
    }

    fn next_id(&self) -> CommandId {
        let cause = self.cause.id.to_string();
        CommandId::derived([self.cause.policy, &cause, &self.intents.len().to_string()])
    }

    fn deadline(&mut self, name: &str) -> Option<String> {
        if !is_name(name) {
            return self.refuse(format!("{name:?} is no name of a deadline: 1 to 64 of a-z, 0-9, _ and -"));
        }
        Some(format!("{}/{name}/{}", self.cause.policy, self.cause.key))
    }

    fn refuse<T>(&mut self, problem: String) -> Option<T> {
        self.problem.get_or_insert(problem);
        None
    }
}

/// The fields of a command, as JSON from which the same command can be read.
fn body_of<C: Command>(command: &C) -> Result<Box<RawValue>, String> {
    let fields = command::to_json(command).map_err(|error| error.to_string())?;
    serde_json::from_slice(&fields).map_err(|error| error.to_string())
}

/// An entry of the outbox: a command to send, or a deadline to arm or disarm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The key of the state to which it belongs: the intents of one state are executed in order.
    pub(crate) key: String,
    /// The sequence of the event that it began with; the order in which a deadline was armed or disarmed.
    pub(crate) order: u64,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Send(Request),
    Arm { deadline: String, at: Timestamp, request: Request },
    Disarm { deadline: String },
}

impl Action {
    /// A description for the operator.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Send(request) => request.shown(),
            Self::Arm { deadline, request, .. } => format!("deadline {deadline} for {}", request.shown()),
            Self::Disarm { deadline } => format!("the end of deadline {deadline}"),
        }
    }
}

/// A command to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) command: String,
    pub(crate) aggregate: String,
    pub(crate) aggregate_id: String,
    pub(crate) id: CommandId,
    pub(crate) correlation_id: CorrelationId,
    pub(crate) causation_id: CausationId,
    pub(crate) metadata: Metadata,
    pub(crate) body: Box<RawValue>,
}

impl Request {
    pub(crate) fn message(&self) -> CommandMessage {
        CommandMessage {
            id: Some(self.id),
            correlation_id: Some(self.correlation_id),
            causation_id: Some(self.causation_id),
            metadata: self.metadata.clone(),
            expecting: None,
            body: self.body.get().to_owned().into(),
        }
    }

    /// A description of the command and its aggregate for the operator.
    pub(crate) fn shown(&self) -> String {
        format!("command {} ({}) on {}/{}", self.command, self.id, self.aggregate, self.aggregate_id)
    }
}

/// A refusal of a policy's command by the business: a rejection of the aggregate, an error of the command's lifecycle,
/// or a refusal of an interceptor.
#[derive(Debug)]
pub struct Refusal {
    pub(crate) request: Request,
    pub(crate) reason: String,
}

impl Refusal {
    /// The command, if it has this type.
    pub fn command<C: Command>(&self) -> Option<C> {
        let Request { command, aggregate, body, .. } = &self.request;
        let same = C::NAMES.contains(&command.as_str()) && aggregate == C::Aggregate::NAME;
        same.then(|| command::from_json(command, body.get().as_bytes()).ok()).flatten()
    }

    /// The stored name of the command, such as `reserve_stock`.
    pub fn command_name(&self) -> &str {
        &self.request.command
    }

    /// The command's id.
    pub fn command_id(&self) -> CommandId {
        self.request.id
    }

    /// The text of the rejection.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> CausedBy {
        let id = Uuid::from_u128(1);
        CausedBy {
            policy: "p",
            key: "k".into(),
            id,
            causation_id: CausationId(id),
            correlation_id: CorrelationId(id),
            metadata: Metadata::default(),
            order: 5,
        }
    }

    #[test]
    fn each_effect_has_an_id_of_its_own_and_the_order_of_its_event() {
        let ids = || {
            let mut effects = Effects::of(cause());
            let mut ids = Vec::new();
            for number in 0..3 {
                ids.push(effects.next_id());
                effects.push(Action::Disarm { deadline: number.to_string() });
            }
            assert!(effects.intents.iter().all(|intent| intent.order == 5 && intent.key == "k"));
            ids
        };
        let first = ids();
        assert_eq!(first, ids(), "the same event leads to the same ids");
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "{first:?}");
    }
}
