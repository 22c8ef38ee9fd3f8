//! The sources of events that can be followed.

use crate::model::{aggregate::Aggregate, event::Event, required::IsSharedEvent};

/// A type of events in a log, with the stored name of their aggregates. Every [`Aggregate`] is one. The announcements
/// of a context are another, which have a name and events but no rules.
///
/// ```
/// use cqrs_core::{Event, model::EventSource};
/// use serde::{Deserialize, Serialize};
///
/// /// What the shop tells others about its orders.
/// #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// enum ShopEvent {
///     #[event(name = "shop.order-shipped")]
///     OrderShipped { customer: String },
/// }
///
/// struct Shop;
///
/// impl EventSource for Shop {
///     const NAME: &'static str = "order";
///     type Event = ShopEvent;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `EventSource`: it has no events to follow",
    note = "it is an aggregate (`#[derive(cqrs_core::Aggregate)]`), or says itself what it is: `impl EventSource for {Self}`"
)]
pub trait EventSource: 'static {
    /// The stored name, such as `order`: `a-z`, `0-9`, `_` and `-`. Never change it: it is in the log.
    const NAME: &'static str;

    /// The type of its events.
    type Event: Event + IsSharedEvent;
}

impl<A: Aggregate> EventSource for A {
    const NAME: &'static str = A::NAME;
    type Event = A::Event;
}
