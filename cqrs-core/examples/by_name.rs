//! Commands and queries by name with JSON bodies: what a transport does with what comes off a wire.

use cqrs_core::{
    Aggregate, Apply, Command, Context, Event, Handle, Handled, Query,
    by_name::{CommandMessage, Router},
};
use cqrs_core::{Cqrs, Envelope, Project, View, memory::Memory};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "account.credited")]
struct Credited(u64);
#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = String, event = Credited, rejection = std::convert::Infallible, commands(Credit))]
struct Account(u64);
impl Apply<Credited> for Account {
    fn apply(&mut self, event: &Credited) {
        self.0 += event.0;
    }
}
#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Account, upsert)]
struct Credit {
    #[command(id)]
    account: String,
    amount: u64,
}
impl Handle<Credit> for Account {
    fn handle(&self, command: &Credit, _: &Context) -> Handled<Self> {
        Ok(Credited(command.amount).into())
    }
}
impl View for Account {
    const NAME: &'static str = "balances";
    type Of = Account;
}
impl Project<Credited> for Account {
    fn key(event: &Envelope<Credited>) -> Option<String> {
        Some(event.subject().to_owned())
    }
    fn project(&mut self, event: &Envelope<Credited>) {
        self.apply(&event.data);
    }
}
#[derive(Deserialize, Query)]
#[query(view = Account, answer = Option<Account>)]
struct GetBalance(#[query(key)] String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Account>().view::<Account>().start().await?;
    let router = Router::new(cqrs.clone()).query::<GetBalance, _>();

    let body = br#"{ "account": "anna", "amount": 50 }"#.as_slice().into();
    let message = CommandMessage { body, ..CommandMessage::default() };
    router.execute("credit", message.clone()).await?;
    if let Err(unknown) = router.execute("debit", message).await {
        println!("{unknown}"); // "debit" is not known here, known are: credit
    }
    cqrs.caught_up().await?;
    assert_eq!(router.answer("get_balance", br#""anna""#).await?, "50");
    Ok(())
}
