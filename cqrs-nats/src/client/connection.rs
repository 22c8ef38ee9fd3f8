//! A connection that reports when an answer cannot come: the connection was lost, or the server denied the request.

use std::{
    collections::{HashSet, VecDeque},
    fmt, iter,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Client, ClientError, ConnectErrorKind, Event, ServerError, Statistics, connection::State, jetstream,
};
use cqrs_core::{StoreError, port::OutagePart};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::client::{api::Domain, errors::unavailable};

/// A client with its JetStream context, and the clients that replace it after its task has ended. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    first: Arc<Live>,
    pub(crate) unreadable: Unreadable,
}

impl Deref for Connection {
    type Target = Live;

    fn deref(&self) -> &Live {
        self.first.last()
    }
}

/// A client in use, or one that was replaced.
pub(crate) struct Live {
    pub(crate) client: Client,
    /// The domain of the contexts.
    pub(crate) domain: Domain,
    pub(crate) jetstream: jetstream::Context,
    /// The same context for appends, which are sent again if no answer comes.
    pub(crate) appends: jetstream::Context,
    /// The same context for reads, which have a short timeout and can be sent again.
    pub(crate) reads: jetstream::Context,
    pub(crate) link: watch::Receiver<Link>,
    /// Reports whether there is a connection.
    pub(crate) part: Arc<OutagePart>,
    /// The client counts a connection here before it delivers what comes over it.
    pub(crate) statistics: Arc<Statistics>,
    /// The client that replaced this one. A caller may still hold this one: every call on it fails.
    pub(crate) next: OnceLock<Box<Live>>,
}

impl Live {
    fn last(&self) -> &Self {
        let mut live = self;
        while let Some(next) = live.next.get() {
            live = next;
        }
        live
    }
}

/// The subjects with messages whose headers the client cannot parse. They are read message by message from the leader.
#[derive(Clone, Default)]
pub(crate) struct Unreadable(Arc<Mutex<HashSet<String>>>);

impl Unreadable {
    pub(crate) fn has(&self, subject: &str) -> bool {
        let subjects = self.subjects();
        !subjects.is_empty() && subjects.contains(subject)
    }

    /// Notes a subject, or removes it when its messages are readable again.
    pub(crate) fn note(&self, subject: &str, is_unreadable: bool) {
        let mut subjects = self.subjects();
        if !is_unreadable {
            subjects.remove(subject);
        } else if !subjects.contains(subject) {
            tracing::warn!(
                subject,
                "the client cannot read a message on this subject, which ends the connection"
            );
            if subjects.len() >= REMEMBERED_UNREADABLE {
                subjects.clear();
            }
            subjects.insert(subject.to_owned());
        }
    }

    fn subjects(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many subjects with unreadable messages are remembered: about one or two megabytes. A forgotten subject costs
/// another loss of the connection.
const REMEMBERED_UNREADABLE: usize = 10_000;

/// How many denied subjects are remembered; a waiting call looks at once, so there are rarely two.
const REMEMBERED: usize = 256;

/// How long a call waits for a reconnect before it fails.
const RECONNECT: Duration = Duration::from_secs(2);

/// How long the event of a denied permission may arrive after an answer that the server sent later.
pub(crate) const LAST_WORD: Duration = Duration::from_millis(20);

/// About how long it takes until all servers of a cluster know a new consumer.
pub(crate) const NEWS: Duration = Duration::from_millis(10);

/// How often a new consumer may be unknown before that is an error: about a second.
pub(crate) const UNHEARD: u32 = 100;

/// How long it may take to find or create a consumer. A starting server drops requests without an answer; a consumer
/// that it creates late is found by the next attempt.
pub(crate) const OPENING: Duration = Duration::from_secs(2);

/// How often `is_up` checks the state of the connection.
const LOOK: Duration = Duration::from_millis(10);

/// Why there is no connection after a change of the server's users.
pub(crate) const NO_LOGIN: &str = "the server does not accept the credentials any more";

/// What went wrong on the connection, from the client's events.
///
/// The client drops events when too many arrive at once. Then a call that waits for an answer takes its whole timeout,
/// and nothing else is lost; whether the connection is up is asked of the client itself.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// The prefix of the subjects on which answers arrive.
    pub(crate) inbox: String,
    /// How often the connection was lost.
    losses: u64,
    /// How often the server denied a subject.
    refusals: u64,
    /// The last subjects to which it denied publishing or subscribing, the newest last.
    refused: VecDeque<Refused>,
    /// Whether the server has denied the subscription to the inbox: then no answer can be received.
    inbox_refused: bool,
    /// Whether the server has refused the login since the connection was lost.
    login_refused: bool,
}

/// Why no answer comes any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the connection was lost while the answer was awaited")]
    Lost,
    #[error("the server does not permit to {0}")]
    NotPermitted(String),
}

