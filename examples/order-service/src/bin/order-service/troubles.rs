//! What goes wrong while the service runs: projectors that do not go on, dead letters and dead intents.

use std::collections::BTreeMap;

use cqrs_core::{Error, Policy as _, operate::ProjectorState};
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
        let states = projectors.iter().map(|status| (status.projection.to_string(), status.state.clone()));
        let mut news = self.health.look(&states.collect::<Vec<_>>());
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

/// A projector's name and state.
type Look = (String, ProjectorState);

/// Tells that projectors wait if that lasts from one look to the next: in one line for all of them, since an outage of a
/// store concerns them all. Shorter waits are normal: a projector becomes a standby or active whenever another process
/// starts or ends. A projector that has halted is a line of its own. The end is a line, too.
#[derive(Default)]
struct Health {
    /// The projectors that waited at the last look.
    waited: Vec<String>,
    /// Whether the line was printed that projectors wait.
    told: bool,
    /// The projectors that are told to have halted.
    halted: Vec<String>,
}

impl Health {
    fn look(&mut self, projectors: &[Look]) -> Vec<String> {
        let waiting: Vec<_> = projectors.iter().filter_map(waiting).collect();
        let mut news = Vec::new();
        let lasting: Vec<_> = waiting.iter().filter(|(name, _)| self.waited.contains(name)).collect();
        if let ([(name, reason), others @ ..], false) = (&lasting[..], self.told) {
            let waits = match others.len() {
                0 => format!("{name} waits and tries again"),
                1 => format!("{name} and another one wait and try again"),
                more => format!("{name} and {more} others wait and try again"),
            };
            news.push(format!("{waits}: {reason}"));
            self.told = true;
        }
        self.waited = waiting.into_iter().map(|(name, _)| name).collect();
        for (name, state) in projectors {
            if let ProjectorState::Halted { reason } = state
                && !self.halted.contains(name)
            {
                self.halted.push(name.clone());
                let advice = "repair the cause and start order-service serve again";
                news.push(format!("{name} has halted: {reason}\n  {advice}"));
            }
        }
        if self.waited.is_empty() && std::mem::take(&mut self.told) {
            let all = if self.halted.is_empty() { "everything is" } else { "the others are" };
            news.push(format!("{all} followed again"));
        }
        news
    }
}

/// The name and the reason of a projector that waits.
fn waiting((name, state): &Look) -> Option<(String, String)> {
    match state {
        ProjectorState::Retrying { reason } => Some((name.clone(), reason.clone())),
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

    #[test]
    fn an_outage_is_told_in_one_line_and_its_end_in_another() {
        let retrying = |name: &str| {
            (name.to_owned(), ProjectorState::Retrying { reason: format!("no answer about {name}") })
        };
        let running = |name: &str| (name.to_owned(), ProjectorState::Running);
        let names = ["a-v1", "b-v1", "c-v1"];
        let (away, back) = (names.map(retrying), names.map(running));
        let mut health = Health::default();
        for _ in 0..2 {
            assert_eq!(health.look(&away), [""; 0], "it may pass");
            assert_eq!(health.look(&away), ["a-v1 and 2 others wait and try again: no answer about a-v1"]);
            assert_eq!(health.look(&away), [""; 0]);
            assert_eq!(health.look(&[running("a-v1"), retrying("b-v1"), running("c-v1")]), [""; 0]);
            assert_eq!(health.look(&back), ["everything is followed again"]);
            assert_eq!(health.look(&back), [""; 0]);
        }
        assert_eq!(health.look(&away), [""; 0]);
        assert_eq!(health.look(&back), [""; 0], "it has passed");

        let halted = ("a-v1".to_owned(), ProjectorState::Halted { reason: "a gap".to_owned() });
        let advice = "repair the cause and start order-service serve again";
        assert_eq!(
            health.look(std::slice::from_ref(&halted)),
            [format!("a-v1 has halted: a gap\n  {advice}")]
        );
        assert_eq!(health.look(&[halted]), [""; 0]);
    }
}
