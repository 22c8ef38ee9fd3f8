//! Optimistic concurrency between two people: both edit the page that they have opened at the same version. The second
//! edit fails with `CommandError::Changed`, so it does not overwrite the first one.

use cqrs_core::{
    Aggregate, Apply, Command, CommandError, Context, Cqrs, Event, Handle, Handled, memory::Memory,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "page.edited")]
struct Edited(String);
#[derive(Default, Clone, Aggregate)]
#[aggregate(id = String, event = Edited, rejection = std::convert::Infallible)]
struct Page {
    text: String,
}
impl Apply<Edited> for Page {
    fn apply(&mut self, event: &Edited) {
        self.text.clone_from(&event.0);
    }
}
#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Page, upsert)]
struct Edit {
    #[command(id)]
    page: String,
    text: String,
}
impl Handle<Edit> for Page {
    fn handle(&self, command: &Edit, _: &Context) -> Handled<Self> {
        Ok(Edited(command.text.clone()).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Page>().start().await?;
    let edit = |text: &str| Edit { page: "home".into(), text: text.into() };
    // Both open the page at this version.
    let opened = cqrs.execute(edit("Welcome")).await?.version;

    cqrs.execute(edit("Welcome, all")).expecting(opened).await?;
    match cqrs.execute(edit("Hello")).expecting(opened).await {
        Err(CommandError::Changed { expected: 1, found: 2, .. }) => {} // Show the present page.
        other => panic!("the first edit would be overwritten (lost update): {other:?}"),
    }
    Ok(())
}
