//! A command of a type that is no aggregate.

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
include!("../service/policy.rs");
include!("../service/react.rs");
include!("../service/handler.rs");
include!("../service/run.rs");

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = OrderEvent)]
struct Refund {
    #[command(id)]
    order: u32,
}
