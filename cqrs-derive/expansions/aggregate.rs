#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = OrderId, event = OrderEvent, rejection = OrderRejection)]
struct Order {
    paid: u64,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = StockEvent, rejection = StockRejection, commands(CountStock, TakeStock))]
#[aggregate(internal(LoseStock), name = "stock-item", snapshot(every = 50, version = 2))]
struct Stock {
    pieces: u32,
}
