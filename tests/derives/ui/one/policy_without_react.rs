//! A policy without a rule for its events.

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
include!("../../service/handler.rs");
include!("../../service/run.rs");

impl Policy for Cancel {
    const NAME: &'static str = "cancel";
    const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    type Of = Order;
}
