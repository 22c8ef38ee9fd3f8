//! The process of a submitted order: reserve its products, confirm the order, wait for the payment, ship.
//!
//! ```text
//! submitted ─► reserve_stock for each line ─► confirm_order ─► paid ─► ship_order ─► ship_stock for each line
//!                   └ refused ─► cancel_order      └ not paid in time ─► expire_order
//!                                     └─► cancelled ◄─────┘  ─► release_stock for each line
//! ```
//!
//! It relies on the events of its commands. Each cancellation of a submitted order releases its stock, also a
//! cancellation by the customer.

use std::{collections::BTreeSet, time::Duration};

use cqrs_core::{Effects, Envelope, Policy, React, Refusal, Start};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::domain::{
    CancelOrder, ConfirmOrder, ExpireOrder, Line, Order, OrderEvent, OrderId, ProductId, Reason,
    ReleaseStock, ReserveStock, ShipOrder, ShipStock, Stock, StockEvent,
};

/// The deadline of the payment.
const PAYMENT: &str = "payment";

/// The progress of a submitted order. Orders that were not submitted are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilment {
    /// The ordered products; empty once the process has ended.
    products: BTreeSet<ProductId>,
    /// The products that are not reserved yet.
    missing: BTreeSet<ProductId>,
    seconds_to_pay: u32,
}

impl Policy for Fulfilment {
    const NAME: &'static str = "fulfilment";
    const START: Start = Start::Beginning;
    type Of = (Order, Stock);

    fn is_kept(&self) -> bool {
        !self.products.is_empty()
    }

    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        if let Some(ReserveStock { order, .. }) = refusal.command() {
            effects.send(CancelOrder { order, reason: reason("not everything is in stock") });
        }
        if let Some(ShipOrder { order, .. }) = refusal.command() {
            effects.send(CancelOrder { order, reason: reason("it could not be shipped") });
        }
    }
}

impl React<OrderEvent> for Fulfilment {
    fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
        let Ok(order) = event.aggregate_id::<Order>() else { return };
        match &event.data {
            OrderEvent::Submitted { lines, seconds_to_pay } => {
                self.seconds_to_pay = *seconds_to_pay;
                self.reserve(&order, lines, effects);
            }
            // An order that was not submitted is processed manually.
            _ if self.products.is_empty() => {}
            OrderEvent::Confirmed { .. } => {
                let until = event.time + Duration::from_secs(self.seconds_to_pay.into());
                effects.at(PAYMENT, until, ExpireOrder { order, reason: reason("not paid in time") });
            }
            OrderEvent::Paid { .. } => {
                effects.disarm(PAYMENT);
                effects.send(ShipOrder { order, on: date(event.time) });
            }
            OrderEvent::Shipped { .. } => {
                for product in std::mem::take(&mut self.products) {
                    effects.send(ShipStock { product, order: order.clone() });
                }
            }
            OrderEvent::Cancelled { .. } => {
                effects.disarm(PAYMENT);
                for product in std::mem::take(&mut self.products) {
                    effects.send(ReleaseStock { product, order: order.clone() });
                }
            }
            OrderEvent::Created { .. } | OrderEvent::Delivered => {}
        }
    }
}

impl React<StockEvent> for Fulfilment {
    fn key(event: &Envelope<StockEvent>) -> Option<String> {
        match &event.data {
            StockEvent::Reserved { order, .. } => Some(order.to_string()),
            _ => None,
        }
    }

    fn react(&mut self, event: &Envelope<StockEvent>, effects: &mut Effects) {
        let (StockEvent::Reserved { order, .. }, Ok(product)) = (&event.data, event.aggregate_id::<Stock>())
        else {
            return;
        };
        if self.missing.remove(&product) && self.missing.is_empty() {
            effects.send(ConfirmOrder { order: order.clone() });
        }
    }
}

impl Fulfilment {
    fn reserve(&mut self, order: &OrderId, lines: &[Line], effects: &mut Effects) {
        for Line { product, quantity: units, .. } in lines.iter().cloned() {
            self.products.insert(product.clone());
            self.missing.insert(product.clone());
            effects.send(ReserveStock { product, order: order.clone(), units });
        }
    }
}

fn reason(text: &str) -> Reason {
    text.parse().expect("a short text")
}

fn date(time: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(time).date()
}

#[cfg(test)]
mod tests {
    use cqrs_core::testing::{PolicyTest, policy};

    use super::*;
    use crate::domain::{Customer, Sale};

    const ORDER: &str = "A-1";

    fn order() -> OrderId {
        ORDER.parse().unwrap()
    }

    fn product(id: &str) -> ProductId {
        id.parse().unwrap()
    }

    fn lines() -> Vec<Line> {
        let line = |id, quantity| Line {
            product: product(id),
            unit_price: "12.50".parse().unwrap(),
            quantity,
            discount: "0".parse().unwrap(),
        };
        vec![line("coffee", 2), line("tea", 3)]
    }

