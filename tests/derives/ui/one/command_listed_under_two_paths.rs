//! A command that is listed twice, under two paths.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");
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

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
#[aggregate(commands(CreateOrder, self::CancelOrder, PayOrder), internal(CancelOrder))]
struct Order {
    paid: bool,
}
