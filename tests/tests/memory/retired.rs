//! Events that are not recorded any more, and those that a projection ignores.

use std::sync::{Arc, Mutex};

use cqrs_core::{
    Aggregate, Apply, Command, CommandError, Context, Cqrs, Effects, Envelope, Error, Event, EventHandler,
    Handle, Handled, HandlerError, On, Policy, Project, React, Start, View,
    memory::{Memory, MemoryEvents, MemoryViews},
    model::Codec,
    port::EventStore as _,
    testing::given,
};
use cqrs_tests::domain::{Account, AccountEvent, deposit, open};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "door", codec = bincode)]
enum DoorEvent {
    Opened,
    #[event(retired)]
    Slammed {
        loudness: u8,
    },
    Painted {
        #[serde(skip_serializing_if = "Option::is_none")]
        colour: Option<String>,
    },
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = DoorEvent, rejection = No)]
struct Door {
    loudness: u8,
}

impl Apply<DoorEvent> for Door {
    fn apply(&mut self, event: &DoorEvent) {
        if let DoorEvent::Slammed { loudness } = event {
            self.loudness = *loudness;
        }
    }
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Door, upsert)]
struct Do {
    #[command(id)]
    door: u32,
    events: Vec<u8>,
}

impl Handle<Do> for Door {
    fn handle(&self, command: &Do, _: &Context) -> Handled<Self> {
        let event = |number: &u8| match number {
            0 => DoorEvent::Opened,
            1 => DoorEvent::Slammed { loudness: 9 },
            _ => DoorEvent::Painted { colour: None },
        };
        Ok(command.events.iter().map(event).collect())
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_before_anything_is_stored() {
    let events = MemoryEvents::default();
    let cqrs =
        Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Door>().start().await.unwrap();
    assert_eq!(DoorEvent::CODEC, Codec::Bincode);
    let refused = cqrs.execute(Do { door: 1, events: vec![0, 1] }).await.unwrap_err();
    let CommandError::Failed(Error::Retired { event_type, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(*event_type, "door.slammed");
    assert!(
        refused.to_string().contains("a command on door/1 led to door.slammed, which is retired"),
        "{refused}"
    );
    let refused = cqrs.execute(Do { door: 1, events: vec![0, 2] }).await.unwrap_err();
    assert!(matches!(refused, CommandError::Failed(Error::Unrecordable { event_type: "door.painted", .. })));
    assert_eq!(events.log(&[Door::NAME]).await.unwrap().last_sequence, 0);
    assert_eq!(
        cqrs.execute(Do { door: 1, events: vec![0, 0] }).await.unwrap().version,
        2,
        "the others go on"
    );
}

#[test]
fn a_retired_event_is_applied_and_the_test_kit_refuses_it_like_the_service() {
    let slammed = given::<Door>([DoorEvent::Slammed { loudness: 3 }]);
    assert_eq!(slammed.state().loudness, 3);
    let again = std::panic::catch_unwind(|| {
        given::<Door>([]).when(Do { door: 1, events: vec![1] }).then([DoorEvent::Slammed { loudness: 9 }]);
    });
    assert!(again.is_err());
}

/// The versions that something has seen of accounts without deposits.
type Seen = Arc<Mutex<Vec<u64>>>;

const DEPOSITED: &[&str] = &["account.deposited", "account.of-tomorrow"];

#[derive(Default, Serialize, Deserialize)]
struct Quiet(Vec<u64>);

impl View for Quiet {
    const NAME: &'static str = "quiet";
    const IGNORED: &'static [&'static str] = DEPOSITED;
    type Of = Account;
}

impl Project<AccountEvent> for Quiet {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        assert!(matches!(event.data, AccountEvent::Opened { .. }), "{event:?}");
        self.0.push(event.version);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct QuietPolicy;

impl Policy for QuietPolicy {
    const NAME: &'static str = "quiet-policy";
    const START: Start = Start::Beginning;
    const IGNORED: &'static [&'static str] = DEPOSITED;
    type Of = Account;
}

impl React<AccountEvent> for QuietPolicy {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        assert!(matches!(event.data, AccountEvent::Opened { .. }), "{event:?}");
        effects.send(deposit(event.subject(), 1));
    }
}

struct QuietHandler(Seen);

impl EventHandler for QuietHandler {
    const NAME: &'static str = "quiet-handler";
    const START: Start = Start::Beginning;
    const IGNORED: &'static [&'static str] = DEPOSITED;
    type Of = Account;
}

impl On<AccountEvent> for QuietHandler {
    async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        assert!(matches!(event.data, AccountEvent::Opened { .. }), "{event:?}");
        self.0.lock().unwrap().push(event.version);
        Ok(())
    }
}

#[tokio::test]
async fn views_policies_and_handlers_pass_over_what_they_ignore() {
    let seen = Seen::default();
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>().view::<Quiet>();
    let builder = builder.policy::<QuietPolicy>().event_handler(QuietHandler(Arc::clone(&seen)));
    let cqrs = builder.start().await.unwrap();
    for account in ["a", "b"] {
        cqrs.execute(open(account, 5)).await.unwrap();
    }
    cqrs.caught_up().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 1]);
    for projection in ["quiet", "quiet-policy", "quiet-handler"] {
        assert_eq!(cqrs.dead_letters(projection).await.unwrap().list().await.unwrap(), [], "{projection}");
    }
    let receipt = cqrs.execute(deposit("a", 1)).await.unwrap();
    assert_eq!(receipt.version, 4, "the policy has paid in once");
}

/// The same view in a release before that.
#[derive(Default, Serialize, Deserialize)]
struct Loud(Vec<u64>);

impl View for Loud {
    const NAME: &'static str = Quiet::NAME;
    type Of = Account;
}

impl Project<AccountEvent> for Loud {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        assert!(matches!(event.data, AccountEvent::Opened { .. }), "a deposit");
        self.0.push(event.version);
    }
}

#[tokio::test]
async fn a_dead_letter_that_is_ignored_by_now_is_passed_over() {
    let (events, views) = (MemoryEvents::default(), MemoryViews::default());
    let backend = || (events.clone(), views.clone());
    let first = Cqrs::builder(backend()).aggregate::<Account>().view::<Loud>().start().await.unwrap();
    first.execute(open("a", 5)).await.unwrap();
    let error = first.caught_up().await.unwrap_err();
    assert!(matches!(error, Error::SetAside { dead_letters: 1, .. }), "{error:?}");
    assert_eq!(first.dead_letters("quiet").await.unwrap().list().await.unwrap().len(), 1);
    first.stop().await;

    let next = Cqrs::builder(backend()).aggregate::<Account>().view::<Quiet>().start().await.unwrap();
    let dead = next.dead_letters("quiet").await.unwrap();
    let letters = dead.list().await.unwrap();
    let retried = dead.retry(&letters[0].aggregate).await.unwrap();
    assert_eq!((retried.applied, retried.stopped_at), (1, None));
    assert_eq!(dead.list().await.unwrap(), []);
}
