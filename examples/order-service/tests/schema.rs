//! Stored events must stay readable when the program changes.

use cqrs_core::testing::check_schema_lock;
use order_service::{OrderEvent, StockEvent};

#[test]
fn stored_orders_keep_their_shape() {
    check_schema_lock::<OrderEvent>("schema/order.json");
}

#[test]
fn stored_stock_keeps_its_shape() {
    check_schema_lock::<StockEvent>("schema/stock.json");
}
