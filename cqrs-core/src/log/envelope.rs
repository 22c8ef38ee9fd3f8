//! An event with its context in the log.

use std::{str::FromStr, sync::Arc};

use jiff::Timestamp;

use crate::{
    base::{
        id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, Position},
        metadata::Metadata,
    },
    model::{
        aggregate::Aggregate,
        event::{Event, EventType},
        typed_id::ForeignId,
    },
};

/// An event in the log: the fact, its aggregate, its time and its cause.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Envelope<E> {
    /// The event's own id.
    pub id: EventId,
    /// The type under which it is stored: the name and the version of that time. If the event was renamed or has a new
    /// version since, [`event_type`](Self::event_type) is another one.
    pub stored_type: EventType,
    /// The context that recorded it, such as `/orders`.
    pub source: Arc<str>,
    /// Its aggregate.
    pub aggregate: AggregateKey,
    /// Its version: its number among the aggregate's events, from 1.
    pub version: u64,
    /// Its position in the whole log.
    pub position: Position,
    /// The time at which its command was handled.
    pub time: Timestamp,
    /// Its command.
    pub command_id: CommandId,
    /// The business transaction that it belongs to.
    pub correlation_id: CorrelationId,
    /// The message that caused the command, if another message did.
    pub causation_id: Option<CausationId>,
    /// The metadata of the command.
    pub metadata: Metadata,
    /// The event's own data.
    pub data: E,
}

impl<E: Event> Envelope<E> {
    /// The present type of the event: its name in this program, also if it is stored under an
    /// [old name](crate::guide::schema) (an alias), and the version of [`data`](Self::data).
    ///
    /// ```
    /// # use cqrs_core::{Envelope, Event};
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Debug, Serialize, Deserialize, Event)]
    /// #[event(prefix = "order")]
    /// enum OrderEvent {
    ///     #[event(aliases("order.settled"))] // What it was called once.
    ///     Paid,
    /// }
    ///
    /// fn line(event: &Envelope<OrderEvent>) -> String {
    ///     // order.paid, for old events as well; `event.stored_type.name` is order.settled for those.
    ///     format!("{} {}", event.time, event.event_type().name)
    /// }
    /// ```
    pub fn event_type(&self) -> EventType {
        self.data.event_type()
    }

    /// The aggregate's id as text, which CloudEvents calls the subject.
    pub fn subject(&self) -> &str {
        self.aggregate.id()
    }

    /// The aggregate's id as the type of ids of `A`, the aggregate that records these events; see
    /// [`AggregateKey::id_of`].
    ///
    /// ```
    /// # use cqrs_core::{Aggregate, Apply, Command, Context, Effects, Envelope, Event, Handle, Handled, Policy, React};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    /// # #[event(prefix = "order")]
    /// # enum OrderEvent { Paid, Shipped }
    /// # #[derive(Debug, thiserror::Error)]
    /// # enum Never {}
    /// # #[derive(Default, Clone, Aggregate)]
    /// # #[aggregate(id = u32, event = OrderEvent, rejection = Never, commands(ShipOrder))]
    /// # struct Order;
    /// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
    /// # #[derive(Serialize, Deserialize, Command)]
    /// # #[command(aggregate = Order)]
    /// # struct ShipOrder { #[command(id)] order: u32 }
    /// # impl Handle<ShipOrder> for Order {
    /// #     fn handle(&self, _: &ShipOrder, _: &Context) -> Handled<Self> { Ok(OrderEvent::Shipped.into()) }
    /// # }
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Shipping;
    /// # impl Policy for Shipping {
    /// #     const NAME: &'static str = "shipping";
    /// #     const START: cqrs_core::Start = cqrs_core::Start::Beginning;
    /// #     type Of = Order;
    /// # }
    /// impl React<OrderEvent> for Shipping {
    ///     fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
    ///         if let (OrderEvent::Paid, Ok(order)) = (&event.data, event.aggregate_id::<Order>()) {
    ///             effects.send(ShipOrder { order });
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ForeignId`].
    pub fn aggregate_id<A>(&self) -> Result<A::Id, ForeignId>
    where
        A: Aggregate<Event = E, Id: FromStr>,
    {
        self.aggregate.id_of::<A>()
    }
}
