//! A log that is replaced under a running service: its store is restored from an older copy, or its stream is created
//! again. The service's memory is of the log before, and sequences do not show the difference.

mod worlds;

use async_nats::jetstream;
use cqrs_core::{
    CommandError, CommandId, Error, Receipt, log::LogPosition, memory::MemoryViews, port::EventStore as _,
};
use cqrs_tests::{
    TestContext,
    domain::{self, AccountRejection, Touch, Withdraw, deposit, key, open, statement},
};

use worlds::{InAFile, InMemory, MadeAgain, MadeAgainInAFile, OnDisk, Restored, RestoredInAFile, World};

type Bank = domain::Bank;

async fn bank<W: World>(world: &W) -> Bank {
    domain::bank((world.events().await, MemoryViews::default())).await
}

fn withdraw(amount: u64) -> Withdraw {
    Withdraw { account: "a".into(), amount }
}

const LOST: &str = "a deposit that the log has lost";

/// A service that knows account a with 530 in version 4 at sequence 3, and the open account c. But the log was
/// replaced: there, a has 35 at the same sequence, and c does not exist.
struct Scene<W: World> {
    world: W,
    bank: Bank,
    /// Of a command that the log has lost.
    receipt: Receipt,
    /// Of an answer before.
    position: LogPosition,
    /// How many events a has.
    version: u64,
}

impl<W: World> Scene<W> {
    async fn set() -> Self {
        let mut world = W::new().await;
        let bank = bank(&world).await;
        bank.execute(open("a", 35)).await.unwrap();
        world.copy().await;
        let lost = bank.execute(deposit("a", 100)).id(CommandId::derived([LOST])).await.unwrap();
        let receipt = bank.execute(deposit("a", 395)).await.unwrap();
        assert_eq!((lost.version, receipt.version, receipt.position.sequence), (3, 4, 3));
        bank.execute(open("c", 1)).await.unwrap();
        let position = bank.query(statement("a")).after(&receipt).with_position().await.unwrap().position;
        world.replace().await;
        let other = self::bank(&world).await;
        other.execute(open("b", 0)).await.unwrap();
        let newest = if W::KEEPS_THE_FIRST {
            other.execute(deposit("a", 0)).await.unwrap()
        } else {
            other.execute(deposit("b", 0)).await.unwrap();
            other.execute(open("a", 35)).await.unwrap()
        };
        assert_eq!(newest.position.sequence, receipt.position.sequence, "sequences do not tell");
        other.stop().await;
        Self { world, bank, receipt, position, version: newest.version }
    }

    /// The log is whole, and account a has `balance`.
    async fn check(self, balance: u64) {
        let key = key("a");
        let commits = self.world.events().await.read(&key, 0, 100).await.unwrap().commits;
        let (mut found, mut version) = (0, 0);
        for event in
            commits.iter().flat_map(|stored| (0..stored.commit.events.len()).map(move |at| (stored, at)))
        {
            let (stored, at) = event;
            version += 1;
            assert_eq!(stored.commit.first_version + at as u64, version, "{commits:#?}");
            let recorded = &stored.commit.events[at];
            match recorded.event_type.as_ref() {
                "account.deposited" => found += amount(&recorded.data),
                "account.withdrawn" => found -= amount(&recorded.data),
                _ => {}
            }
        }
        assert_eq!(found, balance);
        self.bank.stop().await;
    }
}

fn amount(data: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(data).unwrap()["amount"].as_u64().unwrap()
}

fn refused(answer: Result<Receipt, CommandError<AccountRejection>>) -> AccountRejection {
    match answer {
        Err(CommandError::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

const POOR: AccountRejection = AccountRejection::Insufficient { balance: 35, amount: 300 };

async fn what_the_log_cannot_cover_is_not_accepted<W: World>() {
    let scene = Scene::<W>::set().await;
    assert_eq!(refused(scene.bank.execute(withdraw(300)).await), POOR);
    let receipt = scene.bank.execute(withdraw(30)).await.unwrap();
    assert_eq!((receipt.version, receipt.repeat), (scene.version + 1, false));
    scene.check(5).await;
}

async fn what_is_accepted_follows_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let receipt = scene.bank.execute(deposit("a", 5)).await.unwrap();
    assert_eq!(receipt.version, scene.version + 1);
    scene.check(40).await;
}

async fn a_refusal_is_about_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let refusal = refused(scene.bank.execute(withdraw(1_000)).await);
    assert_eq!(refusal, AccountRejection::Insufficient { balance: 35, amount: 1_000 });
    scene.check(35).await;
}

async fn a_command_that_changes_nothing_sees_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let receipt = scene.bank.execute(Touch { account: "a".into() }).await.unwrap();
    assert_eq!(receipt.version, scene.version);
    scene.check(35).await;
}

async fn what_the_log_has_lost_does_not_exist<W: World>() {
    let scene = Scene::<W>::set().await;
    let answer = scene.bank.execute(deposit("c", 1)).await;
    assert!(matches!(answer, Err(CommandError::NotFound(_))), "{answer:?}");
    assert!(matches!(scene.bank.execute(open("a", 1)).await, Err(CommandError::AlreadyExists(_))));
    scene.check(35).await;
}

