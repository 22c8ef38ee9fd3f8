//! An event with a field that is neither `Send` nor `Sync`.

include!("../../service/names.rs");
include!("../../service/rejection.rs");
include!("../../service/aggregate.rs");
include!("../../service/apply.rs");
include!("../../service/create.rs");
include!("../../service/commands.rs");
include!("../../service/view.rs");
include!("../../service/queries.rs");
include!("../../service/answer.rs");
include!("../../service/policy.rs");
include!("../../service/react.rs");
include!("../../service/handler.rs");
include!("../../service/run.rs");

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Created { total: u64 },
    Paid,
    Noted { text: std::rc::Rc<str> },
}

impl View for OrderSummary {
    const NAME: &'static str = "order-summary";
    type Of = Order;
}

impl Project<OrderEvent> for OrderSummary {
    fn project(&mut self, event: &Envelope<OrderEvent>) {
        match &event.data {
            OrderEvent::Created { total } => self.total = *total,
            OrderEvent::Paid => self.paid = true,
            OrderEvent::Noted { text } => println!("{text}"),
        }
    }
}
