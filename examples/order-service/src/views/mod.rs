//! Views: what the service can be asked.

mod history;
mod order_summary;
mod sales;
mod stock_level;

pub use history::{Entry, GetHistory, History, MAX_ENTRIES};
pub use order_summary::{GetOrder, OrderSummary};
pub use sales::{
    CountrySales, CustomerSales, GetTotals, OrderBy, Sales, SalesByCountry, SalesByCustomer, SalesTotals,
    TopCountries, TopCustomers,
};
pub use stock_level::{GetStock, StockLevel};
