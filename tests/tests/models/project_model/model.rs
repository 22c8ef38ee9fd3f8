//! All possible actions, and the properties.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::{
    Setup, Variant,
    consumer::{Consumer, Pin},
    store::{AGGREGATES, Compares, View, Write},
    worker::{Message, Step, Subscription, Worker},
};

pub(crate) const EXACT: &str = "documents and dead letters hold exactly what the checkpoint says";
pub(crate) const ONCE: &str = "an event is applied once or parked once";
pub(crate) const ORDERED: &str = "what is applied of an aggregate is its first events, in order";
pub(crate) const BEHIND: &str = "nothing is applied before an earlier event that is still parked";
pub(crate) const FORWARD: &str = "the checkpoint never goes back";
pub(crate) const RECOVERS: &str = "each worker by itself gets to the end of the log from here";

pub(crate) const CAUGHT_UP: &str = "the view is at the log's end, after all crashes that there may be";
pub(crate) const LATE: &str = "a save is stored after its sender stopped waiting for it";
pub(crate) const BOTH: &str = "two workers believe that it is their turn";
pub(crate) const ORPHANED: &str = "a worker follows a consumer that is no more";
pub(crate) const AGAIN: &str = "a delivery comes again";
pub(crate) const PARKED: &str = "an event is parked because of an earlier one";
pub(crate) const RETRIED: &str = "the view is at the log's end, and all that was parked is applied";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// How much of the log exists.
    appended: usize,
    view: View,
    /// What a lagging replica may still show.
    yesterday: Option<Box<View>>,
    consumer: Option<Consumer>,
    workers: Vec<Worker>,
    /// Writes whose sender waits no more, and which may still arrive; retries by an operator are among them.
    late: BTreeSet<Write>,
    stored_late: bool,
    redeliveries: usize,
    retries: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Arrives,
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The log gets its next event.
    Append,
    Read(usize),
    Look(usize),
    Delete(usize),
    Create(usize),
    /// The consumer delivers its next event.
    Deliver(usize, Fate),
    /// The consumer redelivers an unacknowledged message.
    Redeliver(usize, usize),
    /// The worker takes its deliveries, and sends the resulting write.
    Take {
        worker: usize,
        yesterday: bool,
    },
    /// The message for which a worker waits reaches the server.
    Arrive(usize),
    ArriveLate(Write),
    /// The worker sees the answer, and acknowledges if that is due.
    Conclude(usize, Fate),
    /// The worker stops waiting for an answer.
    TimeOut(usize),
    /// The worker lost the connection, or its consumer was deleted.
    Interrupt(usize),
    Crash(usize),
    /// The pin ends: its client has sent no request for `priority_timeout`, or has left.
    Unpin,
    /// An operator retries the first dead letter of an aggregate, which can now be applied.
    Retry(usize),
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            appended: self.appended,
            view: View::default(),
            yesterday: None,
            consumer: None,
            workers: self.crashes.iter().map(|crashes| Worker::new(*crashes)).collect(),
            late: BTreeSet::new(),
            stored_late: false,
            redeliveries: self.redeliveries,
            retries: self.retries,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.appended < self.log.len() {
            actions.push(Action::Append);
        }
        for (number, worker) in state.workers.iter().enumerate() {
            self.actions_of(number, worker, state, actions);
        }
        actions.extend(state.late.iter().cloned().map(Action::ArriveLate));
        if state.consumer.as_ref().is_some_and(|consumer| consumer.pin != Pin::Nobody) {
            actions.push(Action::Unpin);
        }
        let parked = (0..AGGREGATES).filter(|aggregate| !state.view.letters[*aggregate].is_empty());
        actions.extend(parked.filter(|_| state.retries > 0).map(Action::Retry));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut state = state.clone();
        self.act(&mut state, action);
        // A write that can never be stored any more counts as lost.
        let State { view, late, .. } = &mut state;
        late.retain(|write| view.takes(write, self.compares()));
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = must_hold();
        properties.extend(must_happen());
        properties
    }
}

