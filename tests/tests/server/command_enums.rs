//! The guarantees of an enum of commands, on memory and on a real NATS server alike: it is as many commands as it has
//! variants, and only its handler can tell the difference.

use std::sync::{Arc, Mutex};

use cqrs_core::{
    Aggregate, Apply, Backend, Command, CommandError, CommandId, Context, Cqrs, Effects, Envelope, Error,
    Event, Handle, Handled, Policy, React, Refusal, Start,
    by_name::{CommandMessage, RouteError, Router},
    intercept::{Call, Interceptor, Next, Outcome, Refused},
    memory::Memory,
    port::BoxFuture,
    testing::{given, given_nothing, policy},
};
use cqrs_tests::eventually;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "parcel")]
enum ParcelEvent {
    Registered,
    Moved { to: String },
    Lost,
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("it is lost")]
struct ItIsLost;

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = ParcelEvent, rejection = ItIsLost, commands(ParcelCommand, FindParcel))]
struct Parcel {
    lost: bool,
}

impl Apply<ParcelEvent> for Parcel {
    fn apply(&mut self, event: &ParcelEvent) {
        self.lost |= *event == ParcelEvent::Lost;
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, Command)]
#[command(aggregate = Parcel, suffix = "parcel")]
enum ParcelCommand {
    #[command(create)]
    Register {
        #[command(id)]
        parcel: u32,
    },
    Move {
        to: String,
        #[command(id)]
        parcel: u32,
    },
    #[command(upsert, name = "lose")]
    Lose(#[command(id)] u32),
}

impl Handle<ParcelCommand> for Parcel {
    fn handle(&self, command: &ParcelCommand, _: &Context) -> Handled<Self> {
        Ok(match command {
            ParcelCommand::Move { .. } if self.lost => return Err(ItIsLost),
            ParcelCommand::Register { .. } => ParcelEvent::Registered,
            ParcelCommand::Move { to, .. } => ParcelEvent::Moved { to: to.clone() },
            ParcelCommand::Lose(_) => ParcelEvent::Lost,
        }
        .into())
    }
}

/// Another command of the same aggregate, in the form of a struct.
#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Parcel)]
struct FindParcel {
    #[command(id)]
    parcel: u32,
}

impl Handle<FindParcel> for Parcel {
    fn handle(&self, _: &FindParcel, _: &Context) -> Handled<Self> {
        Ok(cqrs_core::Events::none())
    }
}

/// `ParcelCommand::Move` in the form of a struct.
#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Parcel)]
struct MoveParcel {
    to: String,
    #[command(id)]
    parcel: u32,
}

impl Handle<MoveParcel> for Parcel {
    fn handle(&self, command: &MoveParcel, _: &Context) -> Handled<Self> {
        Ok(ParcelEvent::Moved { to: command.to.clone() }.into())
    }
}

fn register(parcel: u32) -> ParcelCommand {
    ParcelCommand::Register { parcel }
}

fn move_to(to: &str, parcel: u32) -> ParcelCommand {
    ParcelCommand::Move { to: to.into(), parcel }
}

type Post = Cqrs<(Parcel,), ()>;

async fn post<B: Backend>(backend: B) -> Post {
    Cqrs::builder(backend).aggregate::<Parcel>().start().await.unwrap()
}

cqrs_tests::on_backends! { "enums", memory nats: {
    each_variant_has_its_own_lifecycle
    each_variant_is_found_by_its_name
    interceptors_see_the_variants_name_and_fields
    the_form_of_a_command_makes_no_difference_to_its_id
    a_policy_sends_variants_and_is_told_of_their_refusal
} }

async fn each_variant_has_its_own_lifecycle<B: Backend>(backend: B) {
    let post = post(backend).await;
    let missing = post.execute(move_to("rome", 1)).await.unwrap_err();
    assert!(matches!(missing, CommandError::NotFound(_)), "{missing}");
    assert_eq!(post.execute(register(1)).await.unwrap().version, 1);
    let again = post.execute(register(1)).await.unwrap_err();
    assert!(matches!(again, CommandError::AlreadyExists(_)), "{again}");
    assert_eq!(post.execute(move_to("rome", 1)).await.unwrap().version, 2);
    assert_eq!(post.execute(ParcelCommand::Lose(2)).await.unwrap().version, 1);
    let lost = post.execute(move_to("rome", 2)).await.unwrap_err();
    assert!(matches!(lost, CommandError::Rejected(ItIsLost)), "{lost}");
    post.stop().await;
}

async fn each_variant_is_found_by_its_name<B: Backend>(backend: B) {
    let post = post(backend).await;
    let router = Router::new(post.clone());
    let send = async |name: &str, body: &'static str| {
        let message = CommandMessage { body: body.into(), ..CommandMessage::default() };
        router.execute(name, message).await
    };
    assert_eq!(send("register_parcel", r#"{"parcel":1}"#).await.unwrap().aggregate.id(), "1");
    assert_eq!(send("move_parcel", r#"{"parcel":1,"to":"rome"}"#).await.unwrap().version, 2);
    assert_eq!(send("find_parcel", r#"{"parcel":1}"#).await.unwrap().version, 2);
    assert_eq!(send("lose", "1").await.unwrap().version, 3);
    let refused = send("move_parcel", r#"{"parcel":1,"to":"rome"}"#).await.unwrap_err();
    assert!(matches!(refused, RouteError::Rejected(_)), "{refused}");
    let bad = send("move_parcel", r#"{"parcel":1}"#).await.unwrap_err();
    assert!(
        bad.to_string().starts_with("the body of move_parcel cannot be read: missing field `to`"),
        "{bad}"
    );
    let tagged = send("register_parcel", r#"{"Register":{"parcel":2}}"#).await.unwrap_err();
    assert!(matches!(tagged, RouteError::BadBody { name: "register_parcel", .. }), "{tagged}");
    let more = send("register_parcel", r#"{"parcel":2} {}"#).await.unwrap_err();
    assert!(matches!(more, RouteError::BadBody { .. }), "{more}");
    let unknown = send("Move", "{}").await.unwrap_err().to_string();
    assert!(unknown.ends_with("known are: find_parcel, lose, move_parcel, register_parcel"), "{unknown}");
    post.stop().await;
}

/// Notes the calls that it sees.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Interceptor for Seen {
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
        Box::pin(async move {
            let seen = format!("{} {}", call.name, call.body()?);
            self.0.lock().unwrap().push(seen);
            next.run(call).await
        })
    }
}

async fn interceptors_see_the_variants_name_and_fields<B: Backend>(backend: B) {
    let seen = Seen::default();
    let builder = Cqrs::builder(backend).aggregate::<Parcel>().interceptor(seen.clone());
    let post = builder.start().await.unwrap();
    post.execute(register(1)).await.unwrap();
    post.execute(move_to("rome", 1)).await.unwrap();
    post.execute(ParcelCommand::Lose(1)).await.unwrap();
    let expected = [r#"register_parcel {"parcel":1}"#, r#"move_parcel {"parcel":1,"to":"rome"}"#, "lose 1"];
    assert_eq!(*seen.0.lock().unwrap(), expected);
    post.stop().await;
}

async fn the_form_of_a_command_makes_no_difference_to_its_id<B: Backend>(backend: B) {
    let post = post(backend).await;
    post.execute(register(1)).await.unwrap();
    let id = CommandId::derived(["the move"]);
    let first = post.execute(move_to("rome", 1)).id(id).await.unwrap();
    let same = post.execute(MoveParcel { to: "rome".into(), parcel: 1 }).id(id).await.unwrap();
    assert!(same.repeat);
    assert_eq!(same.version, first.version);
    for another in [move_to("oslo", 1), ParcelCommand::Lose(1)] {
        let refused = post.execute(another).id(id).await.unwrap_err();
        assert!(matches!(refused, CommandError::Failed(Error::AnotherCommand { .. })), "{refused}");
    }
    post.stop().await;
}

/// Sends each new parcel to Rome and a parcel that is already lost to Oslo, and keeps the refusals.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Courier {
    refused: Vec<String>,
}

impl Policy for Courier {
    const NAME: &'static str = "courier";
    const START: Start = Start::Beginning;
    type Of = Parcel;

    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        // A struct of the same name reads the same fields.
        let as_struct: Option<MoveParcel> = refusal.command();
        let Some(ParcelCommand::Move { to, parcel }) = refusal.command() else { return };
        assert_eq!(as_struct.unwrap().to, to);
        self.refused.push(format!("{}: {to}", refusal.command_name()));
        effects.send(register(parcel + 100));
    }
}

impl React<ParcelEvent> for Courier {
    fn react(&mut self, event: &Envelope<ParcelEvent>, effects: &mut Effects) {
        let parcel = event.subject().parse().unwrap();
        match &event.data {
            ParcelEvent::Registered => effects.at("rome", event.time, move_to("rome", parcel)),
            ParcelEvent::Lost => effects.send(move_to("oslo", parcel)),
            ParcelEvent::Moved { .. } => {}
        }
    }
}

async fn a_policy_sends_variants_and_is_told_of_their_refusal<B: Backend>(backend: B) {
    let post = Cqrs::builder(backend).aggregate::<Parcel>().policy::<Courier>().start().await.unwrap();
    post.execute(ParcelCommand::Lose(1)).await.unwrap();
    eventually("parcel 101 is registered for the refused move, and then moved by a deadline", async || {
        post.execute(FindParcel { parcel: 101 }).await.is_ok_and(|found| found.version == 2)
    })
    .await;
    post.stop().await;
}

#[test]
fn the_kits_for_tests_take_variants() {
    given_nothing::<Parcel>().when(register(1)).then([ParcelEvent::Registered]);
    given_nothing::<Parcel>().when(move_to("rome", 1)).then_not_found();
    given::<Parcel>([ParcelEvent::Registered]).when(register(1)).then_already_exists();
    given::<Parcel>([ParcelEvent::Lost]).when(move_to("rome", 1)).then_rejected(ItIsLost);

    let reacted = policy::<Courier>().when::<Parcel>("1", ParcelEvent::Lost);
    let test = reacted.then(|effects| effects.send(move_to("oslo", 1)));
    let test =
        test.when_refused("1", move_to("oslo", 1), "it is lost").then(|effects| effects.send(register(101)));
    assert_eq!(test.state("1"), Some(&Courier { refused: vec!["move_parcel: oslo".into()] }));
    let _ = test.when_refused("1", ParcelCommand::Lose(1), "no").then_nothing();
}

#[test]
fn a_name_that_is_not_the_enums_is_an_error() {
    let read = |name: &str| ParcelCommand::deserialize_fields(name, serde_json::json!({ "parcel": 1 }));
    assert_eq!(read("register_parcel").unwrap(), register(1));
    let error = read("Register").unwrap_err().to_string();
    assert_eq!(error, r#""Register" is none of the commands register_parcel, move_parcel, lose"#);
}

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(name = "letter", id = u32, event = ParcelEvent, rejection = ItIsLost, commands(Twice, Lose))]
struct Letter;

impl Apply<ParcelEvent> for Letter {
    fn apply(&mut self, _: &ParcelEvent) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Letter)]
enum Twice {
    Find(#[command(id)] u32),
    Lose(#[command(id)] u32),
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Letter)]
struct Lose(#[command(id)] u32);

impl Handle<Twice> for Letter {
    fn handle(&self, _: &Twice, _: &Context) -> Handled<Self> {
        Ok(ParcelEvent::Lost.into())
    }
}

impl Handle<Lose> for Letter {
    fn handle(&self, _: &Lose, _: &Context) -> Handled<Self> {
        Ok(ParcelEvent::Lost.into())
    }
}

#[tokio::test]
async fn commands_of_one_name_are_refused_with_their_aggregates() {
    let started = Cqrs::builder(Memory::default()).aggregate::<Letter>().start().await;
    let error = started.err().unwrap().to_string();
    let twice = r#"command name "lose" is used twice, in"#;
    assert!(error.ends_with(&format!(r#"{twice} aggregate "letter""#)), "{error}");
    let started = Cqrs::builder(Memory::default()).aggregate::<Parcel>().aggregate::<Letter>().start().await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains(&format!(r#"{twice} aggregates "parcel" and "letter""#)), "{error}");
}
