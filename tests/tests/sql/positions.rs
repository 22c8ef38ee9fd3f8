//! Answers with a position, and queries that wait for one, on every view store.

use std::sync::Arc;

use cqrs_core::{
    Aggregate, Answer, Apply, Backend, Command, Context, Cqrs, Documents, Envelope, Error, Event, Handle,
    Handled, Project, Query, View,
    futures::Answered,
    log::LogPosition,
    memory::{Memory, MemoryEvents},
    port::EventStore,
};
use cqrs_tests::domain::{
    Account, AccountEvent, CountOpenings, Openings, Statement, deposit, open, statement,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

cqrs_tests::on_backends! { "positions", memory nats sqlite postgres: {
    an_answer_shows_all_that_is_before_its_position
    a_position_is_no_later_than_what_was_read
    a_query_waits_for_the_position_of_another_answer
    a_position_of_another_log_is_void
    of_several_views_it_is_the_position_that_all_have_reached
    an_answer_says_how_many_events_it_does_not_show
} }

type Bank = Cqrs<(Account,), (Statement, Openings)>;

async fn bank<B: Backend>(backend: B) -> Bank {
    let builder = Cqrs::builder(backend).aggregate::<Account>();
    builder.view::<Statement>().view::<Openings>().start().await.unwrap()
}

/// How many accounts there are.
#[derive(Query)]
#[query(view = (Statement, Openings), answer = u64)]
struct Both;

impl Answer<Both> for (Statement, Openings) {
    async fn answer(_: Both, (_, openings): &Self::Reader) -> Result<u64, Error> {
        Ok(openings.get("all").await?.map_or(0, |found| found.count))
    }
}

/// Writes and a rebuild go on meanwhile.
async fn an_answer_shows_all_that_is_before_its_position<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let mut rebuild = bank.rebuild("openings").await.unwrap();
    let rebuilding = tokio::spawn(async move { rebuild.finished().await });
    let (mut sequences, mut answers) = (Vec::new(), Vec::new());
    while !rebuilding.is_finished() || answers.len() < 100 {
        let account = sequences.len().to_string();
        let (opened, one, both) = tokio::join!(
            bank.execute(open(account, 0)),
            bank.query(CountOpenings).with_position(),
            bank.query(Both).with_position(),
        );
        sequences.push(opened.unwrap().position.sequence);
        answers.extend([one, both].map(Result::unwrap).map(|one| (one.answer, one.position.sequence)));
    }
    rebuilding.await.unwrap().unwrap();
    for (shown, position) in answers {
        let before = sequences.partition_point(|sequence| *sequence <= position) as u64;
        assert!(shown >= before, "{shown} of {before} events up to {position}");
    }
    bank.stop().await;
}

/// Reads a statement, and answers later.
#[derive(Query)]
#[query(view = Statement, answer = usize)]
struct Paused(Arc<[Notify; 2]>);

impl Answer<Paused> for Statement {
    async fn answer(Paused(notify): Paused, documents: &Documents<Self>) -> Result<usize, Error> {
        let found = documents.get("1").await?.unwrap_or_default().versions.len();
        notify[0].notify_one();
        notify[1].notified().await;
        Ok(found)
    }
}

async fn a_position_is_no_later_than_what_was_read<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let opened = bank.execute(open("1", 0)).await.unwrap();
    let pause = Arc::new([Notify::new(), Notify::new()]);
    let asking = tokio::spawn(bank.query(Paused(Arc::clone(&pause))).after(&opened).with_position());
    pause[0].notified().await;
    bank.execute(deposit("1", 1)).await.unwrap();
    // Another build answers the next queries.
    bank.rebuild("statement").await.unwrap().finished().await.unwrap();
    let last = bank.execute(deposit("1", 1)).await.unwrap();
    let next = bank.query(statement("1")).after(&last).with_position().await.unwrap();
    assert_eq!(next.answer.unwrap().versions, [1, 2, 3]);
    assert_eq!((next.position.sequence, next.dead_letters), (last.position.sequence, 0));
    pause[1].notify_one();
    let Answered { answer, position, .. } = asking.await.unwrap().unwrap();
    assert_eq!((answer, position.sequence), (1, opened.position.sequence));
    bank.stop().await;
}

async fn a_query_waits_for_the_position_of_another_answer<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let at_first = bank.query(CountOpenings).with_position().await.unwrap();
    assert_eq!((at_first.answer, at_first.position.sequence), (0, 0));
    for account in 0..30 {
        let receipt = bank.execute(open(account.to_string(), 1)).await.unwrap();
        let first = bank.query(statement(account.to_string())).after(&receipt).with_position().await.unwrap();
        let sent = serde_json::to_string(&first.position).unwrap();
        let position: LogPosition = serde_json::from_str(&sent).unwrap();
        assert_eq!(position, first.position);
        // Another view, and one that is asked for two things at once.
        let count = bank.query(CountOpenings).after(&position).await.unwrap();
        assert_eq!(count, account + 1);
        let second = bank.query(statement("0")).after(&at_first.position).after(&position).with_position();
        assert!(second.await.unwrap().position.sequence >= position.sequence);
        bank.seen("openings", &position).await.unwrap();
    }
    bank.stop().await;
}

