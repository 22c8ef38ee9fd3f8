#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, create)]
struct CreateOrder {
    #[command(id)]
    order: u32,
    total: u64,
}
