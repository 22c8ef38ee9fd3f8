#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct OrderSummary {
    total: u64,
    paid: bool,
}
