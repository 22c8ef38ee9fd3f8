//! An id without text.

include!("../../service/names.rs");
include!("../../service/event.rs");
include!("../../service/rejection.rs");

struct OrderId(u32);

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = OrderId, event = OrderEvent, rejection = OrderRejection)]
struct Order {
    paid: bool,
}

impl Apply<OrderEvent> for Order {
    fn apply(&mut self, _: &OrderEvent) {
        self.paid = true;
    }
}

fn main() {}
