#[derive(Debug, Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
struct GetOrder {
    #[query(key)]
    order: OrderId,
}

#[derive(Debug, Query)]
#[query(view = OrderSummary, answer = Vec<OrderSummary>, name = "all-orders")]
struct AllOrders;
