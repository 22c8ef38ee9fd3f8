//! Each mistake in `#[query(…)]` is reported on its own tokens, and nothing else is.

use cqrs_core::{Aggregate, Answer, Apply, Documents, Envelope, Error, Event, Project, Query, View};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No)]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Serialize, Deserialize)]
struct Summary;

impl View for Summary {
    const NAME: &'static str = "summary";
    type Of = Order;
}

impl Project<Paid> for Summary {
    fn key(_: &Envelope<Paid>) -> Option<String> {
        None
    }

    fn project(&mut self, _: &Envelope<Paid>) {}
}

#[derive(Query)]
struct NothingSaid {
    order: u32,
}

#[derive(Query)]
#[query(view = Summary)]
struct NoAnswer {
    #[query(key)]
    order: u32,
}

impl Answer<NothingSaid> for Summary {
    async fn answer(_: NothingSaid, _: &Documents<Self>) -> Result<u64, Error> {
        Ok(1)
    }
}

#[derive(Query)]
#[query(answer = Option<Summary>, name = "get summary")]
struct NoView {
    #[query(key)]
    order: u32,
}

#[derive(Query)]
#[query(view = Summary, answer = Option<Summary>, nam = "get", key = order, views(Summary))]
struct Mistakes {
    #[query(key)]
    order: u32,
    #[query(key, id)]
    other: u32,
    #[query(key = "text")]
    third: u32,
}

#[derive(Query)]
#[query(view = , answer = Option<Summary)]
struct WrongValues;

#[derive(Query)]
#[query(view = Summary, answer = u64)]
enum Either {
    One,
    Other,
}

#[derive(Query)]
#[query(view = Summary)]
struct Generic<Key> {
    #[query(key)]
    key: Key,
}

#[derive(Query)]
#[query(answer = u64)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Query)]
#[query(view = (Summary, Summary), answer = Option<Summary>)]
struct KeyOfSeveral {
    #[query(key)]
    key: String,
}

#[derive(Query)]
#[query(view = (Summary, Summary), answer = Option<Summary>)]
struct KeyOfSeveralBorrowed<'a> {
    #[query(key)]
    key: &'a str,
}

fn main() {}
