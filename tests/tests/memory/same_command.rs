//! Two aggregates have a command of the same name, and one of them is not part of the service.

use cqrs_core::{
    Aggregate, Apply, Command, Context, Cqrs, Effects, Envelope, Error, Event, Handle, Handled, Policy,
    React, Start, memory::Memory,
};
use serde::{Deserialize, Serialize};

/// An aggregate that can be opened and closed.
macro_rules! closable {
    ($module:ident $aggregate:ident $event:ident $prefix:literal) => {
        mod $module {
            use super::*;

            #[derive(Debug, Clone, Serialize, Deserialize, Event)]
            #[event(prefix = $prefix)]
            pub(super) enum $event {
                Opened,
                Closed,
            }

            #[derive(Debug, thiserror::Error)]
            pub(super) enum Never {}

            #[derive(Default, Clone, Aggregate)]
            #[aggregate(id = u32, event = $event, rejection = Never, commands(Open, Close))]
            pub(super) struct $aggregate;

            impl Apply<$event> for $aggregate {
                fn apply(&mut self, _: &$event) {}
            }

            #[derive(Serialize, Deserialize, Command)]
            #[command(aggregate = $aggregate, create)]
            pub(super) struct Open {
                #[command(id)]
                pub(super) id: u32,
            }

            impl Handle<Open> for $aggregate {
                fn handle(&self, _: &Open, _: &Context) -> Handled<Self> {
                    Ok($event::Opened.into())
                }
            }

            #[derive(Serialize, Deserialize, Command)]
            #[command(aggregate = $aggregate, upsert)]
            pub(super) struct Close {
                #[command(id)]
                pub(super) id: u32,
            }

            impl Handle<Close> for $aggregate {
                fn handle(&self, _: &Close, _: &Context) -> Handled<Self> {
                    Ok($event::Closed.into())
                }
            }
        }
    };
}

closable! { tickets Ticket TicketEvent "ticket" }
closable! { accounts Account AccountEvent "account" }

/// Closes an account for each ticket: at once for an odd one, and by a deadline for an even one.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Closing;

impl Policy for Closing {
    const NAME: &'static str = "closing";
    const START: Start = Start::Beginning;
    type Of = tickets::Ticket;
}

impl React<tickets::TicketEvent> for Closing {
    fn react(&mut self, event: &Envelope<tickets::TicketEvent>, effects: &mut Effects) {
        let tickets::TicketEvent::Opened = event.data else { return };
        let (ticket, close) = (event.subject().parse::<u32>().unwrap(), accounts::Close { id: 77 });
        if ticket % 2 == 1 {
            effects.send(close);
        } else {
            effects.at("closing", event.time, close);
        }
    }
}

/// Otherwise the ticket with the account's id would be closed.
#[tokio::test]
async fn a_policys_command_goes_to_no_other_aggregate() {
    for ticket in [1, 2] {
        let builder = Cqrs::builder(Memory::default()).aggregate::<tickets::Ticket>().policy::<Closing>();
        let service = builder.start().await.unwrap();
        service.execute(tickets::Open { id: ticket }).await.unwrap();
        let error = service.caught_up().await.unwrap_err();
        let Error::SetAside { .. } = error else { panic!("{error}") };
        let letters = service.dead_letters("closing").await.unwrap().list().await.unwrap();
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        let reason = "this service has no command \"close\": put it into the list `commands(…)` or `internal(…)` of \
                      aggregate \"account\", and that into the service";
        assert!(letter.to_string().contains(reason), "{letter}");
        // It was not created by the command.
        let receipt = service.execute(tickets::Open { id: 77 }).await.unwrap();
        assert_eq!(receipt.version, 1);
        service.stop().await;
    }
}
