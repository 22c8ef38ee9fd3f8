//! A view that counts its own saves, so that a lost, doubled or partial one shows.

use bytes::Bytes;
use cqrs_core::port::{Checkpoint, Note, ProjectionId, Save, SaveError, SavedDocument, ViewStore, Write};

/// The view.
pub const COUNTING: ProjectionId = ProjectionId::new("counting", 1);

const KEYS: [&str; 2] = ["a", "b"];

/// Adds one to each document and to the note, and moves the checkpoint to the same number, which it returns.
///
/// # Errors
///
/// The store's.
///
/// # Cancel safety
///
/// As [`ViewStore::save`].
pub async fn count<S: ViewStore>(store: &S) -> Result<u64, SaveError> {
    let saved = store.checkpoint(&COUNTING).await?;
    let number = saved.checkpoint.map_or(0, |checkpoint| checkpoint.sequence) + 1;
    let documents = store.load(&COUNTING, &KEYS.map(str::to_owned)).await?;
    let writes: Vec<Write> = KEYS
        .iter()
        .zip(documents)
        .map(|(key, saved)| Write {
            key: (*key).to_owned(),
            document: Some(text(parsed(&saved) + 1)),
            revision: saved.revision,
        })
        .collect();
    let notes = [Note { key: "note".to_owned(), content: Some(text(number)) }];
    let checkpoint = Checkpoint { log: "log".to_owned(), sequence: number, ..Checkpoint::default() };
    let save = Save { writes: &writes, notes: &notes, checkpoint: &checkpoint, revision: saved.revision };
    store.save(&COUNTING, save).await?;
    Ok(number)
}

/// The number of saves, if documents, note and checkpoint agree on it.
///
/// # Panics
///
/// When they do not, or the store does not answer.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn counted<S: ViewStore>(store: &S) -> u64 {
    loop {
        let saved = store.checkpoint(&COUNTING).await.expect("the checkpoint");
        let documents = store.load(&COUNTING, &KEYS.map(str::to_owned)).await.expect("the documents");
        let notes = store.notes(&COUNTING, "").await.expect("the notes");
        // A save in between, such as one whose caller did not wait for its end, is no disagreement.
        if store.checkpoint(&COUNTING).await.expect("the checkpoint") == saved {
            let number = saved.checkpoint.map_or(0, |checkpoint| checkpoint.sequence);
            let counts: Vec<u64> = documents.iter().map(parsed).collect();
            assert_eq!(counts, [number; 2], "documents against the checkpoint");
            let contents: Vec<Bytes> = notes.into_iter().map(|(_, content)| content).collect();
            let expected = if number == 0 { vec![] } else { vec![text(number)] };
            assert_eq!(contents, expected, "the note against the checkpoint");
            return number;
        }
    }
}

fn text(number: u64) -> Bytes {
    number.to_string().into()
}

fn parsed(saved: &SavedDocument) -> u64 {
    let number = saved.document.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok());
    number.unwrap_or_default()
}
