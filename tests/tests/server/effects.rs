//! Effects of events beside commands: handlers, at least once, and notices, at most once.
//!
//! The crash matrix (`crashes`) tests a death at each step of handlers, policies and rows.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_core::{
    Backend, Cqrs, Envelope, EventHandler, HandlerError, On, Start, memory::Memory, operate::ProjectorState,
};
use cqrs_nats::{Nats, Topology};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    domain::{Account, AccountEvent, Open, deposit, places},
    eventually,
    ports::Port,
    server_binary,
};

cqrs_tests::on_backends! { "effects", memory nats: {
    what_passes_is_tried_again_and_what_went_well_is_not
    what_never_works_is_set_aside_with_what_follows_it
    a_handler_goes_on_where_it_was
    a_handler_is_never_built_anew
} }

/// The handled events, and how often: the account and the version.
type Done = Arc<Mutex<Vec<(String, u64)>>>;

/// Fails at first for each amount of 3, and always for 13; panics at 14.
#[derive(Clone, Default)]
struct Clerk {
    done: Done,
    tries: Arc<Mutex<HashMap<(String, u64), u32>>>,
}

impl Clerk {
    fn done(&self) -> Vec<(String, u64)> {
        let mut done = self.done.lock().unwrap().clone();
        done.sort();
        done
    }
}

impl EventHandler for Clerk {
    const NAME: &'static str = "clerk";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Clerk {
    async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        let place = (event.subject().to_owned(), event.version);
        let tries = {
            let mut tries = self.tries.lock().unwrap();
            let tries = tries.entry(place.clone()).or_default();
            *tries += 1;
            *tries
        };
        match event.data {
            AccountEvent::Deposited { amount: 3 } if tries == 1 => Err(io::Error::other("not now"))?,
            AccountEvent::Deposited { amount: 3 } if tries == 2 => {
                return Err(HandlerError::transient("nor now"));
            }
            AccountEvent::Deposited { amount: 13 } => return Err(HandlerError::permanent("never thirteen")),
            AccountEvent::Deposited { amount: 14 } => panic!("no fourteen"),
            _ => self.done.lock().unwrap().push(place),
        }
        Ok(())
    }
}

type Bank = Cqrs<(Account,), ()>;

async fn bank<B: Backend>(backend: B, clerk: &Clerk) -> Bank {
    Cqrs::builder(backend).aggregate::<Account>().event_handler(clerk.clone()).start().await.unwrap()
}

async fn open(bank: &Bank, account: &str, amounts: &[u64]) {
    bank.execute(Open { account: account.into(), owner: "anna".into(), amount: 0 }).await.unwrap();
    for amount in amounts {
        bank.execute(deposit(account, *amount)).await.unwrap();
    }
}

async fn what_passes_is_tried_again_and_what_went_well_is_not<B: Backend + Clone>(backend: B) {
    let clerk = Clerk::default();
    open(&bank(backend.clone(), &Clerk::default()).await, "0", &[]).await;
    let bank = bank(backend, &clerk).await;
    open(&bank, "a", &[1, 3, 2]).await;
    open(&bank, "b", &[1]).await;
    eventually("all are handled", async || clerk.done().len() >= 6).await;
    bank.caught_up().await.unwrap();
    let done = clerk.done();
    let of_a_and_b: Vec<_> = done.into_iter().filter(|(account, _)| account != "0").collect();
    assert_eq!(of_a_and_b, places(&[("a", &[1, 2, 3, 4]), ("b", &[1, 2])]), "each once, since nothing died");
    assert_eq!(clerk.tries.lock().unwrap()[&("a".to_owned(), 3)], 3);
    assert_eq!(bank.dead_letters("clerk").await.unwrap().list().await.unwrap(), []);
}

