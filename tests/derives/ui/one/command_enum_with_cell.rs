//! A command that is an enum, with a field that is not `Sync`.

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

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
enum Change {
    Raise {
        #[command(id)]
        order: u32,
        times: std::cell::Cell<u8>,
    },
}

impl Handle<Change> for Order {
    fn handle(&self, _: &Change, _: &Context) -> Handled<Self> {
        Err(OrderRejection::AlreadyPaid)
    }
}
