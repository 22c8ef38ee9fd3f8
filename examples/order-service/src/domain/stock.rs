//! Stock: the pieces of one product, in the warehouse and reserved for orders.

use std::collections::BTreeMap;

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Events, Handle, Handled};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Name, OrderId, ProductId};

/// The events of a product's stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(prefix = "stock", schema)]
pub enum StockEvent {
    /// Pieces have come in.
    Received {
        /// The product's name.
        name: Name,
        /// How many pieces.
        units: u32,
    },
    /// Pieces are reserved for an order.
    Reserved {
        /// Which order.
        order: OrderId,
        /// How many pieces.
        units: u32,
    },
    /// An order does not need its reserved pieces.
    Released {
        /// Which order.
        order: OrderId,
        /// How many pieces.
        units: u32,
    },
    /// The pieces of an order have left.
    Shipped {
        /// Which order.
        order: OrderId,
        /// How many pieces.
        units: u32,
    },
}

/// The stock of one product, with the state that its rules need.
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(
    id = ProductId,
    event = StockEvent,
    rejection = StockRejection,
    commands(ReceiveStock),
    internal(ReserveStock, ReleaseStock, ShipStock)
)]
pub struct Stock {
    on_hand: u64,
    reserved: BTreeMap<OrderId, u32>,
}

impl Apply<StockEvent> for Stock {
    fn apply(&mut self, event: &StockEvent) {
        match event {
            StockEvent::Received { units, .. } => self.on_hand += u64::from(*units),
            StockEvent::Reserved { order, units } => {
                self.reserved.insert(order.clone(), *units);
            }
            StockEvent::Released { order, .. } => {
                self.reserved.remove(order);
            }
            StockEvent::Shipped { order, units } => {
                self.reserved.remove(order);
                self.on_hand = self.on_hand.saturating_sub(u64::from(*units));
            }
        }
    }
}

impl Stock {
    /// The pieces that are in stock and not reserved.
    fn available(&self) -> u64 {
        let promised = self.reserved.values().copied().map(u64::from).sum();
        self.on_hand.saturating_sub(promised)
    }
}

/// Why the business rejects a command for stock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StockRejection {
    /// The quantity is zero.
    #[error("at least one piece is needed")]
    NoUnits,
    /// More pieces are requested than are available.
    #[error("{asked} asked for, {available} available")]
    NotEnough {
        /// How many are requested.
        asked: u32,
        /// How many are available.
        available: u64,
    },
    /// An order reserves once.
    #[error("order {order} has reserved {units} pieces already")]
    ReservedAlready {
        /// Which order.
        order: OrderId,
        /// How many.
        units: u32,
    },
    /// Only reserved pieces can be shipped.
    #[error("order {0} has reserved nothing")]
    NotReserved(OrderId),
}

/// Adds pieces. The first command creates the product's stock.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Stock, upsert)]
pub struct ReceiveStock {
    /// Which product.
    #[command(id)]
    pub product: ProductId,
    /// The product's name.
    pub name: Name,
    /// How many pieces.
    pub units: u32,
}

impl Handle<ReceiveStock> for Stock {
    fn handle(&self, command: &ReceiveStock, _: &Context) -> Handled<Self> {
        let ReceiveStock { name, units, .. } = command.clone();
        if units == 0 {
            return Err(StockRejection::NoUnits);
        }
        Ok(StockEvent::Received { name, units }.into())
    }
}

/// Reserves pieces for an order.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Stock)]
pub struct ReserveStock {
    /// Which product.
    #[command(id)]
    pub product: ProductId,
    /// For which order.
    pub order: OrderId,
    /// How many pieces.
    pub units: u32,
}

impl Handle<ReserveStock> for Stock {
    fn handle(&self, command: &ReserveStock, _: &Context) -> Handled<Self> {
        let ReserveStock { order, units: asked, .. } = command.clone();
        let available = self.available();
        match self.reserved.get(&order) {
            Some(&units) if units == asked => Ok(Events::none()),
            Some(&units) => Err(StockRejection::ReservedAlready { order, units }),
            None if asked == 0 => Err(StockRejection::NoUnits),
            None if available < u64::from(asked) => Err(StockRejection::NotEnough { asked, available }),
            None => Ok(StockEvent::Reserved { order, units: asked }.into()),
        }
    }
}