async fn what_never_works_is_set_aside_with_what_follows_it<B: Backend>(backend: B) {
    let clerk = Clerk::default();
    let bank = bank(backend, &clerk).await;
    open(&bank, "a", &[13, 1]).await;
    open(&bank, "b", &[14]).await;
    open(&bank, "c", &[1]).await;
    let error = bank.caught_up().await.unwrap_err();
    assert!(matches!(error, cqrs_core::Error::SetAside { dead_letters: 3, .. }), "{error:?}");
    assert_eq!(clerk.done(), places(&[("a", &[1]), ("b", &[1]), ("c", &[1, 2])]));
    let letters = bank.dead_letters("clerk").await.unwrap().list().await.unwrap();
    let shown: Vec<_> =
        letters.iter().map(|letter| (letter.aggregate.id(), letter.version.unwrap())).collect();
    assert_eq!(shown, [("a", 2), ("a", 3), ("b", 2)]);
    assert!(letters[0].reason.contains("never thirteen") && letters[1].behind, "{letters:?}");
    assert!(letters[2].reason.contains("the handler panicked: no fourteen"), "{letters:?}");
}

async fn a_handler_goes_on_where_it_was<B: Backend + Clone>(backend: B) {
    let (first, second) = (Clerk::default(), Clerk::default());
    let before = bank(backend.clone(), &first).await;
    open(&before, "a", &[1]).await;
    before.caught_up().await.unwrap();
    before.stop().await;
    let after = bank(backend, &second).await;
    open(&after, "b", &[]).await;
    after.caught_up().await.unwrap();
    assert_eq!(first.done(), places(&[("a", &[1, 2])]));
    assert_eq!(second.done(), places(&[("b", &[1])]));
}

async fn a_handler_is_never_built_anew<B: Backend>(backend: B) {
    let bank = bank(backend, &Clerk::default()).await;
    let error = bank.rebuild("clerk").await.unwrap_err();
    assert!(matches!(error, cqrs_core::Error::NotRebuilt { projection: "clerk" }), "{error}");
    eventually("it runs", async || bank.projectors()[0].state == ProjectorState::Running).await;
}

/// The projector runs for the first time after its service has ended, and an event is waiting: it must not begin with
/// it, however the tasks are scheduled.
#[tokio::test]
async fn a_service_that_has_ended_handles_nothing_else() {
    for _ in 0..16 {
        let (backend, clerk) = (Memory::default(), Clerk::default());
        drop(bank(backend.clone(), &clerk).await);
        let others = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
        open(&others, "a", &[1]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(clerk.done(), []);
    }
}

/// The server dies while a listener is connected, which then receives later events again. Nothing is repeated: events
/// before, and those that the crash has lost, are not announced any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_come_at_most_once_through_the_death_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let build = async || LocalServer::builder(server_binary().await).data(folder.path()).port(port.number());
    let server = build().await.start().await.unwrap();
    let url = server.url().to_owned();
    let open_context = async || {
        let nats = Nats::connect(&url).await.unwrap();
        let backend = nats.open(Topology::new("notices").notices()).await.unwrap();
        Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap()
    };
    let bank = open_context().await;
    let heard = listen(&bank).await;
    open(&bank, "a", &[1, 2, 3]).await;
    eventually("it is heard", async || heard.lock().unwrap().len() == 4).await;
    server.kill().await;
    let server = build().await.start().await.unwrap();
    let late = open_context().await;
    let heard_late = listen(&late).await;
    let mut sent = 4;
    eventually("it is heard again", async || {
        bank.execute(deposit("a", 1)).await.unwrap();
        sent += 1;
        let last = Some(("a".to_owned(), sent));
        heard.lock().unwrap().last().cloned() == last && heard_late.lock().unwrap().last().cloned() == last
    })
    .await;
    for heard in [heard, heard_late.clone()] {
        let mut once = heard.lock().unwrap().clone();
        let number = once.len();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), number, "nothing is heard twice");
    }
    assert!(heard_late.lock().unwrap().iter().all(|(_, version)| *version > 4), "nothing is told again");
    server.stop().await;
}

/// Collects the announcements.
async fn listen(bank: &Bank) -> Done {
    let mut notices = bank.notices::<Account, _>().await.unwrap();
    let heard = Done::default();
    let hearing = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(event) = notices.next().await {
            hearing.lock().unwrap().push((event.subject().to_owned(), event.version));
        }
    });
    heard
}
