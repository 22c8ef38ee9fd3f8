#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Order, suffix = "order")]
enum OrderCommand {
    #[command(create)]
    Create {
        #[command(id)]
        order: OrderId,
        customer: String,
    },
    Pay {
        #[command(id)]
        r#for: OrderId,
        amount: u64,
    },
    Ship(Date, #[command(id)] OrderId, String),
    #[command(upsert, name = "withdraw")]
    Cancel(#[command(id)] OrderId),
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
enum Payment {
    Pay(#[command(id)] OrderId),
    PayBack(#[command(id)] OrderId),
}
