//! The states of a policy over several versions of its program: they are upgraded, and never read as something else.

use bytes::Bytes;
use cqrs_core::{
    Backend,
    operate::ProjectorState,
    port::{AnyViews, EventStore as _, ProjectionId, Save, ViewStore as _, Write},
};
use cqrs_tests::eventually;
use serde_json::{Value, json};

cqrs_tests::on_backends! { "policy-versions", memory nats: {
    a_state_of_an_earlier_version_is_upgraded
    a_state_of_a_later_version_halts_the_program_and_stays_as_it_is
    a_state_that_no_step_leads_from_halts_the_program
    a_state_without_a_version_has_version_1
} }

/// A program in which orders are paid, and a policy tells the order the sum of its payments.
macro_rules! program {
    ($program:ident, $version:literal, $State:ty, |$state:ident, $paid:ident| $sum:expr, $(|$from:ident, $old:ident| $upgrade:expr)?) => {
        mod $program {
            use cqrs_core::{
                Aggregate, Apply, Backend, Command, Context, Cqrs, Effects, Envelope, Event, Handle, Handled, Policy,
                Project, Query, React, Receipt, Start, View,
            };
            use serde::{Deserialize, Serialize};

            #[derive(Debug, Clone, Serialize, Deserialize, Event)]
            #[event(prefix = "order")]
            pub(super) enum OrderEvent {
                Paid { amount: u64 },
                Told { sum: u64 },
            }

            #[derive(Default, Clone, Aggregate)]
            #[aggregate(id = String, event = OrderEvent, rejection = std::convert::Infallible, commands(Pay, Tell))]
            pub(super) struct Order;

            impl Apply<OrderEvent> for Order {
                fn apply(&mut self, _: &OrderEvent) {}
            }

            #[derive(Serialize, Deserialize, Command)]
            #[command(aggregate = Order, upsert)]
            pub(super) struct Pay {
                #[command(id)]
                order: String,
                amount: u64,
            }

            impl Handle<Pay> for Order {
                fn handle(&self, command: &Pay, _: &Context) -> Handled<Self> {
                    Ok(OrderEvent::Paid { amount: command.amount }.into())
                }
            }

            #[derive(Serialize, Deserialize, Command)]
            #[command(aggregate = Order)]
            pub(super) struct Tell {
                #[command(id)]
                order: String,
                sum: u64,
            }

            impl Handle<Tell> for Order {
                fn handle(&self, command: &Tell, _: &Context) -> Handled<Self> {
                    Ok(OrderEvent::Told { sum: command.sum }.into())
                }
            }

            #[derive(Default, Serialize, Deserialize)]
            pub(super) struct Sums($State);

            impl Policy for Sums {
                const NAME: &'static str = "sums";
                const START: Start = Start::Beginning;
                const VERSION: u32 = $version;
                type Of = Order;

                $(fn upgrade(
                    $from: u32,
                    $old: serde_json::Value,
                ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
                    $upgrade.map(Self)
                })?
            }

            impl React<OrderEvent> for Sums {
                fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
                    if let OrderEvent::Paid { amount: $paid } = event.data {
                        let $state = &mut self.0;
                        effects.send(Tell { order: event.subject().to_owned(), sum: $sum });
                    }
                }
            }

            #[derive(Default, Serialize, Deserialize)]
            pub(super) struct Told(Vec<u64>);

            impl View for Told {
                const NAME: &'static str = "told";
                type Of = Order;
            }

            impl Project<OrderEvent> for Told {
                fn project(&mut self, event: &Envelope<OrderEvent>) {
                    if let OrderEvent::Told { sum } = event.data {
                        self.0.push(sum);
                    }
                }
            }

            #[derive(Query)]
            #[query(view = Told, answer = Option<Told>)]
            struct GetTold {
                #[query(key)]
                order: String,
            }

            pub(super) type Shop = Cqrs<(Order,), (Told,)>;

            #[allow(dead_code, reason = "not each program needs each function")]
            pub(super) async fn start(backend: impl Backend) -> Shop {
                let builder = Cqrs::builder(backend).aggregate::<Order>().view::<Told>();
                builder.policy::<Sums>().start().await.unwrap()
            }

            #[allow(dead_code, reason = "not each program needs each function")]
            pub(super) async fn pay(shop: &Shop, amount: u64) -> Receipt {
                shop.execute(Pay { order: "a".into(), amount }).await.unwrap()
            }

            #[allow(dead_code, reason = "not each program needs each function")]
            pub(super) async fn told(shop: &Shop) -> Vec<u64> {
                shop.settled().await.unwrap();
                shop.query(GetTold { order: "a".into() }).await.unwrap().unwrap_or_default().0
            }
        }
    };
}

