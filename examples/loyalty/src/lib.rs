//! Points for customers whose orders were shipped: a context of its own, which follows the shop's public log.

use cqrs_core::{
    Aggregate, Apply, Backend, Command, Context, Cqrs, Effects, Envelope, Error, Event, Handle, Handled,
    Policy, Project, Query, React, Start, View, port::EventStore,
};
use order_service::{CustomerId, Money, OrderId, Shop, ShopEvent};
use rust_decimal::prelude::ToPrimitive as _;
use serde::{Deserialize, Serialize};

/// The events of a customer's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(prefix = "loyalty")]
pub enum AccountEvent {
    /// The customer has earned points.
    Earned {
        /// The order that they are for.
        order: OrderId,
        /// How many.
        points: u64,
    },
}

/// An account never rejects a command.
#[derive(Debug, thiserror::Error)]
pub enum AccountRejection {}

/// A customer's account.
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(
    name = "account",
    id = CustomerId,
    event = AccountEvent,
    rejection = AccountRejection,
    internal(EarnPoints)
)]
pub struct Account {
    orders: Vec<OrderId>,
}

impl Apply<AccountEvent> for Account {
    fn apply(&mut self, event: &AccountEvent) {
        let AccountEvent::Earned { order, .. } = event;
        self.orders.push(order.clone());
    }
}

/// Gives a customer points for an order.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Account, upsert)]
pub struct EarnPoints {
    /// The customer.
    #[command(id)]
    pub customer: CustomerId,
    /// The order that they are for.
    pub order: OrderId,
    /// How many.
    pub points: u64,
}

impl Handle<EarnPoints> for Account {
    fn handle(&self, command: &EarnPoints, _: &Context) -> Handled<Self> {
        let EarnPoints { order, points, .. } = command.clone();
        if self.orders.contains(&order) {
            return Ok(cqrs_core::Events::none());
        }
        Ok(AccountEvent::Earned { order, points }.into())
    }
}

/// A sale that is not shipped yet. The event of the shipment does not name the customer again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct PointsForShippedOrders {
    sale: Option<(CustomerId, Money)>,
}

impl Policy for PointsForShippedOrders {
    const NAME: &'static str = "points-for-shipped-orders";
    const START: Start = Start::Beginning;
    type Of = Shop;

    fn is_kept(&self) -> bool {
        self.sale.is_some()
    }
}

impl React<ShopEvent> for PointsForShippedOrders {
    fn react(&mut self, event: &Envelope<ShopEvent>, effects: &mut Effects) {
        match &event.data {
            ShopEvent::OrderSold { customer, net } => self.sale = Some((customer.clone(), *net)),
            ShopEvent::OrderCancelled => self.sale = None,
            ShopEvent::OrderShipped { .. } => {
                let (Some((customer, net)), Ok(order)) = (self.sale.take(), event.subject().parse()) else {
                    return;
                };
                let points = net.amount().to_u64().unwrap_or_default();
                effects.send(EarnPoints { customer, order, points });
            }
        }
    }
}

/// How many points a customer has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The points.
    pub points: u64,
}

impl View for Balance {
    const NAME: &'static str = "balance";
    type Of = Account;
}

impl Project<AccountEvent> for Balance {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        let AccountEvent::Earned { points, .. } = event.data;
        self.points += points;
    }
}

/// Asks for one customer's points.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = Balance, answer = Option<Balance>)]
pub struct GetBalance {
    /// The customer.
    #[query(key)]
    pub customer: CustomerId,
}

/// Asks for the points of all customers.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = Balance, answer = Vec<(String, u64)>)]
pub struct AllBalances;

impl cqrs_core::Answer<AllBalances> for Balance {
    async fn answer(
        _: AllBalances,
        documents: &cqrs_core::Documents<Self>,
    ) -> Result<Vec<(String, u64)>, Error> {
        let all = documents.all().await?.into_iter();
        Ok(all.map(|(customer, balance)| (customer, balance.points)).collect())
    }
}

/// The running service.
pub type Loyalty = Cqrs<(Account,), (Balance,)>;

/// Starts the service on `backend`. It follows the shop's public log.
///
/// # Errors
///
/// [`Error`] when the places of its views cannot be prepared.
///
/// # Cancel safety
///
/// Dropping it stops what was started.
pub async fn start<B: Backend>(backend: B, shop: &(impl EventStore + Clone)) -> Result<Loyalty, Error> {
    Cqrs::builder(backend)
        .aggregate::<Account>()
        .view::<Balance>()
        .following(shop)
        .policy::<PointsForShippedOrders>()
        .start()
        .await
}
