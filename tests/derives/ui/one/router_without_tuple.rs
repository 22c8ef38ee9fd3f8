//! A router whose aggregate is not in a tuple.

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
include!("../../service/policy.rs");
include!("../../service/react.rs");
include!("../../service/handler.rs");
include!("../../service/run.rs");

struct Shop {
    router: cqrs_core::by_name::Router<Order, (OrderSummary,)>,
}
