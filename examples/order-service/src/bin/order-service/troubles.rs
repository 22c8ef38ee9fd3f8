//! What goes wrong while the service runs: projectors that do not go on, dead letters and dead intents.

use std::collections::BTreeMap;

use cqrs_core::{
    Error, Policy as _,
    operate::{ProjectorState, ProjectorStatus},
};
use order_service::{Fulfilment, OrderService};

use crate::{dead_intents, dead_letters};

/// The dead intents are read once in so many looks: unlike dead letters, they are not counted in a status.
const INTENTS: u64 = 5;

/// Tells each trouble once.
#[derive(Default)]
pub(crate) struct Troubles {
    looks: u64,
    health: Health,
    letters: BTreeMap<&'static str, SetAside>,
    intents: SetAside,
}

impl Troubles {
    /// What is new since the last look. A store that does not answer is asked again at the next one.
    pub(crate) async fn look(&mut self, service: &OrderService) -> Vec<String> {
        let projectors = service.projectors();
        let mut news = self.health.look(&projectors);
        for status in projectors {
            let view = status.projection.name;
            let told = self.letters.entry(view).or_default();
            if status.dead_letters > 0 || !told.is_empty() {
                news.extend(letters(service, view).await.map(|now| told.look(view, now)).unwrap_or_default());
            }
        }
        if self.looks.is_multiple_of(INTENTS)
            && let Ok(now) = intents(service).await
        {
            news.extend(self.intents.look(Fulfilment::NAME, now));
        }
        self.looks += 1;
        news
    }
}

/// What is set aside, with the words for each aggregate or order.
type Found = BTreeMap<String, String>;

async fn letters(service: &OrderService, view: &str) -> Result<Found, Error> {
    let letters = service.dead_letters(view).await?.list().await?;
    let words = |(letter, _): (&_, _)| dead_letters::in_words(view, letter);
    let found = dead_letters::by_aggregate(&letters).into_iter().map(|first| {
        let (words, aggregate) = (words(first), &first.0.aggregate);
        (
            aggregate.to_string(),
            format!("dead letter: {words}\n{}", dead_letters::what_to_do(view, aggregate)),
        )
    });
    Ok(found.collect())
}

async fn intents(service: &OrderService) -> Result<Found, Error> {
    let intents = service.dead_intents(Fulfilment::NAME).await?.list().await?;
    let found = intents.iter().filter(|intent| !intent.behind).map(|intent| {
        let (words, order) = (dead_intents::in_words(intent), &intent.key);
        (format!("order {order}"), format!("dead intent: {words}\n{}", dead_intents::what_to_do(order)))
    });
    Ok(found.collect())
}

/// The aggregates or orders of which something is set aside, and was told.
#[derive(Default)]
struct SetAside(Found);

impl SetAside {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells what was set aside since the last look, and of which aggregates nothing is set aside any more.
    fn look(&mut self, projection: &str, now: Found) -> Vec<String> {
        let new = now.iter().filter(|(of, _)| !self.0.contains_key(*of)).map(|(_, words)| words.clone());
        let over = self.0.keys().filter(|of| !now.contains_key(*of));
        let over =
            over.map(|of| format!("{projection} goes on with {of}: nothing of it is set aside any more"));
        let news = new.chain(over).collect();
        self.0 = now;
        news
    }
}

/// Tells that a projector does not go on if that lasts from one look to the next, and tells once that all go on again.
/// Shorter troubles are normal: a projector becomes a standby or active whenever another process starts or ends.
#[derive(Default)]
struct Health {
    last: Vec<String>,
    told: Vec<String>,
}

impl Health {
    fn look(&mut self, projectors: &[ProjectorStatus]) -> Vec<String> {
        let now: Vec<_> = projectors.iter().filter_map(trouble).collect();
        let lasting =
            now.iter().filter(|trouble| self.last.contains(trouble) && !self.told.contains(trouble));
        let mut news: Vec<_> = lasting.cloned().collect();
        self.told.extend(news.iter().cloned());
        if now.is_empty() && !self.told.is_empty() {
            self.told.clear();
            news.push("everything is followed again".to_owned());
        }
        self.last = now;
        news
    }
}

fn trouble(status: &ProjectorStatus) -> Option<String> {
    let view = &status.projection;
    match &status.state {
        ProjectorState::Retrying { reason } => Some(format!("{view} waits and tries again: {reason}")),
        ProjectorState::Halted { reason } => Some(format!(
            "{view} has halted: {reason}\n  repair the cause and start order-service serve again"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_told_once_and_its_end_too() {
        let found = |all: &[&str]| all.iter().map(|of| ((*of).to_owned(), format!("no {of}"))).collect();
        let mut told = SetAside::default();
        assert_eq!(told.look("view", found(&["order/1"])), ["no order/1"]);
        assert!(told.look("view", found(&["order/1"])).is_empty());
        assert_eq!(told.look("view", found(&["order/1", "order/2"])), ["no order/2"]);
        let over = "view goes on with order/1: nothing of it is set aside any more";
        assert_eq!(told.look("view", found(&["order/2", "order/3"])), ["no order/3", over]);
        assert_eq!(told.look("view", found(&["order/1", "order/2", "order/3"])), ["no order/1"]);
    }
}
