//! The domain: orders and stock, with their commands, events and rules, and their values.
//!
//! It does not know the views, the fulfilment or the service: these import from here, and nothing here imports from
//! them.

mod money;
mod order;
mod sale;
mod stock;
mod text;

pub use money::{Money, grouped};
pub use order::{
    CancelOrder, ConfirmOrder, CreateOrder, DeliverOrder, ExpireOrder, MAX_LINES, Order, OrderEvent,
    OrderRejection, PayOrder, ShipOrder, Status, SubmitOrder,
};
pub use sale::{BadLine, Customer, Line, MAX_DECIMALS, MAX_PRICE, MAX_QUANTITY, Sale};
pub use stock::{ReceiveStock, ReleaseStock, ReserveStock, ShipStock, Stock, StockEvent, StockRejection};
pub use text::{BadText, Country, CustomerId, MAX_TEXT_BYTES, Name, OrderId, ProductId, Reason};
