//! One worker: `Projector::follow` and `Projector::save` of cqrs-core over a `NatsSubscription`.

use super::{
    Setup, Variant,
    consumer::{Consumer, Delivery, Pin},
    store::{Document, Letters, View, Write},
};

/// A process that projects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) step: Step,
    /// Its pin is free, so it creates the consumer again (`Turns`).
    pub(crate) my_turn: bool,
    /// How often it may still crash.
    pub(crate) crashes: usize,
    /// The dead letters that a mutant remembers from before its restart.
    remembered: Option<Letters>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// About to read the checkpoint.
    Starting,
    /// About to look at the consumer.
    Looking(Memory),
    Deleting(Memory),
    Creating(Memory),
    Following(Memory, Subscription),
    Saving(Memory, Subscription, Saving),
}

/// A worker's knowledge of the saved content; it is correct as long as the revision is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    pub(crate) checkpoint: usize,
    revision: usize,
    letters: Letters,
}

/// `NatsSubscription`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subscription {
    /// The number of the last delivery.
    delivery: usize,
    /// The last sequence that was returned.
    pub(crate) seen: usize,
    pub(crate) standby: bool,
    /// Whether its requests reach the present consumer of this name.
    pub(crate) reaches: bool,
    /// The deliveries that have arrived and were not taken yet.
    pub(crate) inbox: Vec<Delivery>,
}

/// A save whose answer the worker waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Saving {
    /// One write; a mutant has more, one after the other.
    pub(crate) writes: Vec<Write>,
    upto: usize,
    letters: Letters,
    pub(crate) message: Message,
    /// Whether it was sent before without an answer.
    unclear: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    OnTheWay,
    Stored(usize),
    Conflict,
}

impl Worker {
    pub(crate) fn new(crashes: usize) -> Self {
        Self { step: Step::Starting, my_turn: false, crashes, remembered: None }
    }

    pub(crate) fn subscription(&self) -> Option<&Subscription> {
        match &self.step {
            Step::Following(_, subscription) | Step::Saving(_, subscription, _) => Some(subscription),
            _ => None,
        }
    }

    pub(crate) fn subscription_mut(&mut self) -> Option<&mut Subscription> {
        match &mut self.step {
            Step::Following(_, subscription) | Step::Saving(_, subscription, _) => Some(subscription),
            _ => None,
        }
    }

    pub(crate) fn saving_mut(&mut self) -> Option<&mut Saving> {
        match &mut self.step {
            Step::Saving(_, _, saving) => Some(saving),
            _ => None,
        }
    }

    /// The write that has been sent and has not reached the server.
    pub(crate) fn on_the_way(&self) -> Option<&Write> {
        match &self.step {
            Step::Saving(_, _, saving) if saving.message == Message::OnTheWay => saving.writes.first(),
            _ => None,
        }
    }

    /// `Projector::supervise`: after any failure, from the checkpoint again.
    pub(crate) fn start_again(&mut self) {
        self.step = Step::Starting;
    }

    pub(crate) fn crash(&mut self) {
        *self = Self::new(self.crashes - 1);
    }

    /// Reads the checkpoint, from the leader.
    pub(crate) fn read(&mut self, view: &View) {
        self.step = Step::Looking(Memory {
            checkpoint: view.checkpoint,
            revision: view.revision,
            letters: view.letters.clone(),
        });
    }

    /// `consumer::consumer_at` up to its first request. The dead letters are read after the checkpoint, from the
    /// leader: if they had changed by then, the revision would have, too.
    pub(crate) fn look(&mut self, setup: &Setup, view: &View, consumer: Option<&Consumer>) {
        let Step::Looking(mut memory) = self.step.clone() else { unreachable!("only who looks does") };
        match setup.variant {
            Variant::RemembersLetters => {
                let remembered = self.remembered.get_or_insert_with(|| view.letters.clone());
                memory.letters.clone_from(remembered);
            }
            Variant::ReadsLettersFirst => {
                (memory.checkpoint, memory.revision) = (view.checkpoint, view.revision);
            }
            _ => memory.letters.clone_from(&view.letters),
        }
        let my_turn = std::mem::take(&mut self.my_turn);
        self.step = match consumer {
            None => Step::Creating(memory),
            Some(consumer) if setup.variant == Variant::ResumesAtAckFloor => {
                memory.checkpoint = consumer.floor;
                Step::Deleting(memory)
            }
            Some(consumer) if !my_turn && consumer.pin != Pin::Nobody => {
                follow(memory, consumer.number, true)
            }
            Some(consumer) if !my_turn && consumer.stands_at(memory.checkpoint) => {
                follow(memory, consumer.number, false)
            }
            Some(_) => Step::Deleting(memory),
        };
    }

    /// The consumer was deleted.
    pub(crate) fn deleted(&mut self) {
        let Step::Deleting(memory) = self.step.clone() else { unreachable!("only who deletes does") };
        self.step = Step::Creating(memory);
    }

    /// Creates the consumer. Another worker may have created one of the same name since.
    pub(crate) fn create(&mut self, setup: &Setup, consumer: &mut Option<Consumer>) {
        let Step::Creating(memory) = self.step.clone() else { unreachable!("only who creates does") };
        let after = memory.checkpoint;
        let joins = setup.variant == Variant::JoinsAnothers;
        self.step = match consumer {
            Some(consumer) if joins && consumer.after == after => follow(memory, consumer.number, false),
            Some(_) => Step::Starting,
            None => {
                *consumer = Some(Consumer::new(after));
                follow(memory, 0, false)
            }
        };
    }