async fn what_the_log_has_lost_can_be_created<W: World>() {
    let scene = Scene::<W>::set().await;
    let receipt = scene.bank.execute(open("c", 7)).await.unwrap();
    assert_eq!(receipt.version, 2);
    assert_eq!(scene.bank.execute(deposit("c", 1)).await.unwrap().version, 3);
    scene.check(35).await;
}

async fn commands_that_share_an_append_see_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let (one, two, three, four) = tokio::join!(
        scene.bank.execute(withdraw(20)).into_future(),
        scene.bank.execute(withdraw(20)).into_future(),
        scene.bank.execute(withdraw(20)).into_future(),
        scene.bank.execute(withdraw(300)).into_future(),
    );
    assert!(matches!(refused(four), AccountRejection::Insufficient { balance: 15 | 35, .. }));
    assert_eq!([one, two, three].iter().filter(|answer| answer.is_ok()).count(), 1);
    scene.check(15).await;
}

async fn a_repeat_of_what_the_log_has_lost_takes_effect<W: World>() {
    let scene = Scene::<W>::set().await;
    let id = CommandId::derived([LOST]);
    let receipt = scene.bank.execute(deposit("a", 100)).id(id).await.unwrap();
    assert!(!receipt.repeat);
    assert!(scene.bank.execute(deposit("a", 100)).id(id).await.unwrap().repeat);
    scene.check(135).await;
}

async fn a_receipt_for_what_the_log_has_lost_is_void<W: World>() {
    let scene = Scene::<W>::set().await;
    let query = || scene.bank.query(statement("a"));
    let sent = serde_json::to_string(&scene.receipt).unwrap();
    for receipt in [scene.receipt.clone(), serde_json::from_str(&sent).unwrap()] {
        let error = query().after(&receipt).await.unwrap_err();
        assert!(matches!(error, Error::ReceiptVoid { sequence: 3, .. }), "{error:?}");
        let error = scene.bank.seen("statement", &receipt).await.unwrap_err();
        assert!(matches!(error, Error::ReceiptVoid { sequence: 3, .. }), "{error:?}");
    }
    scene.check(35).await;
}

async fn a_position_that_the_log_has_lost_is_void<W: World>() {
    let scene = Scene::<W>::set().await;
    let error = scene.bank.query(statement("a")).after(&scene.position).await.unwrap_err();
    assert!(matches!(error, Error::PositionVoid { .. }), "{error:?}");
    scene.check(35).await;
}

macro_rules! worlds {
    ({ $($module:ident: $world:ty;)* } $cases:tt) => {
        $(mod $module {
            use super::*;
            worlds! { in $world; $cases }
        })*
    };
    (in $world:ty; { $($case:ident)* }) => {
        $(#[tokio::test]
        async fn $case() {
            super::$case::<$world>().await;
        })*
    };
}

worlds! {
    {
    a_shorter_log_in_memory: InMemory<1>;
    another_log_in_memory: InMemory<0>;
    a_stream_that_was_restored: Restored;
    a_stream_that_was_made_again: MadeAgain;
    a_server_with_an_older_folder: OnDisk;
    a_file_that_was_replaced: InAFile;
    a_file_that_was_made_again: MadeAgainInAFile;
    a_file_that_was_restored: RestoredInAFile;
    }
    {
        what_the_log_cannot_cover_is_not_accepted
        what_is_accepted_follows_the_log
        a_refusal_is_about_the_log
        a_command_that_changes_nothing_sees_the_log
        what_the_log_has_lost_does_not_exist
        what_the_log_has_lost_can_be_created
        commands_that_share_an_append_see_the_log
        a_repeat_of_what_the_log_has_lost_takes_effect
        a_receipt_for_what_the_log_has_lost_is_void
        a_position_that_the_log_has_lost_is_void
    }
}

/// An append does not say which stream it is for, and another one can have its subjects when the log's stream is gone.
/// Only a new aggregate expects nothing that the other one lacks.
#[tokio::test]
async fn what_another_stream_has_stored_is_no_success() {
    let context = TestContext::new("taken-over").await;
    let bank = domain::bank((context.backend().await.events, MemoryViews::default())).await;
    bank.execute(open("a", 1)).await.unwrap();
    let jetstream = jetstream::new(async_nats::connect(context.url()).await.unwrap());
    let stream = context.stream();
    let mut config = jetstream.get_stream(&stream).await.unwrap().cached_info().config.clone();
    jetstream.delete_stream(&stream).await.unwrap();
    config.name = format!("{stream}-OTHER");
    jetstream.create_stream(config.clone()).await.unwrap();
    let error = bank.execute(open("b", 1)).await.unwrap_err();
    jetstream.delete_stream(&config.name).await.unwrap();
    let CommandError::Failed(Error::Store(error)) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains(&format!("stored it in stream {stream}-OTHER")), "{error}");
}
