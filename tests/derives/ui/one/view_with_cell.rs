//! A view with a field that is not `Sync`.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");
include!("../../service/aggregate.rs");
include!("../../service/apply.rs");
include!("../../service/create.rs");
include!("../../service/commands.rs");
include!("../../service/project.rs");
include!("../../service/queries.rs");
include!("../../service/answer.rs");
include!("../../service/policy.rs");
include!("../../service/react.rs");
include!("../../service/handler.rs");
include!("../../service/run.rs");

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct OrderSummary {
    total: u64,
    paid: bool,
    asked: std::cell::Cell<u8>,
}
