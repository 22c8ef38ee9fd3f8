//! The outbox of a policy, as this process knows it: a lane of intents for each state that has some.
//!
//! Lanes run at the same time. A lane that waits after a transient failure, or that takes long, holds up no other lane
//! and no event; the intents behind a dead intent wait.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    base::{backoff, store_error::StoreError},
    effects::{
        carrier::{Carrier, Ended, Hope, PendingIntent, SendFailure},
        intents::Refusal,
        policy_projection::notes::Noted,
    },
    port::projection::Waiting,
};

/// How many lanes run at the same time, not counting those that take long.
const LANES: usize = 16;

/// How long a call waits for a running lane.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause of a lane before it tries again, at first and at most. It bounds how late it notices that a failure has
/// passed.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How often the projector checks whether a lane that takes long has ended.
const LOOK: Duration = Duration::from_millis(200);

/// The outbox, as of a revision of the policy's checkpoint.
#[derive(Default)]
pub(crate) struct Work {
    pub(super) revision: u64,
    lanes: BTreeMap<String, Lane>,
    /// Dropping it ends the lanes that run; their intents are executed again later under the same ids.
    running: JoinSet<Ended>,
    /// The places of the intents that have marks.
    marked: HashSet<String>,
}

/// The intents of one state.
#[derive(Default)]
struct Lane {
    /// By place.
    pending: BTreeMap<String, PendingIntent>,
    /// The places of the failed intents; the intents after the first of them wait.
    dead: BTreeSet<String>,
    state: State,
    /// How many of its intents are under way.
    under_way: usize,
    /// How often in a row it has failed.
    failures: u32,
}

#[derive(Default)]
enum State {
    #[default]
    Ready,
    /// Since that time.
    Running(Instant),
    Waits {
        until: Instant,
        reason: String,
    },
}

/// The outcome of an intent, to be written.
#[derive(Debug)]
pub(crate) enum Step {
    /// The intent has ended, with its refusal if it was refused.
    Over(PendingIntent, Option<Refusal>),
    /// The intent has failed permanently.
    Dead(PendingIntent, SendFailure),
}

impl Step {
    pub(super) fn pending(&self) -> &PendingIntent {
        match self {
            Self::Over(pending, _) | Self::Dead(pending, _) => pending,
        }
    }
}

impl Work {
    pub(super) fn nothing(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// The noted intents. `first_time` says whether this process sees an intent for the first time: then a mark of
    /// another program is ignored, if this program might execute the intent.
    pub(super) fn of(
        revision: u64,
        noted: BTreeMap<String, Vec<Noted>>,
        mut first_time: impl FnMut(&str) -> bool,
    ) -> Self {
        let mut work = Self::nothing(revision);
        for (key, noted) in noted {
            let lane = work.lanes.entry(key).or_default();
            for noted in noted {
                let other_program = noted.mark.as_ref().is_some_and(|mark| mark.other_program);
                let is_dead = noted.is_dead() && !(other_program && first_time(&noted.place));
                if noted.mark.is_some() {
                    work.marked.insert(noted.place.clone());
                }
                match noted.intent {
                    Ok(intent) if !is_dead => {
                        let (place, attempts) = (noted.place, noted.mark.map_or(0, |mark| mark.attempts));
                        lane.pending.insert(place.clone(), PendingIntent { place, intent, attempts });
                    }
                    _ => drop(lane.dead.insert(noted.place)),
                }
            }
        }
        work
    }

    /// Adds intents.
    pub(super) fn add(&mut self, pending: Vec<PendingIntent>) {
        for pending in pending {
            let lane = self.lanes.entry(pending.intent.key.clone()).or_default();
            lane.pending.insert(pending.place.clone(), pending);
        }
    }

    pub(super) fn is_dead(&self, pending: &PendingIntent) -> bool {
        self.lanes.get(&pending.intent.key).is_some_and(|lane| lane.dead.contains(&pending.place))
    }

    pub(super) fn has_mark(&self, place: &str) -> bool {
        self.marked.contains(place)
    }

    /// Runs all lanes that are ready, until each has ended or taken longer than [`PATIENCE`]. Returns the outcomes to
    /// write; an empty list if no intent has ended and no lane can start.
    pub(super) async fn ended(&mut self, carrier: &Arc<Carrier>) -> Result<Vec<Step>, StoreError> {
        let interrupted = |error| StoreError::unavailable("carrying out what a policy wants", error);
        let begun = Instant::now();
        let mut steps = Vec::new();
        loop {
            self.start(carrier, begun);
            let Some(until) = self.lanes.values().filter_map(Lane::has_time).max() else { break };
            match tokio::time::timeout_at(until, self.running.join_next()).await {
                Ok(Some(ended)) => self.receive(ended.map_err(interrupted)?, &mut steps),
                Ok(None) => break,
                // The call waits for this lane no longer.
                Err(_) => {}
            }
        }
        while let Some(ended) = self.running.try_join_next() {
            self.receive(ended.map_err(interrupted)?, &mut steps);
        }
        Ok(steps)
    }

    /// Starts the lanes that were ready at `begun`: a lane that fails meanwhile starts with a later call.
    fn start(&mut self, carrier: &Arc<Carrier>, begun: Instant) {
        let mut at_once = self.lanes.values().filter(|lane| lane.has_time().is_some()).count();
        for (key, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.is_ready(begun)) {
            if at_once >= LANES {
                return;
            }
            let pending = lane.take();
            if pending.is_empty() {
                continue;
            }
            (lane.state, lane.under_way) = (State::Running(Instant::now()), pending.len());
            let (carrier, key) = (Arc::clone(carrier), key.clone());
            self.running.spawn(async move { carrier.carry_out(key, pending).await });
            at_once += 1;
        }
    }

    fn receive(&mut self, ended: Ended, steps: &mut Vec<Step>) {
        let Ended { key, over, rest, failure } = ended;
        let lane = self.lanes.entry(key.clone()).or_default();
        (lane.state, lane.under_way) = (State::Ready, 0);
        if !over.is_empty() {
            lane.failures = 0;
        }
        steps.extend(over.into_iter().map(|(pending, refusal)| Step::Over(pending, refusal)));
        let mut rest = rest.into_iter().peekable();
        match failure {
            Some(SendFailure { reason, hope: Hope::Passes }) => {
                let until = Instant::now() + backoff::pause(RETRY.0, RETRY.1, lane.failures);
                lane.failures += 1;
                let what = rest.peek().map(|pending| pending.intent.action.shown()).unwrap_or_default();
                lane.state = State::Waits { until, reason: format!("{what} waits: {reason}") };
            }
            Some(failure) => {
                if let Some(pending) = rest.next() {
                    lane.dead.insert(pending.place.clone());
                    steps.push(Step::Dead(pending, failure));
                }
            }
            None => {}
        }
        lane.pending.extend(rest.map(|pending| (pending.place.clone(), pending)));
        if lane.pending.is_empty() && lane.dead.is_empty() {
            self.lanes.remove(&key);
        }
    }

    /// Records that these outcomes are written.
    pub(super) fn written(&mut self, steps: &[Step]) {
        for step in steps {
            let place = &step.pending().place;
            match step {
                Step::Over(..) => drop(self.marked.remove(place)),
                Step::Dead(pending, _) => {
                    self.marked.insert(place.clone());
                    self.lanes.entry(pending.intent.key.clone()).or_default().dead.insert(place.clone());
                }
            }
        }
    }

    /// How many intents are under way or wait for a failure to pass.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.under_way + lane.pending.len() - lane.behind()).sum()
    }

