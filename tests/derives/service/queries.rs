#[derive(Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
struct GetOrder {
    #[query(key)]
    order: u32,
}

#[derive(Query)]
#[query(view = OrderSummary, answer = u64)]
struct PaidOrders {
    at_least: u64,
}
