//! One aggregate: its state now, at a version and at a time, and its events page by page.

use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Event, Handle, Handled, memory::Memory};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(name = "account.credited")]
struct Credited(u64);
#[derive(Debug, Default, Clone, PartialEq, Aggregate)]
#[aggregate(id = String, event = Credited, rejection = std::convert::Infallible)]
struct Account {
    balance: u64,
}
impl Apply<Credited> for Account {
    fn apply(&mut self, event: &Credited) {
        self.balance += event.0;
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

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Account>().start().await?;
    let anna = "anna".to_owned();
    for amount in [5, 10, 20] {
        cqrs.execute(Credit { account: anna.clone(), amount }).await?;
    }

    let now = cqrs.aggregate::<Account, _>(&anna).await?.ok_or("there is no such account")?;
    assert_eq!((now.version, now.state), (3, Account { balance: 35 }));
    let before = cqrs.aggregate::<Account, _>(&anna).at_version(2).await?.ok_or("it has two events")?;
    assert_eq!(before.state, Account { balance: 15 });

    let first = cqrs.history::<Account, _>(&anna).max(2).await?;
    for event in &first.events {
        println!("{} {} {:?}", event.version, event.time, event.data);
    }
    let rest = cqrs.history::<Account, _>(&anna).after(first.next.ok_or("there is a third")?).await?;
    assert_eq!((rest.events.len(), rest.next), (1, None));

    let then = first.events[0].time; // Its state at that time; `None` before it existed.
    assert!(cqrs.aggregate::<Account, _>(&anna).at(then).await?.is_some());
    Ok(())
}
