//! Each order as its customer sees it.

use cqrs_core::{Answer, Documents, Envelope, Error, Project, Query, View};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::{Country, Order, OrderEvent, OrderId, Sale, Status};

/// One order; the key is its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// Its status.
    pub status: Status,
    /// The customer and the sums.
    pub sale: Option<Sale>,
    /// The day on which it was placed.
    pub placed: Option<Date>,
    /// The day on which the parcel left, if it has.
    pub shipped: Option<Date>,
}

impl View for OrderSummary {
    const NAME: &'static str = "order-summary";
    type Of = Order;
}

impl Project<OrderEvent> for OrderSummary {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    fn project(&mut self, event: &Envelope<OrderEvent>) {
        match &event.data {
            OrderEvent::Created { customer, country, placed, lines } => {
                self.sale = Some(Sale::of(customer, country, lines));
                self.placed = Some(*placed);
            }
            OrderEvent::Submitted { .. } => {}
            OrderEvent::Confirmed { .. } => self.status = Status::Confirmed,
            OrderEvent::Paid { .. } => self.status = Status::Paid,
            OrderEvent::Shipped { on } => {
                self.status = Status::Shipped;
                self.shipped = Some(*on);
            }
            OrderEvent::Delivered => self.status = Status::Delivered,
            OrderEvent::Cancelled { .. } => self.status = Status::Cancelled,
        }
    }
}

/// Asks for one order.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
pub struct GetOrder {
    /// Which order.
    #[query(key)]
    pub order: OrderId,
}

/// Asks for orders, page by page in the order of their ids: all of them, or those that match.
#[derive(Debug, Clone, Default, Serialize, Deserialize, Query)]
#[query(view = OrderSummary, answer = OrderPage)]
pub struct ListOrders {
    /// Only orders that are this far.
    pub status: Option<Status>,
    /// Only orders that are shipped to this country.
    pub country: Option<Country>,
    /// Only orders after this one: [`OrderPage::next`] of the page before.
    pub after: Option<OrderId>,
    /// How many orders, at least one and at most [`OrderPage::MAX`].
    pub limit: usize,
}

/// Some orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPage {
    /// The orders.
    pub orders: Vec<OrderRow>,
    /// The key after which the next page begins; `None` if this page is the last.
    pub next: Option<String>,
}

impl OrderPage {
    /// The most orders of one page.
    pub const MAX: usize = 1_000;
}

/// One order of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// Its id.
    pub order: String,
    /// What is known about it.
    #[serde(flatten)]
    pub summary: OrderSummary,
}

impl ListOrders {
    fn wants(&self, summary: &OrderSummary) -> bool {
        let country = summary.sale.as_ref().map(|sale| &sale.country);
        self.status.is_none_or(|status| status == summary.status)
            && self.country.as_ref().is_none_or(|wanted| Some(wanted) == country)
    }
}

impl Answer<ListOrders> for OrderSummary {
    /// Reads pages of documents until it has found enough matching orders, and one more, which shows whether there is
    /// another page.
    async fn answer(query: ListOrders, documents: &Documents<Self>) -> Result<OrderPage, Error> {
        let limit = query.limit.clamp(1, OrderPage::MAX);
        let mut after = query.after.as_ref().map(ToString::to_string);
        let mut orders = Vec::new();
        loop {
            let page = documents.page(after.as_deref(), OrderPage::MAX).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let wanted = page.into_iter().filter(|(_, summary)| query.wants(summary));
            orders.extend(wanted.map(|(order, summary)| OrderRow { order, summary }));
            if orders.len() > limit {
                break;
            }
        }
        let more = orders.len() > limit;
        orders.truncate(limit);
        let next = if more { orders.last().map(|row| row.order.clone()) } else { None };
        Ok(OrderPage { orders, next })
    }
}