impl Setup {
    /// The aggregate of an event, and whether it can be applied; none for events of other types.
    pub(crate) fn event(&self, sequence: usize) -> Option<(usize, bool)> {
        let event = *self.log.as_bytes().get(sequence.checked_sub(1)?)?;
        let aggregate = usize::from(event.to_ascii_lowercase().checked_sub(b'a')?);
        (aggregate < AGGREGATES).then_some((aggregate, event.is_ascii_lowercase()))
    }

    fn events_of(&self, aggregate: usize, upto: usize) -> impl Iterator<Item = usize> {
        (1..=upto).filter(move |sequence| self.event(*sequence).is_some_and(|(of, _)| of == aggregate))
    }

    /// The next event for a consumer.
    fn next_for(&self, state: &State) -> Option<usize> {
        let position = state.consumer.as_ref()?.position;
        (position + 1..=state.appended).find(|sequence| self.event(*sequence).is_some())
    }

    fn compares(&self) -> Compares {
        match self.variant {
            Variant::ComparesNothing => Compares::Nothing,
            Variant::ComparesNoDocuments => Compares::Checkpoint,
            _ => Compares::All,
        }
    }

    fn actions_of(&self, number: usize, worker: &Worker, state: &State, actions: &mut Vec<Action>) {
        match &worker.step {
            Step::Starting => actions.push(Action::Read(number)),
            Step::Looking(_) => actions.push(Action::Look(number)),
            Step::Deleting(_) => actions.push(Action::Delete(number)),
            Step::Creating(_) => actions.push(Action::Create(number)),
            Step::Following(_, subscription) => {
                actions.push(Action::Interrupt(number));
                if !subscription.inbox.is_empty() {
                    actions.push(Action::Take { worker: number, yesterday: false });
                    if state.yesterday.is_some() {
                        actions.push(Action::Take { worker: number, yesterday: true });
                    }
                }
            }
            Step::Saving(_, _, saving) => {
                actions.push(Action::TimeOut(number));
                match saving.message {
                    Message::OnTheWay => actions.push(Action::Arrive(number)),
                    Message::Stored(_) => {
                        let fates = [Fate::Arrives, Fate::Lost];
                        actions.extend(fates.map(|fate| Action::Conclude(number, fate)));
                    }
                    Message::Conflict => actions.push(Action::Conclude(number, Fate::Lost)),
                }
            }
        }
        if worker.crashes > 0 && worker.step != Step::Starting {
            actions.push(Action::Crash(number));
        }
        let reaches = worker.subscription().filter(|subscription| subscription.reaches);
        if let (Some(subscription), Some(consumer)) = (reaches, &state.consumer)
            && consumer.serves(number)
            && subscription.inbox.len() < self.inbox
        {
            if self.next_for(state).is_some() {
                actions.extend([Fate::Arrives, Fate::Lost].map(|fate| Action::Deliver(number, fate)));
            }
            if state.redeliveries > 0 {
                let again = consumer.unacknowledged.iter();
                actions.extend(again.map(|sequence| Action::Redeliver(number, *sequence)));
            }
        }
    }

