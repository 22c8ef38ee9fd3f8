//! An event handler without a rule for its events.

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
include!("../../service/run.rs");

struct Mailer {
    address: String,
}

impl EventHandler for Mailer {
    const NAME: &'static str = "mailer";
    const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    type Of = Order;
}
