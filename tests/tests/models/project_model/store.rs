//! The bucket of one view: documents, dead letters and checkpoint, as `KvViews` in cqrs-nats keeps them.

/// How many aggregates there are; each has one document.
pub(crate) const AGGREGATES: usize = 2;

/// The dead letters of each aggregate: the sequences that are parked, in order.
pub(crate) type Letters = [Vec<usize>; AGGREGATES];

/// The saved content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct View {
    pub(crate) documents: [Document; AGGREGATES],
    pub(crate) letters: Letters,
    pub(crate) checkpoint: usize,
    /// The checkpoint's.
    pub(crate) revision: usize,
    /// Counts the writes; each gives its number to what it wrote as a revision.
    writes: usize,
    /// Whether a checkpoint was replaced by an earlier one.
    pub(crate) went_back: bool,
}

/// A document: the sequences that were folded into it, in the order in which they were.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Document {
    pub(crate) applied: Vec<usize>,
    pub(crate) revision: usize,
}

/// An atomic batch: all of it is stored, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Write {
    /// The new documents, by aggregate, with the revisions that they replace.
    pub(crate) documents: Vec<(usize, Document)>,
    /// The new dead letters, by aggregate. Their revisions are not compared: the checkpoint's is.
    pub(crate) letters: Vec<(usize, Vec<usize>)>,
    /// The new checkpoint, and the revision that it replaces.
    pub(crate) checkpoint: Option<(usize, usize)>,
}

impl View {
    /// The server handles a write; `None` is a conflict. Only a mutant's write names no revision that it replaces.
    pub(crate) fn store(&mut self, write: &Write, compares: Compares) -> Option<usize> {
        if !self.takes(write, compares) {
            return None;
        }
        self.writes += 1;
        for (aggregate, document) in &write.documents {
            self.documents[*aggregate] =
                Document { applied: document.applied.clone(), revision: self.writes };
        }
        for (aggregate, letters) in &write.letters {
            self.letters[*aggregate].clone_from(letters);
        }
        if let Some((checkpoint, _)) = write.checkpoint {
            self.went_back |= checkpoint < self.checkpoint;
            self.checkpoint = checkpoint;
            self.revision = self.writes;
        }
        Some(self.writes)
    }

    /// Whether a write would be stored. One that is not never will be: revisions only grow.
    pub(crate) fn takes(&self, write: &Write, compares: Compares) -> bool {
        let checkpoint = write.checkpoint.is_none_or(|(_, replaced)| replaced == self.revision);
        let same = |(aggregate, document): &(usize, Document)| {
            document.revision == self.documents[*aggregate].revision
        };
        match compares {
            Compares::All => checkpoint && write.documents.iter().all(same),
            Compares::Checkpoint => checkpoint,
            Compares::Nothing => true,
        }
    }
}

/// Which of the revisions in a write are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compares {
    All,
    Checkpoint,
    Nothing,
}

impl Write {
    pub(crate) fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.letters.is_empty() && self.checkpoint.is_none()
    }

    /// The same content, to replace the present one.
    pub(crate) fn over(mut self, view: &View) -> Self {
        for (aggregate, document) in &mut self.documents {
            document.revision = view.documents[*aggregate].revision;
        }
        if let Some((_, replaced)) = &mut self.checkpoint {
            *replaced = view.revision;
        }
        self
    }
}
