//! A connection that can tell when an answer will not come: it broke, or the server refused the question.

use std::{
    collections::{HashSet, VecDeque},
    fmt, iter,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, Event, ServerError, Statistics, connection::State, jetstream};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// A client with its JetStream context, and whatever takes its place when its task has ended. Clones share it.
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

/// A client that is in use, or was before another took its place.
pub(crate) struct Live {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    /// The same for appends, which are sent again when no answer comes.
    pub(crate) appends: jetstream::Context,
    /// The same for reads, which are answered soon or not at all, and can be asked for again.
    pub(crate) reads: jetstream::Context,
    pub(crate) link: watch::Receiver<Link>,
    /// The client counts a connection here before it hands on what comes over it.
    pub(crate) statistics: Arc<Statistics>,
    /// What took its place. Who has a reference may go on using it: every call fails.
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

/// The subjects on which messages were seen whose headers the client cannot parse. They are read one by one.
#[derive(Clone, Default)]
pub(crate) struct Unreadable(Arc<Mutex<HashSet<String>>>);

impl Unreadable {
    pub(crate) fn has(&self, subject: &str) -> bool {
        let subjects = self.subjects();
        !subjects.is_empty() && subjects.contains(subject)
    }

    /// Notes a subject, or that nothing is wrong on it any more.
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

/// How many subjects with unreadable messages are remembered: as many as fit into a megabyte or two. One that was
/// forgotten costs another loss of the connection.
const REMEMBERED_UNREADABLE: usize = 10_000;

/// How many refused subjects are remembered; a call that waits looks at once, so there are rarely two.
const REMEMBERED: usize = 256;

/// How long a call waits for the connection to come back before it says that there is none.
const RECONNECT: Duration = Duration::from_secs(2);

/// How long the news that something was not permitted may be on its way behind an answer that came after it.
pub(crate) const LAST_WORD: Duration = Duration::from_millis(20);

/// About how long news of a new consumer takes through a cluster.
pub(crate) const NEWS: Duration = Duration::from_millis(10);

/// How often a new consumer may be unknown before that is an error: about a second.
pub(crate) const UNHEARD: u32 = 100;

/// How long it may take to find or make a consumer. A server that is starting drops requests without an answer; what
/// it does late is found at the next attempt.
pub(crate) const OPENING: Duration = Duration::from_secs(2);

/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// What went wrong on the connection, as the client's events tell it.
///
/// The client drops events when too many come at once. A lost loss or refusal costs those who wait for an
/// answer their whole time, no more; whether the connection is up is asked of the client itself.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// What the subjects begin with on which answers come.
    inbox: String,
    /// How often the connection was lost.
    losses: u64,
    /// How often the server refused a subject.
    refusals: u64,
    /// The last subjects to which it did not let us publish or subscribe, the newest last.
    refused: VecDeque<Refused>,
    /// Whether the server has refused the subscription to the inbox, so that no answer can be received.
    deaf: bool,
}

/// Why no answer comes any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the connection was lost while the answer was awaited")]
    Lost,
    #[error("the server does not permit to {0}")]
    NotPermitted(String),
}

/// The counters of losses and refusals at the start of a call: only what is added during the call is about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    /// None for a call that the client sends again after a reconnect, such as a pull request.
    losses: Option<u64>,
    refusals: u64,
}

impl Before {
    /// For a call that the client makes again when it is connected again.
    pub(crate) fn through_losses(self) -> Self {
        Self { losses: None, ..self }
    }
}

impl Connection {
    pub(crate) fn new(live: Live) -> Self {
        Self { first: Arc::new(live), unreadable: Unreadable::default() }
    }

    /// Connects another client whenever the task of the last one has ended, for as long as anybody has the connection.
    /// It ends by a panic when a header has a carriage return in it, which anybody who may publish can write.
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
                tracing::error!("the client of NATS has ended, and another one takes its place");
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
                // Nobody else sets it.
                let _ = first.last().next.set(Box::new(live));
            }
        });
    }

    /// How often a connection to a server was made, by all clients one after the other.
    pub(crate) fn connects(&self) -> u64 {
        let clients = iter::successors(Some(&*self.first), |live| live.next.get().map(|next| &**next));
        clients.map(|live| live.statistics.connects.load(Ordering::Relaxed)).sum()
    }

    /// What has gone wrong until now.
    pub(crate) fn before(&self) -> Before {
        let link = self.link.borrow();
        Before { losses: Some(link.losses), refusals: link.refusals }
    }

    /// Runs `call`, which publishes to `subjects` or to subjects beneath them, unless it turns out that its
    /// answer cannot come: the client does not fail what is under way when the connection breaks, and the
    /// server says only beside the call that a subject is not permitted. The caller would wait until the
    /// call's time is up.
    pub(crate) fn answer<T, S: AsRef<str>>(
        &self,
        subjects: &[S],
        call: impl Future<Output = T>,
    ) -> impl Future<Output = Result<T, NoAnswer>> {
        self.answer_since(self.before(), subjects, call)
    }

    /// The same for a call that began earlier.
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

    /// Waits for the connection to be there; false when it does not come back soon. What is published
    /// while it is down would be sent later, long after the caller has given up.
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

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("link", &*self.link.borrow()).finish_non_exhaustive()
    }
}

impl Link {
    /// Of a connection whose inboxes are beneath `inbox`.
    pub(crate) fn of(inbox: String) -> Self {
        Self { inbox, ..Self::default() }
    }

    /// Of one that takes the place of others, which were lost so often.
    pub(crate) fn after(self, losses: u64) -> Self {
        Self { losses, ..self }
    }

    /// How often the connection was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    /// Keeps what an event says about those who wait for answers; false when it says nothing.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        match event {
            // A new connection may have other permissions, and subscribes anew.
            Event::Disconnected => {
                let inbox = std::mem::take(&mut self.inbox);
                *self = Self { losses: self.losses + 1, refusals: self.refusals, ..Self::of(inbox) };
            }
            Event::ServerError(ServerError::Other(text)) => match refused(text) {
                Some(Refused::Subscribe(subject)) if is_beneath(&subject, &self.inbox) => self.deaf = true,
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

    /// Why a call on these subjects gets no answer any more.
    fn end_of<S: AsRef<str>>(&self, before: Before, subjects: &[S]) -> Option<NoAnswer> {
        if before.losses.is_some_and(|losses| losses != self.losses) {
            return Some(NoAnswer::Lost);
        }
        if self.deaf {
            return Some(NoAnswer::NotPermitted(format!("subscribe to {}.>", self.inbox)));
        }
        let new = usize::try_from(self.refusals.saturating_sub(before.refusals)).unwrap_or(REMEMBERED);
        let mut refused = self.refused.iter().rev().take(new);
        let ours = refused
            .find(|refused| subjects.iter().any(|subject| is_beneath(refused.subject(), subject.as_ref())))?;
        Some(NoAnswer::NotPermitted(ours.to_string()))
    }
}

/// Whether a subject is another one or has more tokens after it.
fn is_beneath(subject: &str, top: &str) -> bool {
    subject.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What the server did not let us do.
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

/// What is in the server's text about a missing permission.
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
        let deaf = NoAnswer::NotPermitted("subscribe to in.us.>".to_owned());
        assert_eq!(link.end_of(NOTHING, &NOWHERE), Some(deaf));
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
