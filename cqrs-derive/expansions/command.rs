#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct PayOrder {
    #[command(id)]
    order: OrderId,
    amount: u64,
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Order, create, crate = framework)]
struct CreateOrder(#[command(id)] OrderId);
