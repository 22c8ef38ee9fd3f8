//! A query of a read model that the service does not have.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");
include!("../../service/aggregate.rs");
include!("../../service/apply.rs");
include!("../../service/create.rs");
include!("../../service/commands.rs");
include!("../../service/view.rs");
include!("../../service/project.rs");
include!("../../service/queries.rs");
include!("../../service/answer.rs");
include!("../../service/rows.rs");

#[derive(Query)]
#[query(view = (OrderSummary, OrderRows), answer = u64)]
struct BothTotals;

impl Answer<BothTotals> for (OrderSummary, OrderRows) {
    async fn answer(_: BothTotals, (summaries, total): &(Documents<OrderSummary>, u64)) -> Result<u64, Error> {
        Ok(summaries.all().await?.len() as u64 + total)
    }
}

async fn run() -> Result<(), Error> {
    let cqrs = Cqrs::builder(Memory::default()).view::<OrderSummary>().start().await?;
    cqrs.query(BothTotals).await?;
    Ok(())
}

fn main() {
    drop(run());
}
