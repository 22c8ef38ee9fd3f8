#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefx = "order")]
enum OrderEvent {
    Created,
}

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = OrderId, event = OrderEvent, commands = PayOrder)]
struct Order;

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = "Order", crate)]
struct PayOrder {
    order: OrderId,
}

#[derive(Debug, Query)]
#[query(view = OrderSummary)]
struct GetOrder<'a> {
    #[query(keys)]
    order: &'a str,
}
