//! A command with a field that is neither `Send` nor `Sync`.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");
include!("../../service/aggregate.rs");
include!("../../service/apply.rs");
include!("../../service/commands.rs");
include!("../../service/view.rs");
include!("../../service/project.rs");
include!("../../service/queries.rs");
include!("../../service/answer.rs");
include!("../../service/policy.rs");
include!("../../service/react.rs");
include!("../../service/handler.rs");

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, create)]
struct CreateOrder {
    #[command(id)]
    order: u32,
    total: u64,
    customer: std::rc::Rc<str>,
}

fn main() {
    let _ = async {
        let builder = Cqrs::builder(Memory::default()).aggregate::<Order>().view::<OrderSummary>().policy::<Cancel>();
        let cqrs = builder.event_handler(Mailer { address: "a@b.c".into() }).start().await?;
        cqrs.execute(CreateOrder { order: 7, total: 90, customer: "anna".into() }).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
}
