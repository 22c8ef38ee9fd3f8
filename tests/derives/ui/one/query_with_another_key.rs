//! A query whose key has no text.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");
include!("../../service/aggregate.rs");
include!("../../service/apply.rs");
include!("../../service/create.rs");
include!("../../service/commands.rs");
include!("../../service/view.rs");
include!("../../service/project.rs");
include!("../../service/answer.rs");
include!("../../service/policy.rs");
include!("../../service/react.rs");
include!("../../service/handler.rs");

#[derive(Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
struct GetOrder {
    #[query(key)]
    order: Option<u32>,
}

#[derive(Query)]
#[query(view = OrderSummary, answer = u64)]
struct PaidOrders {
    at_least: u64,
}

fn main() {}
