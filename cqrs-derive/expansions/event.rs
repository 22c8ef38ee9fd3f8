#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Created { customer: String },
    #[event(name = "order.settled", version = 2, upcast(1 = PaidV1), aliases("order.paid"))]
    Paid(u64),
    Cancelled,
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "stock.counted")]
struct StockCounted {
    pieces: u32,
}