    /// How many intents have failed or are behind a failed one, if `more` is added.
    pub(super) fn dead(&self, more: &[PendingIntent]) -> usize {
        let here: usize = self.lanes.values().map(|lane| lane.dead.len() + lane.behind()).sum();
        let is_behind = |pending: &&PendingIntent| {
            let lane = self.lanes.get(&pending.intent.key);
            lane.and_then(|lane| lane.dead.first()).is_some_and(|dead| *dead < pending.place)
        };
        here + more.iter().filter(is_behind).count()
    }

    /// When the next call is due for unfinished lanes, and why they are unfinished.
    pub(super) fn waits(&self) -> Option<Waiting> {
        let now = Instant::now();
        let one = |(key, lane): (&String, &Lane)| match &lane.state {
            State::Ready => None,
            State::Running(_) => Some((now + LOOK, key.clone(), "its command takes long".to_owned())),
            State::Waits { until, reason } => Some((*until, key.clone(), reason.clone())),
        };
        let waiting: Vec<_> = self.lanes.iter().filter_map(one).collect();
        let others = waiting.len().checked_sub(1)?;
        let (until, key, reason) = waiting.into_iter().min()?;
        let others =
            if others > 0 { format!("; {others} other instances wait as well") } else { String::new() };
        Some(Waiting {
            after: until.saturating_duration_since(now),
            reason: format!("instance {key:?}: {reason}{others}"),
        })
    }
}

impl Lane {
    /// The time until which the call waits for the lane; `None` if it does not run, or takes too long.
    fn has_time(&self) -> Option<Instant> {
        match self.state {
            State::Running(since) => Some(since + PATIENCE).filter(|until| *until > Instant::now()),
            _ => None,
        }
    }

    fn is_ready(&self, begun: Instant) -> bool {
        match &self.state {
            State::Ready => true,
            State::Waits { until, .. } => *until <= begun,
            State::Running(_) => false,
        }
    }

    /// Takes the intents that are not behind a dead one.
    fn take(&mut self) -> Vec<PendingIntent> {
        let behind = match self.dead.first() {
            Some(dead) => self.pending.split_off(dead),
            None => BTreeMap::new(),
        };
        std::mem::replace(&mut self.pending, behind).into_values().collect()
    }

    fn behind(&self) -> usize {
        self.dead.first().map_or(0, |dead| self.pending.range(dead.clone()..).count())
    }
}
