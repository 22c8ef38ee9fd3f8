//! All aggregates of a type: their ids, page by page.

use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Event, Handle, Handled, memory::Memory};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(name = "account.opened")]
struct Opened;
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Opened, rejection = std::convert::Infallible)]
struct Account;
impl Apply<Opened> for Account {
    fn apply(&mut self, _: &Opened) {}
}
#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Account, create)]
struct OpenAccount {
    #[command(id)]
    account: u32,
}
impl Handle<OpenAccount> for Account {
    fn handle(&self, _: &OpenAccount, _: &Context) -> Handled<Self> {
        Ok(Opened.into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Account>().start().await?;
    for account in [1, 2, 10] {
        cqrs.execute(OpenAccount { account }).await?;
    }

    let mut accounts = Vec::new();
    let mut page = cqrs.aggregates::<Account, _>().await?;
    loop {
        for key in &page.keys {
            let account: u32 = key.id_of::<Account>()?;
            accounts.push(account);
        }
        // Keep `next` to continue later, or in another process.
        let Some(next) = page.next else { break };
        page = cqrs.aggregates::<Account, _>().after(next).await?;
    }
    accounts.sort_unstable(); // The order is the store's.
    assert_eq!(accounts, [1, 2, 10]);
    Ok(())
}