program!(one, 1, u64, |sum, paid| {
    *sum += paid;
    *sum
},);
program!(
    two,
    2,
    Vec<u64>,
    |payments, paid| {
        payments.push(paid);
        payments.iter().sum()
    },
    |from, old| {
        assert_eq!(from, 1);
        Ok(vec![serde_json::from_value::<u64>(old)?])
    }
);
program!(without_a_step, 2, Vec<u64>, |payments, paid| {
    payments.push(paid);
    payments.iter().sum()
},);

const SUMS: ProjectionId = ProjectionId::new("sums", 1);

/// The place of the policy's states.
fn progress(backend: impl Backend) -> AnyViews {
    let (events, _) = backend.split();
    events.capabilities().progress_store().unwrap().clone()
}

async fn stored(states: &AnyViews) -> Value {
    let state = states.get(&SUMS, "a").await.unwrap().unwrap();
    serde_json::from_slice(&state).unwrap()
}

/// Why the policy has halted.
macro_rules! halted {
    ($shop:expr) => {{
        eventually("the policy halts", async || {
            matches!($shop.projector("sums").unwrap().state, ProjectorState::Halted { .. })
        })
        .await;
        let ProjectorState::Halted { reason } = $shop.projector("sums").unwrap().state else {
            unreachable!("it stays halted")
        };
        reason
    }};
}

async fn a_state_of_an_earlier_version_is_upgraded<B: Backend + Clone>(backend: B) {
    let states = progress(backend.clone());
    let old = one::start(backend.clone()).await;
    one::pay(&old, 5).await;
    assert_eq!(one::told(&old).await, [5]);
    assert_eq!(stored(&states).await, json!({ "cqrs.version": 1, "state": 5 }));
    old.stop().await;

    let new = two::start(backend).await;
    two::pay(&new, 7).await;
    assert_eq!(two::told(&new).await, [5, 12]);
    two::pay(&new, 1).await;
    assert_eq!(two::told(&new).await, [5, 12, 13]);
    assert_eq!(stored(&states).await, json!({ "cqrs.version": 2, "state": [5, 7, 1] }));
    new.stop().await;
}

async fn a_state_of_a_later_version_halts_the_program_and_stays_as_it_is<B: Backend + Clone>(backend: B) {
    let states = progress(backend.clone());
    let new = two::start(backend.clone()).await;
    two::pay(&new, 5).await;
    assert_eq!(two::told(&new).await, [5]);
    let before = stored(&states).await;
    new.stop().await;

    let old = one::start(backend.clone()).await;
    one::pay(&old, 7).await;
    assert_eq!(
        halted!(old),
        "the state of instance \"a\" of policy sums-v1 has version 2, and this program knows version 1: a newer program \
         goes on with it"
    );
    assert_eq!(stored(&states).await, before);
    assert_eq!(old.dead_letters("sums").await.unwrap().list().await.unwrap(), []);
    // Another instance, of the new program, goes on while the old one still runs.
    let new = two::start(backend).await;
    assert_eq!(two::told(&new).await, [5, 12]);
    for shop in [old.stop().await, new.stop().await] {
        assert_eq!(shop, []);
    }
}

async fn a_state_that_no_step_leads_from_halts_the_program<B: Backend + Clone>(backend: B) {
    let old = one::start(backend.clone()).await;
    one::pay(&old, 5).await;
    assert_eq!(one::told(&old).await, [5]);
    old.stop().await;
    let new = without_a_step::start(backend.clone()).await;
    without_a_step::pay(&new, 7).await;
    assert_eq!(
        halted!(new),
        "the state of instance \"a\" of policy sums-v1 has version 1, and this program cannot make version 2 of it (it \
         has no `upgrade`): start a program whose `Policy::upgrade` reads version 1"
    );
    new.stop().await;
    let better = two::start(backend).await;
    assert_eq!(two::told(&better).await, [5, 12]);
    better.stop().await;
}

async fn a_state_without_a_version_has_version_1<B: Backend + Clone>(backend: B) {
    let states = progress(backend.clone());
    let first = one::start(backend.clone()).await;
    one::pay(&first, 5).await;
    assert_eq!(one::told(&first).await, [5]);
    first.stop().await;
    let saved = states.checkpoint(&SUMS).await.unwrap();
    let revision = states.load(&SUMS, &["a".to_owned()]).await.unwrap()[0].revision;
    let writes = [Write { key: "a".into(), document: Some(Bytes::from_static(b"20")), revision }];
    let checkpoint = saved.checkpoint.unwrap();
    let save = Save { writes: &writes, notes: &[], checkpoint: &checkpoint, revision: saved.revision };
    states.save(&SUMS, save).await.unwrap();
    let second = two::start(backend).await;
    two::pay(&second, 1).await;
    assert_eq!(two::told(&second).await, [5, 21]);
    second.stop().await;
}
