//! An event handler of two aggregates with a field that is neither `Send` nor `Sync`.

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

struct Mailer {
    address: *const u8,
}

impl EventHandler for Mailer {
    const NAME: &'static str = "mailer";
    const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    type Of = (Order, Order);
}

impl On<OrderEvent> for Mailer {
    async fn on(&self, event: &Envelope<OrderEvent>) -> Result<(), HandlerError> {
        println!("{} to {:?}", event.id, self.address);
        Ok(())
    }
}

fn main() {
    let builder = Cqrs::builder(Memory::default()).aggregate::<Order>().view::<OrderSummary>().policy::<Cancel>();
    drop(builder.event_handler(Mailer { address: std::ptr::null() }).start());
}
