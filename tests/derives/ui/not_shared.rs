//! Commands, events and handlers with fields that are not `Sync`: the compiler reports these itself.

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
#[command(aggregate = Order)]
struct Count {
    #[command(id)]
    order: u32,
    number: std::cell::Cell<u8>,
}

impl Handle<Count> for Order {
    fn handle(&self, _: &Count, _: &Context) -> Handled<Self> {
        Err(OrderRejection::AlreadyPaid)
    }
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "counted")]
struct Counted {
    number: std::cell::Cell<u8>,
}

#[derive(Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
struct GetCounted {
    #[query(key)]
    order: std::cell::Cell<u8>,
}

struct Counter {
    number: std::cell::Cell<u8>,
}

impl EventHandler for Counter {
    const NAME: &'static str = "counter";
    const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    type Of = Order;
}

impl On<OrderEvent> for Counter {
    async fn on(&self, _: &Envelope<OrderEvent>) -> Result<(), HandlerError> {
        self.number.set(1);
        Ok(())
    }
}
