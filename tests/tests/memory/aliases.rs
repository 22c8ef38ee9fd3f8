//! An event that was renamed: its present name is what readers see, also of old events, and the stored name is there.

use cqrs_core::{
    Aggregate, Apply, Command, Context, Cqrs, Envelope, Event, Handle, Handled, Project, Query, View,
    memory::Memory, model::EventType,
};
use serde::{Deserialize, Serialize};

macro_rules! program {
    ($module:ident, $($event:tt)*) => {
        mod $module {
            use super::*;

            #[derive(Debug, Clone, Serialize, Deserialize, Event)]
            #[event(prefix = "order")]
            pub(super) enum OrderEvent {
                $($event)*
            }

            #[derive(Debug, Default, Clone, Aggregate)]
            #[aggregate(id = u32, event = OrderEvent, rejection = std::fmt::Error, commands(Pay))]
            pub(super) struct Order;

            impl Apply<OrderEvent> for Order {
                fn apply(&mut self, _: &OrderEvent) {}
            }

            #[derive(Debug, Serialize, Deserialize, Command)]
            #[command(aggregate = Order, upsert)]
            pub(super) struct Pay {
                #[command(id)]
                pub(super) order: u32,
            }

            impl Handle<Pay> for Order {
                fn handle(&self, _: &Pay, _: &Context) -> Handled<Self> {
                    Ok(OrderEvent::made().into())
                }
            }
        }
    };
}

program!(old, Settled);
program!(
    new,
    #[event(version = 2, upcast(1 = SettledV1), aliases("order.settled"))]
    Paid { amount: u32 }
);

impl old::OrderEvent {
    fn made() -> Self {
        Self::Settled
    }
}

impl new::OrderEvent {
    fn made() -> Self {
        Self::Paid { amount: 9 }
    }
}

/// What it was once stored with.
#[derive(Deserialize)]
struct SettledV1 {}

impl From<SettledV1> for new::OrderEvent {
    fn from(_: SettledV1) -> Self {
        Self::Paid { amount: 0 }
    }
}

/// The present and the stored types of an order's events.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Types(Vec<[(String, u32); 2]>);

impl View for Types {
    const NAME: &'static str = "types";
    type Of = new::Order;
}

impl Project<new::OrderEvent> for Types {
    fn project(&mut self, event: &Envelope<new::OrderEvent>) {
        let shown = |EventType { name, version }| (name.to_owned(), version);
        self.0.push([shown(event.event_type()), shown(event.stored_type)]);
    }
}

#[derive(Debug, Query)]
#[query(view = Types, answer = Option<Types>)]
struct GetTypes {
    #[query(key)]
    order: u32,
}

#[tokio::test]
async fn an_aliased_event_has_its_present_name_and_the_stored_one() {
    let backend = Memory::default();
    let first = Cqrs::builder(backend.clone()).aggregate::<old::Order>().start().await.unwrap();
    first.execute(old::Pay { order: 7 }).await.unwrap();
    first.stop().await;

    let next = Cqrs::builder(backend).aggregate::<new::Order>().view::<Types>().start().await.unwrap();
    let receipt = next.execute(new::Pay { order: 7 }).await.unwrap();
    let types = next.query(GetTypes { order: 7 }).after(&receipt).await.unwrap().unwrap().0;
    let (paid, settled) = (("order.paid".to_owned(), 2), ("order.settled".to_owned(), 1));
    assert_eq!(types, [[paid.clone(), settled], [paid.clone(), paid]]);
    next.stop().await;
}
