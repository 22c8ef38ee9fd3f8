#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Created { customer: String },
    #[event(name = "order.settled", version = 2)]
    Paid(u64),
    Cancelled,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "stock.counted")]
struct StockCounted {
    pieces: u32,
}