    fn act(&self, state: &mut State, action: Action) {
        let next = self.next_for(state);
        let State { view, consumer, workers, late, .. } = state;
        match action {
            Action::Append => state.appended += 1,
            Action::Read(worker) => workers[worker].read(view),
            Action::Look(worker) => workers[worker].look(self, view, consumer.as_ref()),
            Action::Delete(worker) => {
                *consumer = None;
                workers[worker].deleted();
                for subscription in workers.iter_mut().filter_map(Worker::subscription_mut) {
                    subscription.reaches = self.variant == Variant::FollowsTheName;
                }
            }
            Action::Create(worker) => workers[worker].create(self, consumer),
            Action::Deliver(worker, fate) => {
                if let (Some(consumer), Some(next)) = (consumer, next) {
                    deliver(consumer, workers, worker, next, fate);
                }
            }
            Action::Redeliver(worker, sequence) => {
                state.redeliveries = state.redeliveries.saturating_sub(1);
                if let Some(consumer) = consumer {
                    deliver(consumer, workers, worker, sequence, Fate::Arrives);
                }
            }
            Action::Take { worker, yesterday } => {
                let loaded = state.yesterday.as_deref().filter(|_| yesterday).unwrap_or(view);
                workers[worker].take(self, loaded);
            }
            Action::Arrive(worker) => self.arrive(state, worker),
            Action::ArriveLate(write) => {
                late.remove(&write);
                state.stored_late = true;
                self.store(state, &write);
            }
            Action::Conclude(worker, fate) => {
                let done = workers[worker].conclude(self, view);
                if let (Some(done), Some(consumer), Fate::Arrives) = (done, consumer, fate) {
                    consumer.acknowledge(done);
                }
            }
            Action::TimeOut(worker) => {
                late.extend(workers[worker].on_the_way().cloned());
                workers[worker].give_up(self);
            }
            Action::Interrupt(worker) => workers[worker].start_again(),
            Action::Crash(worker) => {
                late.extend(workers[worker].on_the_way().cloned());
                workers[worker].crash();
            }
            Action::Unpin => {
                if let Some(consumer) = consumer {
                    consumer.pin = Pin::Nobody;
                }
            }
            Action::Retry(aggregate) => {
                state.retries -= 1;
                late.insert(self.retry(view, aggregate));
            }
        }
        state.forget_who_left();
    }

    fn arrive(&self, state: &mut State, worker: usize) {
        let write = state.workers[worker].on_the_way().cloned().expect("only what is on the way arrives");
        let stored = self.store(state, &write);
        let saving = state.workers[worker].saving_mut().expect("it is being saved");
        saving.message = stored.map_or(Message::Conflict, Message::Stored);
    }

    fn store(&self, state: &mut State, write: &Write) -> Option<usize> {
        let before = self.lags.then(|| Box::new(state.view.clone()));
        let stored = state.view.store(write, self.compares())?;
        state.yesterday = before;
        Some(stored)
    }

    /// The write of a retry: it replaces the checkpoint by the same one.
    fn retry(&self, view: &View, aggregate: usize) -> Write {
        let mut document = view.documents[aggregate].clone();
        let mut letters = view.letters[aggregate].clone();
        document.applied.push(letters.remove(0));
        let replaces = self.variant != Variant::RetriesBeside;
        Write {
            documents: vec![(aggregate, document)],
            letters: vec![(aggregate, letters)],
            checkpoint: replaces.then_some((view.checkpoint, view.revision)),
        }
    }

    /// The next step of a worker when no more faults happen and no other worker acts.
    fn undisturbed(&self, state: &State, number: usize) -> Option<Action> {
        let action = match &state.workers[number].step {
            Step::Starting => Action::Read(number),
            Step::Looking(_) => Action::Look(number),
            Step::Deleting(_) => Action::Delete(number),
            Step::Creating(_) => Action::Create(number),
            Step::Saving(_, _, saving) if saving.message == Message::OnTheWay => Action::Arrive(number),
            Step::Saving(..) => Action::Conclude(number, Fate::Arrives),
            Step::Following(_, subscription) if !subscription.inbox.is_empty() => {
                Action::Take { worker: number, yesterday: false }
            }
            Step::Following(_, subscription) => match &state.consumer {
                None => Action::Interrupt(number),
                Some(_) if !subscription.reaches => Action::Interrupt(number),
                Some(consumer) if !consumer.serves(number) => Action::Unpin,
                Some(_) if self.next_for(state).is_some() => Action::Deliver(number, Fate::Arrives),
                Some(consumer) => Action::Redeliver(number, *consumer.unacknowledged.first()?),
            },
        };
        Some(action)
    }

    fn is_caught_up(&self, state: &State) -> bool {
        let ends = |aggregate| self.events_of(aggregate, self.log.len()).last();
        state.view.checkpoint >= (0..AGGREGATES).filter_map(ends).max().unwrap_or(0)
    }

    /// Whether the worker gets to the end of the log by itself. Nothing takes more steps than this.
    fn recovers(&self, state: &State, number: usize) -> bool {
        let mut state = State { appended: self.log.len(), ..state.clone() };
        for _ in 0..64 {
            if self.is_caught_up(&state) {
                return true;
            }
            match self.undisturbed(&state, number) {
                Some(action) => self.act(&mut state, action),
                None => return false,
            }
        }
        false
    }

