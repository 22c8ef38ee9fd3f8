//! An aggregate and a view that are added twice: each command and query of them is ambiguous, and the name of the
//! parameter says why.

include!("../service/names.rs");
include!("../service/event.rs");
include!("../service/rejection.rs");
include!("../service/aggregate.rs");
include!("../service/apply.rs");
include!("../service/create.rs");
include!("../service/commands.rs");
include!("../service/view.rs");
include!("../service/project.rs");
include!("../service/queries.rs");
include!("../service/answer.rs");

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let orders = Cqrs::builder(Memory::default()).aggregate::<Order>().aggregate::<Order>();
    let cqrs = orders.view::<OrderSummary>().view::<OrderSummary>().start().await?;
    cqrs.execute(PayOrder { order: 7 }).await?;
    cqrs.query(GetOrder { order: 7 }).await?;
    Ok(())
}

fn main() {
    drop(run());
}
