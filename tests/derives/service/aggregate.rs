#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
#[aggregate(commands(CreateOrder, PayOrder), internal(CancelOrder))]
struct Order {
    paid: bool,
}
