//! The views, for the service's queries.

mod history;
mod order_summary;
mod sales;
mod sales_by_month;
mod stock_level;

pub use history::{Entry, GetHistory, History, MAX_ENTRIES};
pub use order_summary::{GetOrder, ListOrders, OrderPage, OrderRow, OrderSummary};
pub use sales::{
    CountrySales, CustomerSales, GetTotals, OrderBy, Sales, SalesByCountry, SalesByCustomer, SalesTotals,
    TopCountries, TopCustomers,
};
pub use sales_by_month::{MonthSales, SalesByMonth, SalesOfYear};
pub use stock_level::{GetStock, StockLevel};