    fn is_exact(&self, view: &View) -> bool {
        (0..AGGREGATES).all(|aggregate| {
            let mut held: Vec<usize> = view.held(aggregate).collect();
            held.sort_unstable();
            held.dedup();
            held.into_iter().eq(self.events_of(aggregate, view.checkpoint))
        })
    }
}

fn deliver(consumer: &mut Consumer, workers: &mut [Worker], worker: usize, sequence: usize, fate: Fate) {
    let delivery = consumer.deliver(worker, sequence);
    if fate == Fate::Arrives
        && let Some(subscription) = workers[worker].subscription_mut()
    {
        subscription.inbox.push(delivery);
    }
}

impl State {
    /// A pin belongs to one subscription: a restarted worker is another client to the server.
    fn forget_who_left(&mut self) {
        let Some(consumer) = &mut self.consumer else { return };
        for (number, worker) in self.workers.iter().enumerate() {
            if worker.subscription().is_none() {
                consumer.release(number);
            }
        }
    }

    fn following(&self) -> impl Iterator<Item = &Subscription> {
        self.workers.iter().filter_map(Worker::subscription)
    }
}

impl View {
    /// The sequences of an aggregate that are applied or parked.
    fn held(&self, aggregate: usize) -> impl Iterator<Item = usize> {
        self.documents[aggregate].applied.iter().chain(&self.letters[aggregate]).copied()
    }
}

fn must_hold() -> Vec<Property<Setup>> {
    vec![
        Property::always(EXACT, |setup: &Setup, state: &State| setup.is_exact(&state.view)),
        Property::always(ONCE, |_, state: &State| {
            (0..AGGREGATES).all(|aggregate| {
                let mut seen = BTreeSet::new();
                state.view.held(aggregate).all(|sequence| seen.insert(sequence))
            })
        }),
        Property::always(ORDERED, |setup: &Setup, state: &State| {
            (0..AGGREGATES).all(|aggregate| {
                let applied = &state.view.documents[aggregate].applied;
                let first = setup.events_of(aggregate, setup.log.len()).take(applied.len());
                applied.iter().copied().eq(first)
            })
        }),
        Property::always(BEHIND, |_, state: &State| {
            (0..AGGREGATES).all(|aggregate| {
                let applied = state.view.documents[aggregate].applied.iter().max();
                state.view.letters[aggregate].iter().all(|parked| Some(parked) > applied)
            })
        }),
        Property::always(FORWARD, |_, state: &State| !state.view.went_back),
        Property::always(RECOVERS, |setup: &Setup, state: &State| {
            !setup.recovers || (0..state.workers.len()).all(|number| setup.recovers(state, number))
        }),
    ]
}

/// Without these, a model in which nothing happens would pass.
fn must_happen() -> Vec<Property<Setup>> {
    vec![
        Property::sometimes(CAUGHT_UP, |setup: &Setup, state: &State| {
            setup.is_caught_up(state) && state.workers.iter().all(|worker| worker.crashes == 0)
        }),
        Property::sometimes(LATE, |_, state: &State| state.stored_late),
        Property::sometimes(BOTH, |_, state: &State| {
            state.following().filter(|subscription| !subscription.standby).count() > 1
        }),
        Property::sometimes(ORPHANED, |_, state: &State| {
            state.consumer.is_some() && state.following().any(|subscription| !subscription.reaches)
        }),
        Property::sometimes(AGAIN, |_, state: &State| {
            state.following().any(|subscription| {
                !subscription.standby
                    && subscription.inbox.iter().any(|delivery| delivery.sequence <= subscription.seen)
            })
        }),
        Property::sometimes(PARKED, |_, state: &State| {
            state.view.letters.iter().any(|letters| letters.len() > 1)
        }),
        Property::sometimes(RETRIED, |setup: &Setup, state: &State| {
            let none = state.view.letters.iter().all(Vec::is_empty);
            setup.is_caught_up(state) && none && state.retries < setup.retries
        }),
    ]
}