/// Releases a reservation. There need not be one, so that a repeat is no error.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Stock)]
pub struct ReleaseStock {
    /// Which product.
    #[command(id)]
    pub product: ProductId,
    /// Of which order.
    pub order: OrderId,
}

impl Handle<ReleaseStock> for Stock {
    fn handle(&self, command: &ReleaseStock, _: &Context) -> Handled<Self> {
        let order = command.order.clone();
        let reserved = self.reserved.get(&order);
        Ok(reserved.map_or_else(Events::none, |&units| StockEvent::Released { order, units }.into()))
    }
}

/// Ships the pieces that are reserved for an order.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Stock)]
pub struct ShipStock {
    /// Which product.
    #[command(id)]
    pub product: ProductId,
    /// Of which order.
    pub order: OrderId,
}

impl Handle<ShipStock> for Stock {
    fn handle(&self, command: &ShipStock, _: &Context) -> Handled<Self> {
        let order = command.order.clone();
        match self.reserved.get(&order) {
            Some(&units) => Ok(StockEvent::Shipped { order, units }.into()),
            None => Err(StockRejection::NotReserved(order)),
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_core::testing::{given, given_nothing};

    use super::*;

    fn product() -> ProductId {
        "11".parse().unwrap()
    }

    fn order(id: &str) -> OrderId {
        id.parse().unwrap()
    }

    fn received(units: u32) -> StockEvent {
        StockEvent::Received { name: "Chai".parse().unwrap(), units }
    }

    fn reserved(id: &str, units: u32) -> StockEvent {
        StockEvent::Reserved { order: order(id), units }
    }

    fn receive(units: u32) -> ReceiveStock {
        ReceiveStock { product: product(), name: "Chai".parse().unwrap(), units }
    }

    fn reserve(id: &str, units: u32) -> ReserveStock {
        ReserveStock { product: product(), order: order(id), units }
    }

    fn release(id: &str) -> ReleaseStock {
        ReleaseStock { product: product(), order: order(id) }
    }

    fn ship(id: &str) -> ShipStock {
        ShipStock { product: product(), order: order(id) }
    }

    #[test]
    fn stock_comes_into_being_with_the_first_pieces() {
        given_nothing::<Stock>().when(receive(10)).then([received(10)]);
        given([received(10)]).when(receive(5)).then([received(5)]);
        given_nothing::<Stock>().when(receive(0)).then_rejected(StockRejection::NoUnits);
    }

    #[test]
    fn only_what_is_available_is_reserved() {
        given([received(10)]).when(reserve("A", 10)).then([reserved("A", 10)]);
        given([received(10), reserved("A", 8)])
            .when(reserve("B", 3))
            .then_rejected(StockRejection::NotEnough { asked: 3, available: 2 });
        given([received(10)]).when(reserve("A", 0)).then_rejected(StockRejection::NoUnits);
        given_nothing::<Stock>().when(reserve("A", 1)).then_not_found();
    }

    #[test]
    fn an_order_reserves_once() {
        given([received(10), reserved("A", 3)]).when(reserve("A", 3)).then_nothing();
        let already = StockRejection::ReservedAlready { order: order("A"), units: 3 };
        given([received(10), reserved("A", 3)]).when(reserve("A", 4)).then_rejected(already);
    }

    #[test]
    fn what_is_released_is_available_again() {
        let released = StockEvent::Released { order: order("A"), units: 3 };
        given([received(3), reserved("A", 3)]).when(release("A")).then([released.clone()]);
        given([received(3), reserved("A", 3), released.clone()]).when(release("A")).then_nothing();
        given([received(3), reserved("A", 3), released]).when(reserve("B", 3)).then([reserved("B", 3)]);
    }

    #[test]
    fn only_what_was_reserved_is_shipped_and_only_once() {
        let shipped = StockEvent::Shipped { order: order("A"), units: 3 };
        given([received(5), reserved("A", 3)]).when(ship("A")).then([shipped.clone()]);
        given([received(5), reserved("A", 3), shipped.clone()])
            .when(ship("A"))
            .then_rejected(StockRejection::NotReserved(order("A")));
        given([received(5), reserved("A", 3), shipped])
            .when(reserve("B", 3))
            .then_rejected(StockRejection::NotEnough { asked: 3, available: 2 });
        given([received(5)]).when(ship("B")).then_rejected(StockRejection::NotReserved(order("B")));
    }
}
