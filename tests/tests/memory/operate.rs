//! What an operator's program reads of projections: the status of one by its name, and dead letters with their data.

use cqrs_core::{
    Aggregate, Apply, Command, Context, Cqrs, Envelope, Error, Event, Handle, Handled, Project, StoreError,
    View,
    memory::Memory,
    operate::{DeadLetter, DeadLetters},
};
use cqrs_tests::{
    domain::{Account, Openings, Statement},
    eventually,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[tokio::test]
async fn the_status_of_one_projection_is_that_of_the_active_build() {
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>();
    let bank = builder.view::<Statement>().view::<Openings>().start().await.unwrap();
    let build = || bank.projector("statement").unwrap().projection.build;
    assert_eq!(bank.projector("openings").unwrap().projection.name, "openings");
    assert_eq!(build(), 1);

    let mut rebuild = bank.rebuild("statement").await.unwrap();
    assert_eq!((bank.projectors().len(), build()), (3, 1), "the old build answers");
    rebuild.finished().await.unwrap();
    eventually("the new build is the active one", async || build() == 2).await;

    let error = bank.projector("statements").unwrap_err();
    let Error::UnknownProjection { name, known } = error else { panic!("{error:?}") };
    assert_eq!((name.as_str(), &known[..]), ("statements", &["statement", "openings"][..]));
    bank.stop().await;
}

macro_rules! meter {
    ($module:ident, $($codec:tt)*) => {
        mod $module {
            use super::*;

            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
            #[event(prefix = "meter" $($codec)*)]
            pub(super) enum MeterEvent {
                Measured { value: u32 },
            }

            #[derive(Debug, Default, Clone, Aggregate)]
            #[aggregate(id = u32, event = MeterEvent, rejection = std::fmt::Error, commands(Measure))]
            pub(super) struct Meter;

            impl Apply<MeterEvent> for Meter {
                fn apply(&mut self, _: &MeterEvent) {}
            }

            #[derive(Debug, Serialize, Deserialize, Command)]
            #[command(aggregate = Meter, upsert)]
            pub(super) struct Measure {
                #[command(id)]
                pub(super) meter: u32,
                pub(super) values: Vec<u32>,
            }

            impl Handle<Measure> for Meter {
                fn handle(&self, command: &Measure, _: &Context) -> Handled<Self> {
                    Ok(command.values.iter().map(|value| MeterEvent::Measured { value: *value }).collect())
                }
            }

            /// It cannot bear a 13.
            #[derive(Debug, Default, Serialize, Deserialize)]
            pub(super) struct Picky;

            impl View for Picky {
                const NAME: &'static str = "picky";
                type Of = Meter;
            }

            impl Project<MeterEvent> for Picky {
                fn project(&mut self, event: &Envelope<MeterEvent>) {
                    let MeterEvent::Measured { value } = event.data;
                    assert!(value != 13, "no\nthirteen");
                }
            }

            /// The dead letters of the view after one commit with these values.
            pub(super) async fn dead(values: &[u32]) -> (DeadLetters, Vec<DeadLetter>) {
                let builder = Cqrs::builder(Memory::default()).aggregate::<Meter>();
                let cqrs = builder.view::<Picky>().start().await.unwrap();
                cqrs.execute(Measure { meter: 7, values: values.to_vec() }).await.unwrap();
                let missing = cqrs.caught_up().await;
                assert!(matches!(missing, Err(Error::SetAside { .. })), "{missing:?}");
                let dead = cqrs.dead_letters("picky").await.unwrap();
                let letters = dead.list().await.unwrap();
                (dead, letters)
            }
        }
    };
}

meter!(in_json,);
meter!(in_bincode, , codec = bincode);

#[tokio::test]
async fn the_data_of_a_dead_letter_is_json_at_once() {
    use in_json::MeterEvent;

    let (dead, letters) = in_json::dead(&[1, 13, 2]).await;
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    let line = letter.to_string();
    let begin = "meter/7: meter.measured, version 2 at 1, and 1 event after it: ";
    assert!(line.starts_with(begin) && line.ends_with(r"no\nthirteen"), "{line}");

    assert_eq!(dead.data(letter).await.unwrap(), Some(json!({ "value": 13 })));
    let event = dead.decoded::<MeterEvent>(letter).await.unwrap().unwrap();
    assert_eq!((event.version, event.data), (2, MeterEvent::Measured { value: 13 }));

    let edited = dead.edit(letter.position, r#"{ "value": 12 }"#).await.unwrap().unwrap();
    assert_eq!(dead.data(&edited).await.unwrap(), Some(json!({ "value": 12 })), "what a retry applies");
    let event = dead.decoded::<MeterEvent>(&edited).await.unwrap().unwrap();
    assert_eq!(event.data, MeterEvent::Measured { value: 12 });
    assert_eq!(dead.retry(&letter.aggregate).await.unwrap().applied, 2);

    let mut elsewhere = letter.clone();
    elsewhere.position.sequence = 99;
    assert_eq!(dead.data(&elsewhere).await.unwrap(), None, "the log has no such event");
    elsewhere.position = letter.position;
    elsewhere.position.index = 3;
    assert_eq!(dead.data(&elsewhere).await.unwrap(), None);
}

#[tokio::test]
async fn an_event_in_bincode_needs_its_type() {
    use in_bincode::MeterEvent;

    let (dead, letters) = in_bincode::dead(&[13]).await;
    let event = dead.decoded::<MeterEvent>(&letters[0]).await.unwrap().unwrap();
    assert_eq!(event.data, MeterEvent::Measured { value: 13 });
    let error = dead.data(&letters[0]).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Undecodable { .. })), "{error:?}");
    assert!(error.to_string().contains("application/x-bincode, and not as JSON: decode it"), "{error}");
    // Edited data is JSON in any case.
    let edited = dead.edit(letters[0].position, r#"{ "value": 12 }"#).await.unwrap().unwrap();
    assert_eq!(dead.data(&edited).await.unwrap(), Some(json!({ "value": 12 })));
}
