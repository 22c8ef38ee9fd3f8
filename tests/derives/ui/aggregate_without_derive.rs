//! An aggregate without the derive. The compiler reports each of its uses; these are as few as its traits allow.

include!("../service/names.rs");
include!("../service/event.rs");
include!("../service/rejection.rs");
include!("../service/apply.rs");
include!("../service/create.rs");
include!("../service/commands.rs");
include!("../service/view.rs");
include!("../service/project.rs");
include!("../service/queries.rs");
include!("../service/answer.rs");
include!("../service/policy.rs");
include!("../service/react.rs");
include!("../service/handler.rs");
include!("../service/run.rs");

#[derive(Default, Clone)]
struct Order {
    paid: bool,
}