    fn submitted() -> OrderEvent {
        OrderEvent::Submitted { lines: lines(), seconds_to_pay: 900 }
    }

    fn confirmed() -> OrderEvent {
        let customer = Customer { id: "ANNA".parse().unwrap(), name: "Anna".parse().unwrap() };
        OrderEvent::Confirmed { sale: Sale::of(&customer, &"Norway".parse().unwrap(), &lines()) }
    }

    fn paid() -> OrderEvent {
        OrderEvent::Paid { amount: "62.50".parse().unwrap() }
    }

    fn cancelled() -> OrderEvent {
        OrderEvent::Cancelled { reason: reason("second thoughts"), undone: None, refund: None }
    }

    fn reserved(units: u32) -> StockEvent {
        StockEvent::Reserved { order: order(), units }
    }

    fn reserve(id: &str, units: u32) -> ReserveStock {
        ReserveStock { product: product(id), order: order(), units }
    }

    fn release_all(effects: &mut Effects) {
        effects.disarm("payment");
        effects.send(ReleaseStock { product: product("coffee"), order: order() });
        effects.send(ReleaseStock { product: product("tea"), order: order() });
    }

    /// A submitted order whose stock is reserved, confirmed at noon.
    fn confirmed_at_noon() -> PolicyTest<Fulfilment> {
        policy::<Fulfilment>()
            .at("2026-03-01T12:00:00Z".parse().unwrap())
            .given::<Order>(ORDER, submitted())
            .given::<Stock>("coffee", reserved(2))
            .given::<Stock>("tea", reserved(3))
            .given::<Order>(ORDER, confirmed())
    }

    #[test]
    fn a_submitted_order_is_binding_once_everything_is_reserved() {
        policy::<Fulfilment>()
            .when::<Order>(ORDER, submitted())
            .then(|effects| {
                effects.send(reserve("coffee", 2));
                effects.send(reserve("tea", 3));
            })
            .when::<Stock>("tea", reserved(3))
            .then_nothing()
            .when::<Stock>("coffee", reserved(2))
            .then(|effects| effects.send(ConfirmOrder { order: order() }))
            .at("2026-03-01T12:00:00Z".parse().unwrap())
            .when::<Order>(ORDER, confirmed())
            .then(|effects| {
                let until = "2026-03-01T12:15:00Z".parse().unwrap();
                effects.at(
                    "payment",
                    until,
                    ExpireOrder { order: order(), reason: reason("not paid in time") },
                );
            });
    }

    #[test]
    fn what_is_paid_is_shipped() {
        let test = confirmed_at_noon()
            .when::<Order>(ORDER, paid())
            .then(|effects| {
                effects.disarm("payment");
                effects.send(ShipOrder { order: order(), on: "2026-03-01".parse().unwrap() });
            })
            .when::<Order>(ORDER, OrderEvent::Shipped { on: "2026-03-01".parse().unwrap() })
            .then(|effects| {
                effects.send(ShipStock { product: product("coffee"), order: order() });
                effects.send(ShipStock { product: product("tea"), order: order() });
            });
        assert_eq!(test.state(ORDER), None, "nothing is remembered of an order that is done");
    }

    #[test]
    fn what_is_not_in_stock_calls_the_order_off_and_the_rest_is_released() {
        let test = policy::<Fulfilment>()
            .given::<Order>(ORDER, submitted())
            .given::<Stock>("coffee", reserved(2))
            .when_refused(ORDER, reserve("tea", 3), "3 asked for, 0 available")
            .then(|effects| {
                effects.send(CancelOrder { order: order(), reason: reason("not everything is in stock") });
            })
            .when::<Order>(ORDER, cancelled())
            .then(release_all);
        assert_eq!(test.state(ORDER), None);
    }

    #[test]
    fn whoever_cancels_the_order_gives_its_stock_back() {
        confirmed_at_noon().when::<Order>(ORDER, cancelled()).then(release_all);
        confirmed_at_noon().given::<Order>(ORDER, paid()).when::<Order>(ORDER, cancelled()).then(release_all);
    }

    #[test]
    fn what_cannot_be_shipped_is_called_off() {
        let ship = ShipOrder { order: order(), on: "2026-03-01".parse().unwrap() };
        confirmed_at_noon()
            .given::<Order>(ORDER, paid())
            .when_refused(ORDER, ship, "an order placed on 2026-03-02 cannot have been shipped on 2026-03-01")
            .then(|effects| {
                effects.send(CancelOrder { order: order(), reason: reason("it could not be shipped") });
            });
    }

    #[test]
    fn orders_that_go_by_hand_are_left_alone() {
        policy::<Fulfilment>()
            .when::<Stock>("coffee", reserved(2))
            .then_nothing()
            .when::<Order>(ORDER, confirmed())
            .then_nothing()
            .when::<Order>(ORDER, paid())
            .then_nothing()
            .when::<Order>(ORDER, cancelled())
            .then_nothing();
    }
}