async fn a_position_of_another_log_is_void<B: Backend>(backend: B) {
    let (bank, other) = (bank(backend).await, bank(Memory::default()).await);
    for bank in [&bank, &other] {
        bank.execute(open("1", 1)).await.unwrap();
        bank.execute(deposit("1", 1)).await.unwrap();
        bank.caught_up().await.unwrap();
    }
    let position = bank.query(statement("1")).with_position().await.unwrap().position;
    let of_other = other.query(statement("1")).with_position().await.unwrap().position;
    let missing = |field: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(&position).unwrap();
        json[field] = value;
        serde_json::from_value::<LogPosition>(json).unwrap()
    };
    for void in [
        of_other.clone(),
        missing("sequence", 1_000.into()),
        missing("event", serde_json::to_value(of_other.event).unwrap()),
    ] {
        let error = bank.query(statement("1")).after(&void).await.unwrap_err();
        assert!(matches!(error, Error::PositionVoid { .. }), "{error:?}");
        let error = bank.seen("openings", &void).await.unwrap_err();
        assert!(matches!(error, Error::PositionVoid { .. }), "{error:?}");
    }
    bank.query(statement("1")).after(&position).await.unwrap();
    bank.stop().await;
}

/// Aggregates whose views are seldom or often changed, and one that takes no event with the number 13.
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Written, rejection = std::convert::Infallible)]
struct Note;

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "note.written")]
struct Written;

impl Apply<Written> for Note {
    fn apply(&mut self, _: &Written) {}
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Note, upsert)]
struct Write(#[command(id)] u32);

impl Handle<Write> for Note {
    fn handle(&self, _: &Write, _: &Context) -> Handled<Self> {
        Ok(Written.into())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted(u32);

impl View for Noted {
    const NAME: &'static str = "noted";
    type Of = Note;
}

impl Project<Written> for Noted {
    fn project(&mut self, event: &Envelope<Written>) {
        assert_ne!(event.subject(), "13");
        self.0 += 1;
    }
}

#[derive(Query)]
#[query(view = (Statement, Noted), answer = ())]
struct WithNotes;

impl Answer<WithNotes> for (Statement, Noted) {
    async fn answer(_: WithNotes, _: &Self::Reader) -> Result<(), Error> {
        Ok(())
    }
}

async fn of_several_views_it_is_the_position_that_all_have_reached<B: Backend>(backend: B) {
    let builder = Cqrs::builder(backend).aggregate::<Account>().aggregate::<Note>();
    let bank = builder.view::<Statement>().view::<Noted>().start().await.unwrap();
    let nothing = bank.query(WithNotes).with_position().await.unwrap();
    assert_eq!(nothing.position.sequence, 0);
    bank.execute(Write(1)).await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    bank.execute(deposit("1", 1)).await.unwrap();
    bank.caught_up().await.unwrap();
    let last = bank.execute(deposit("1", 1)).await.unwrap();
    // The notes have nothing to apply since their first event.
    let answered = bank.query(WithNotes).after(&last).with_position().await.unwrap();
    assert_eq!(answered.position.sequence, last.position.sequence);
    bank.query(WithNotes).after(&answered.position).await.unwrap();
    bank.seen("noted", &answered.position).await.unwrap();
    bank.stop().await;
    // Nobody projects the next note, so that the view of notes is behind.
    let written = bank.execute(Write(1)).await.unwrap();
    let answered = bank.query(WithNotes).with_position().await.unwrap();
    assert!(answered.position.sequence < written.position.sequence);
}

async fn an_answer_says_how_many_events_it_does_not_show<B: Backend>(backend: B) {
    let builder = Cqrs::builder(backend).aggregate::<Account>().aggregate::<Note>();
    let bank = builder.view::<Statement>().view::<Noted>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    bank.execute(Write(13)).await.unwrap();
    let last = bank.execute(Write(1)).await.unwrap();
    let answered = bank.query(WithNotes).after(&last).with_position().await.unwrap();
    assert_eq!(answered.dead_letters, 1);
    bank.seen("noted", &answered.position).await.unwrap();
    bank.stop().await;
}

/// The bank's accounts as another context follows them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Foreign(u32);

impl View for Foreign {
    const NAME: &'static str = "foreign";
    type Of = Account;
}

impl Project<AccountEvent> for Foreign {
    fn project(&mut self, _: &Envelope<AccountEvent>) {
        self.0 += 1;
    }
}

#[derive(Query)]
#[query(view = Foreign, answer = Option<Foreign>)]
struct GetForeign {
    #[query(key)]
    account: String,
}

#[derive(Query)]
#[query(view = (Statement, Foreign), answer = ())]
struct OfBoth;

impl Answer<OfBoth> for (Statement, Foreign) {
    async fn answer(_: OfBoth, _: &Self::Reader) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_position_is_one_of_the_log_that_the_view_follows() {
    let public = MemoryEvents::default();
    let other = bank((public.clone(), cqrs_core::memory::MemoryViews::default())).await;
    other.execute(open("1", 0)).await.unwrap();
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>().view::<Statement>();
    let bank = builder.following(&public).view::<Foreign>().start().await.unwrap();
    bank.execute(open("2", 0)).await.unwrap();
    bank.caught_up().await.unwrap();
    let Answered { answer, position, .. } =
        bank.query(GetForeign { account: "1".into() }).with_position().await.unwrap();
    assert_eq!((answer.unwrap().0, position.sequence), (1, 1));
    assert_eq!(position.log, public.log(&["account"]).await.unwrap().id);
    // The other context can wait for it, and so can all queries of the view.
    other.query(statement("1")).after(&position).await.unwrap();
    bank.query(OfBoth).after(&position).await.unwrap();
    let error = bank.query(statement("2")).after(&position).await.unwrap_err();
    assert!(matches!(error, Error::PositionVoid { sequence: 1, .. }), "{error:?}");
    let error = bank.query(OfBoth).with_position().await.unwrap_err();
    assert!(matches!(&error, Error::SeveralLogs { views } if views == "statement, foreign"), "{error:?}");
}