    /// `NatsSubscription::next`, and `Projector::save` up to its message. `loaded` is the answer to the read of the
    /// documents, perhaps from a lagging replica.
    pub(crate) fn take(&mut self, setup: &Setup, loaded: &View) {
        let Step::Following(memory, mut subscription) = self.step.clone() else {
            unreachable!("only who follows takes")
        };
        let mut commits = Vec::new();
        for delivery in std::mem::take(&mut subscription.inbox) {
            let gap = delivery.number != subscription.delivery + 1 && setup.variant != Variant::IgnoresGaps;
            if subscription.standby || gap {
                self.my_turn = true;
                return self.start_again();
            }
            subscription.delivery = delivery.number;
            if delivery.sequence > subscription.seen || setup.variant == Variant::FoldsAgain {
                subscription.seen = delivery.sequence;
                commits.push(delivery.sequence);
            }
        }
        self.step = match commits.last() {
            None => Step::Following(memory, subscription),
            Some(upto) => {
                let write = fold(setup, &memory, loaded, &commits);
                let mut letters = memory.letters.clone();
                for (aggregate, changed) in &write.letters {
                    letters[*aggregate].clone_from(changed);
                }
                let saving = Saving {
                    writes: in_parts(setup.variant, write),
                    upto: *upto,
                    letters,
                    message: Message::OnTheWay,
                    unclear: false,
                };
                Step::Saving(memory, subscription, saving)
            }
        };
    }

    /// The answer to the save is handled. Returns what may be acknowledged.
    pub(crate) fn conclude(&mut self, setup: &Setup, view: &View) -> Option<usize> {
        let Step::Saving(mut memory, subscription, mut saving) = self.step.clone() else {
            unreachable!("only who saves gets an answer")
        };
        let revision = match saving.message {
            Message::OnTheWay => unreachable!("there is an answer"),
            Message::Stored(revision) => revision,
            Message::Conflict if saving.unclear && setup.variant == Variant::RefreshesRevisions => {
                saving.writes = saving.writes.into_iter().map(|write| write.over(view)).collect();
                saving.message = Message::OnTheWay;
                self.step = Step::Saving(memory, subscription, saving);
                return None;
            }
            Message::Conflict => {
                self.start_again();
                return None;
            }
        };
        if saving.writes.remove(0).checkpoint.is_some() {
            memory.revision = revision;
        }
        if !saving.writes.is_empty() {
            saving.message = Message::OnTheWay;
            self.step = Step::Saving(memory, subscription, saving);
            return None;
        }
        memory.checkpoint = saving.upto;
        memory.letters = saving.letters;
        if setup.variant == Variant::RemembersLetters {
            self.remembered = Some(memory.letters.clone());
        }
        self.step = Step::Following(memory, subscription);
        Some(saving.upto)
    }

    /// No answer in time: the save may be stored, now or later.
    pub(crate) fn give_up(&mut self, setup: &Setup) {
        match (setup.variant, self.saving_mut()) {
            (Variant::SendsAgain | Variant::RefreshesRevisions, Some(saving)) => {
                saving.unclear = true;
                saving.message = Message::OnTheWay;
            }
            _ => self.start_again(),
        }
    }
}

fn follow(memory: Memory, delivery: usize, standby: bool) -> Step {
    let seen = memory.checkpoint;
    Step::Following(memory, Subscription { delivery, seen, standby, reaches: true, inbox: Vec::new() })
}

/// The write of a batch of commits. An event that cannot be applied is parked, and so are the later ones of the same
/// aggregate.
fn fold(setup: &Setup, memory: &Memory, loaded: &View, commits: &[usize]) -> Write {
    let mut documents = loaded.documents.clone();
    let reads = setup.variant == Variant::ReadsLettersWithDocuments;
    let before = if reads { &loaded.letters } else { &memory.letters };
    let mut letters = before.clone();
    for sequence in commits {
        let Some((aggregate, applicable)) = setup.event(*sequence) else { continue };
        let behind = !letters[aggregate].is_empty() && setup.variant != Variant::ParksOne;
        if applicable && !behind {
            documents[aggregate].applied.push(*sequence);
        } else {
            letters[aggregate].push(*sequence);
        }
    }
    let changed = |(aggregate, document): &(usize, Document)| *document != loaded.documents[*aggregate];
    let parked = |(aggregate, parked): &(usize, Vec<usize>)| *parked != before[*aggregate];
    Write {
        documents: documents.into_iter().enumerate().filter(changed).collect(),
        letters: letters.into_iter().enumerate().filter(parked).collect(),
        checkpoint: commits.last().map(|upto| (*upto, memory.revision)),
    }
}

/// One write, unless a mutant makes more of it.
fn in_parts(variant: Variant, write: Write) -> Vec<Write> {
    let Write { documents, letters, checkpoint } = write.clone();
    let only_checkpoint = Write { checkpoint, ..Write::default() };
    let only_letters = Write { letters: letters.clone(), ..Write::default() };
    let others = Write { documents: documents.clone(), letters, ..Write::default() };
    let unparked = Write { documents, checkpoint, ..Write::default() };
    let mut parts = match variant {
        Variant::CheckpointFirst => vec![only_checkpoint, others],
        Variant::CheckpointLast => vec![others, only_checkpoint],
        Variant::ParksBefore => vec![only_letters, unparked],
        Variant::ParksAfter => vec![unparked, only_letters],
        _ => vec![write],
    };
    parts.retain(|part| !part.is_empty());
    parts
}