/// The counters of losses and denials at the start of a call: only those that are counted during the call end it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    /// `None` for a call that the client repeats after a reconnect, such as a pull request.
    losses: Option<u64>,
    refusals: u64,
}

impl Before {
    /// For a call that the client repeats after a reconnect.
    pub(crate) fn through_losses(self) -> Self {
        Self { losses: None, ..self }
    }
}

impl Connection {
    pub(crate) fn new(live: Live) -> Self {
        Self { first: Arc::new(live), unreadable: Unreadable::default() }
    }

    /// Connects another client whenever the task of the last one has ended, as long as a handle of the connection
    /// exists. The task panics when a header contains a carriage return, which any user who may publish can write.
    pub(crate) fn keep<F>(&self, connect: impl Fn(u64) -> F + Send + 'static)
    where
        F: Future<Output = Option<Live>> + Send,
    {
        let (first, mut link) = (Arc::downgrade(&self.first), self.link.clone());
        tokio::spawn(async move {
            loop {
                while link.changed().await.is_ok() {}
                // The last handle of the connection is gone, and its client has ended with it.
                if first.strong_count() == 0 {
                    return;
                }
                if let Some(first) = first.upgrade() {
                    let what = "the client of NATS has ended, and another one takes its place".to_owned();
                    first.part.lost(&StoreError::Unavailable { what, source: None });
                }
                let losses = link.borrow().losses + 1;
                let live = loop {
                    if first.strong_count() == 0 {
                        return;
                    }
                    if let Some(live) = connect(losses).await {
                        break live;
                    }
                    sleep(RECONNECT).await;
                };
                let Some(first) = first.upgrade() else { return };
                link = live.link.clone();
                // Only this task sets it.
                let _ = first.last().next.set(Box::new(live));
            }
        });
    }

    /// How often a connection to a server was established, by all clients so far.
    pub(crate) fn connects(&self) -> u64 {
        let clients = iter::successors(Some(&*self.first), |live| live.next.get().map(|next| &**next));
        clients.map(|live| live.statistics.connects.load(Ordering::Relaxed)).sum()
    }

    /// The counters as of now.
    pub(crate) fn before(&self) -> Before {
        let link = self.link.borrow();
        Before { losses: Some(link.losses), refusals: link.refusals }
    }

    /// Runs `call`, which publishes to `subjects` or to subjects beneath them, and fails as soon as its answer cannot
    /// come. The client does not fail pending requests when the connection breaks, and the server reports a denied
    /// subject only as an event of the connection. Without this check the caller would wait for the whole timeout.
    pub(crate) fn answer<T, S: AsRef<str>>(
        &self,
        subjects: &[S],
        call: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, NoAnswer>> {
        self.answer_since(self.before(), subjects, call)
    }

    /// The same for a call that began earlier, at `before`.
    pub(crate) async fn answer_since<T, S: AsRef<str>>(
        &self,
        before: Before,
        subjects: &[S],
        call: impl Future<Output = T>,
    ) -> Result<T, NoAnswer> {
        let mut link = self.link.clone();
        tokio::select! {
            biased;
            answer = call => Ok(answer),
            // Without a sender the connection itself is gone.
            ended = link.wait_for(|link| link.end_of(before, subjects).is_some()) => {
                Err(ended.ok().and_then(|link| link.end_of(before, subjects)).unwrap_or(NoAnswer::Lost))
            }
        }
    }

    /// Waits until the connection is up; returns false if it does not come back soon. A message that is published while
    /// it is down would be sent later, long after the caller has given up.
    pub(crate) async fn is_up(&self) -> bool {
        let deadline = Instant::now() + RECONNECT;
        while self.client.connection_state() != State::Connected || self.link.has_changed().is_err() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }
}

impl Connection {
    /// The error of a call that cannot be sent, because there is no connection.
    pub(crate) fn down(&self, what: impl Into<String>) -> StoreError {
        let why = if self.link.borrow().login_refused { NO_LOGIN } else { "there is no connection" };
        unavailable(what, why)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("link", &*self.link.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    /// For a connection whose inboxes are beneath `inbox`.
    pub(crate) fn of(inbox: String) -> Self {
        Self { inbox, ..Self::default() }
    }

    /// For a connection that replaces others, which were lost so often.
    pub(crate) fn after(self, losses: u64) -> Self {
        Self { losses, ..self }
    }

    /// How often the connection was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    /// Counts an event that ends calls; returns false for any other event.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Connected => {
                self.login_refused = false;
                return false;
            }
            Event::ClientError(ClientError::Other(text)) if is_refused_login(text) => {
                self.login_refused = true;
                return false;
            }
            // A new connection may have other permissions, and subscribes again.
            Event::Disconnected => {
                let inbox = std::mem::take(&mut self.inbox);
                *self = Self { losses: self.losses + 1, refusals: self.refusals, ..Self::of(inbox) };
            }
            Event::ServerError(ServerError::Other(text)) => match refused(text) {
                Some(Refused::Subscribe(subject)) if is_beneath(&subject, &self.inbox) => {
                    self.inbox_refused = true;
                }
                Some(refused) => {
                    self.refusals += 1;
                    self.refused.push_back(refused);
                    if self.refused.len() > REMEMBERED {
                        self.refused.pop_front();
                    }
                }
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// Whether the server has denied the same subject before, on this connection.
    pub(crate) fn has(&self, error: &ServerError) -> bool {
        let ServerError::Other(text) = error else { return false };
        match refused(text) {
            Some(Refused::Subscribe(subject)) if is_beneath(&subject, &self.inbox) => self.inbox_refused,
            Some(refused) => self.refused.contains(&refused),
            None => false,
        }
    }

    /// Why a call on these subjects gets no answer any more.
    fn end_of<S: AsRef<str>>(&self, before: Before, subjects: &[S]) -> Option<NoAnswer> {
        if before.losses.is_some_and(|losses| losses != self.losses) {
            return Some(NoAnswer::Lost);
        }
        if self.inbox_refused {
            return Some(NoAnswer::NotPermitted(format!("subscribe to {}.>", self.inbox)));
        }
        let new = usize::try_from(self.refusals.saturating_sub(before.refusals)).unwrap_or(REMEMBERED);
        let mut refused = self.refused.iter().rev().take(new);
        let ours = refused
            .find(|refused| subjects.iter().any(|subject| is_beneath(refused.subject(), subject.as_ref())))?;
        Some(NoAnswer::NotPermitted(ours.to_string()))
    }
}

/// Whether `subject` equals `top`, or has more tokens after it.
fn is_beneath(subject: &str, top: &str) -> bool {
    subject.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// An operation that the server denied.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refused {
    Publish(String),
    Subscribe(String),
}

impl Refused {
    fn subject(&self) -> &str {
        let (Self::Publish(subject) | Self::Subscribe(subject)) = self;
        subject
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(subject) => write!(f, "publish to {subject}"),
            Self::Subscribe(subject) => write!(f, "subscribe to {subject}"),
        }
    }
}

/// Whether the client failed to connect again because the server refuses the login: the event has only the text of the
/// error's kind.
pub(crate) fn is_refused_login(text: &str) -> bool {
    let kinds = [ConnectErrorKind::AuthorizationViolation, ConnectErrorKind::Authentication];
    kinds.iter().any(|kind| kind.to_string() == text)
}

/// Parses the server's text about a missing permission.
fn refused(text: &str) -> Option<Refused> {
    let rest = text.strip_prefix("Permissions Violation for ")?;
    let (kind, rest) = rest.split_once(" to \"")?;
    let (subject, _) = rest.split_once('"')?;
    match kind {
        "Publish" => Some(Refused::Publish(subject.to_owned())),
        "Subscription" => Some(Refused::Subscribe(subject.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(text: &str) -> Event {
        Event::ServerError(ServerError::Other(format!("Permissions Violation for {text}")))
    }

    const NOWHERE: [&str; 0] = [];

    const NOTHING: Before = Before { losses: Some(0), refusals: 0 };

    #[test]
    fn a_refusal_ends_the_calls_on_its_subject_and_no_others() {
        let mut link = Link::default();
        assert!(link.note(&violation(r#"Publish to "shop.event.order.1""#)));
        let refused = Some(NoAnswer::NotPermitted("publish to shop.event.order.1".to_owned()));
        assert_eq!(link.end_of(NOTHING, &["shop.event.order.1"]), refused);
        assert_eq!(link.end_of(NOTHING, &["other", "shop.event"]), refused);
        assert_eq!(link.end_of(NOTHING, &["shop.event.order.11", "shop.event.order.1.x", "shop.ev"]), None);
        assert_eq!(link.end_of(Before { refusals: 1, ..NOTHING }, &["shop.event.order.1"]), None, "older");
        for number in 0..1_000 {
            link.note(&violation(&format!(r#"Publish to "{number}""#)));
        }
        assert_eq!(link.refused.len(), REMEMBERED);
        assert!(link.end_of(NOTHING, &["999"]).is_some() && link.end_of(NOTHING, &["744"]).is_some());
        assert_eq!(link.end_of(NOTHING, &["743"]), None, "forgotten");
    }

    #[test]
    fn without_an_inbox_no_answer_comes_until_there_is_a_new_connection() {
        let mut link = Link::of("in.us".to_owned());
        assert!(link.note(&violation(r#"Subscription to "_INBOX.x.*""#)));
        assert_eq!(link.end_of(NOTHING, &["shop.event"]), None, "that is not our inbox");
        let elsewhere = NoAnswer::NotPermitted("subscribe to _INBOX.x.*".to_owned());
        assert_eq!(link.end_of(NOTHING, &["_INBOX.x"]), Some(elsewhere));
        assert!(link.note(&violation(r#"Subscription to "in.us.x.*""#)));
        let inbox_refused = NoAnswer::NotPermitted("subscribe to in.us.>".to_owned());
        assert_eq!(link.end_of(NOTHING, &NOWHERE), Some(inbox_refused));
        assert!(link.note(&Event::Disconnected));
        assert_eq!(link.end_of(NOTHING, &NOWHERE), Some(NoAnswer::Lost));
        assert_eq!(link.end_of(Before { losses: Some(1), ..NOTHING }, &NOWHERE), None);
        assert_eq!(link.end_of(NOTHING.through_losses(), &NOWHERE), None);
        assert_eq!(link.inbox, "in.us", "of the next connection, too");
    }

    #[test]
    fn other_events_end_nothing() {
        let mut link = Link::default();
        for event in [Event::Connected, Event::LameDuckMode, violation("something new")] {
            assert!(!link.note(&event), "{event}");
        }
        let text = r#"Permissions Violation for Subscription to "_INBOX.x" using queue "q""#;
        assert_eq!(refused(text), Some(Refused::Subscribe("_INBOX.x".to_owned())));
    }
}
