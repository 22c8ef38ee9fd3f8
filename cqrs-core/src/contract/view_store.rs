//! The contract for view stores.

use bytes::Bytes;
use futures_util::future::join_all;

use uuid::Uuid;

use crate::{
    base::id::{EventId, ProjectionId, is_name},
    contract::{HOSTILE, soon},
    port::view_store::{Checkpoint, Note, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore, Write},
};

const VIEW: ProjectionId = ProjectionId::new("contract", 1);

fn checkpoint(sequence: u64) -> Checkpoint {
    let event = Some(EventId(Uuid::from_u128(sequence.into())));
    Checkpoint { log: "log@1".into(), sequence, event, ..Checkpoint::default() }
}

fn document(text: &str) -> Bytes {
    Bytes::from(format!(r#"{{"text":{text:?}}}"#))
}

fn write(key: &str, text: &str, revision: u64) -> Write {
    Write { key: key.into(), document: Some(document(text)), revision }
}

/// Saves after the current checkpoint.
async fn save<S: ViewStore>(store: &S, view: &ProjectionId, writes: &[Write], sequence: u64) -> u64 {
    let revision = store.checkpoint(view).await.expect("the checkpoint").revision;
    let checkpoint = checkpoint(sequence);
    store
        .save(view, Save { writes, notes: &[], checkpoint: &checkpoint, revision })
        .await
        .expect("a save in order")
}

async fn content<S: ViewStore>(store: &S, view: &ProjectionId) -> Vec<(String, Bytes)> {
    let mut all = store.list(view).await.expect("a list");
    all.sort();
    all
}

async fn revision<S: ViewStore>(store: &S, key: &str) -> u64 {
    store.load(&VIEW, &[key.to_owned()]).await.expect("a load")[0].revision
}

/// An empty place answers, and has nothing.
pub async fn nothing_is_there_at_first<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let none = SavedCheckpoint { checkpoint: None, revision: 0 };
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint"), none);
    assert_eq!(store.get(&VIEW, "a").await.expect("a read"), None);
    assert_eq!(content(store, &VIEW).await, []);
    let loaded = store.load(&VIEW, &["a".into()]).await.expect("a load");
    assert_eq!((loaded.len(), &loaded[0].document, loaded[0].revision), (1, &None, 0));
}

/// Every kind of read shows what a save has written, and the next save follows it.
pub async fn documents_and_checkpoint_are_saved_together<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let writes = [write("a", "one", 0), write("b", "two", 0)];
    let revision = save(store, &VIEW, &writes, 5).await;
    let saved = store.checkpoint(&VIEW).await.expect("the checkpoint");
    assert_eq!(saved, SavedCheckpoint { checkpoint: Some(checkpoint(5)), revision });
    assert_eq!(store.get(&VIEW, "b").await.expect("a read"), Some(document("two")));

    let keys = ["b".to_owned(), "missing".to_owned(), "a".to_owned()];
    let loaded = store.load(&VIEW, &keys).await.expect("a load");
    let documents: Vec<_> = loaded.iter().map(|saved| saved.document.clone()).collect();
    assert_eq!(documents, [Some(document("two")), None, Some(document("one"))]);

    let writes = [write("a", "changed", loaded[2].revision), write("c", "new", 0)];
    let checkpoint = checkpoint(9);
    store
        .save(&VIEW, Save { writes: &writes, notes: &[], checkpoint: &checkpoint, revision })
        .await
        .expect("the next save");
    let all = [("a", "changed"), ("b", "two"), ("c", "new")];
    assert_eq!(content(store, &VIEW).await, all.map(|(key, text)| (key.to_owned(), document(text))));
}

/// Two instances of one projection: the save of the one that was overtaken changes nothing.
pub async fn a_save_after_an_old_checkpoint_changes_nothing<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let old = save(store, &VIEW, &[write("a", "one", 0)], 1).await;
    let current = revision(store, "a").await;
    save(store, &VIEW, &[write("a", "two", current)], 2).await;
    let current = revision(store, "a").await;
    for revision in [0, old] {
        let writes = [write("a", "wrong", current), write("b", "wrong", 0)];
        let late = Save { writes: &writes, notes: &[], checkpoint: &checkpoint(2), revision };
        let answer = store.save(&VIEW, late).await;
        assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    }
    assert_eq!(content(store, &VIEW).await, [("a".to_owned(), document("two"))]);
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint, Some(checkpoint(2)));
}

/// A save that would overwrite a newer document writes nothing.
pub async fn a_save_over_a_newer_document_changes_nothing<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    save(store, &VIEW, &[write("a", "one", 0)], 1).await;
    let stale = revision(store, "a").await;
    let latest = save(store, &VIEW, &[write("a", "two", stale)], 2).await;
    for revision in [0, stale] {
        let writes = [write("new", "wrong", 0), write("a", "wrong", revision)];
        let answer = store
            .save(&VIEW, Save { writes: &writes, notes: &[], checkpoint: &checkpoint(3), revision: latest })
            .await;
        assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    }
    assert_eq!(content(store, &VIEW).await, [("a".to_owned(), document("two"))]);
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint, Some(checkpoint(2)));
}

/// A save that would remove a newer document writes nothing.
pub async fn a_removal_of_a_newer_document_changes_nothing<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    save(store, &VIEW, &[write("a", "one", 0), write("b", "one", 0)], 1).await;
    let stale = revision(store, "a").await;
    let latest = save(store, &VIEW, &[write("a", "two", stale)], 2).await;
    let other = revision(store, "b").await;
    let remove = |key: &str, revision| Write { key: key.into(), document: None, revision };
    for revision in [0, stale] {
        let writes = [write("new", "wrong", 0), remove("b", other), remove("a", revision)];
        let answer = store
            .save(&VIEW, Save { writes: &writes, notes: &[], checkpoint: &checkpoint(3), revision: latest })
            .await;
        assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    }
    let all = [("a".to_owned(), document("two")), ("b".to_owned(), document("one"))];
    assert_eq!(content(store, &VIEW).await, all);
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint, Some(checkpoint(2)));
}

/// A sealed checkpoint is returned sealed, and fails the save of an instance that knew the one before it, until the
/// seal is removed.
pub async fn a_seal_is_kept_with_the_checkpoint<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let before = save(store, &VIEW, &[write("a", "one", 0)], 1).await;
    let sealed = Checkpoint { sealed: Some(7), ..checkpoint(1) };
    let seal = Save { writes: &[], notes: &[], checkpoint: &sealed, revision: before };
    let revision = store.save(&VIEW, seal).await.expect("a seal");
    let saved = store.checkpoint(&VIEW).await.expect("the checkpoint");
    assert_eq!(saved, SavedCheckpoint { checkpoint: Some(sealed), revision });
    soon("position 1", store.reached(&VIEW, 1)).await.expect("a wait");
    let (writes, late) = ([write("b", "late", 0)], checkpoint(2));
    let late = Save { writes: &writes, notes: &[], checkpoint: &late, revision: before };
    let answer = store.save(&VIEW, late).await;
    assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    assert_eq!(content(store, &VIEW).await, [("a".to_owned(), document("one"))]);
    save(store, &VIEW, &[write("b", "two", 0)], 2).await;
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint, Some(checkpoint(2)));
}

/// Of many saves that follow the same checkpoint exactly one succeeds, and it is whole.
pub async fn of_saves_at_once_one_succeeds<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let mut revision = 0;
    for round in 1..=5_u64 {
        let texts: Vec<_> = (0..6).map(|worker| format!("{round} by {worker}")).collect();
        let keys: Vec<String> = vec!["a".into(), "b".into()];
        let before = store.load(&VIEW, &keys).await.expect("a load");
        let writes: Vec<_> = texts
            .iter()
            .map(|text| [write("a", text, before[0].revision), write("b", text, before[1].revision)])
            .collect();
        let checkpoint = checkpoint(round);
        let saves = writes
            .iter()
            .map(|writes| store.save(&VIEW, Save { writes, notes: &[], checkpoint: &checkpoint, revision }));
        let answers = join_all(saves).await;
        let won: Vec<_> = answers.iter().enumerate().filter(|(_, answer)| answer.is_ok()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        let lost = answers.iter().filter(|answer| matches!(answer, Err(SaveError::Conflict))).count();
        assert_eq!(lost, 5, "nothing but a conflict makes a projector read its place again: {answers:?}");
        let (winner, answer) = won[0];
        revision = *answer.as_ref().expect("the winner");
        let text = document(&texts[winner]);
        assert_eq!(content(store, &VIEW).await, [("a".to_owned(), text.clone()), ("b".to_owned(), text)]);
    }
}

/// A batch without changed documents moves the checkpoint.
pub async fn a_save_without_documents_moves_the_checkpoint<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    save(store, &VIEW, &[], 3).await;
    save(store, &VIEW, &[], 8).await;
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint, Some(checkpoint(8)));
    assert_eq!(content(store, &VIEW).await, []);
}

/// Keys with separators, wildcards and the like are keys like any other.
pub async fn no_key_reaches_another<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    for (sequence, key) in (1..).zip(HOSTILE) {
        save(store, &VIEW, &[write(key, key, 0)], sequence).await;
    }
    for key in HOSTILE {
        assert_eq!(store.get(&VIEW, key).await.expect("a read"), Some(document(key)), "{key:?}");
    }
    let mut all: Vec<_> = HOSTILE.iter().map(|key| ((*key).to_owned(), document(key))).collect();
    all.sort();
    assert_eq!(content(store, &VIEW).await, all);
    let last = HOSTILE.len() as u64;
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint, Some(checkpoint(last)));
}

/// Another name or version is another view.
pub async fn projections_are_apart<S: ViewStore>(store: &S) {
    let next = ProjectionId { version: 2, ..VIEW };
    let build = ProjectionId { build: 2, ..VIEW };
    let other = ProjectionId::new("contract-2", 1);
    for view in [&VIEW, &next, &build, &other] {
        store.open(view).await.expect("the place");
    }
    save(store, &VIEW, &[write("a", "one", 0)], 1).await;
    save(store, &next, &[write("a", "two", 0)], 2).await;
    assert_eq!(store.get(&VIEW, "a").await.expect("a read"), Some(document("one")));
    assert_eq!(store.get(&next, "a").await.expect("a read"), Some(document("two")));
    for view in [&build, &other] {
        assert_eq!(store.get(view, "a").await.expect("a read"), None);
    }
    assert_eq!(store.checkpoint(&other).await.expect("the checkpoint").checkpoint, None);
}

/// A service that starts again finds its views.
pub async fn opening_again_keeps_what_is_there<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    save(store, &VIEW, &[write("a", "one", 0)], 1).await;
    store.open(&VIEW).await.expect("the place, again");
    assert_eq!(store.get(&VIEW, "a").await.expect("a read"), Some(document("one")));
}

/// Views of some thousand documents are saved in full batches and listed whole.
pub async fn large_views_are_listed_whole<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let batch = store.max_writes().min(1_000);
    let keys: Vec<_> = (0..2_500).map(|number| format!("key-{number:05}")).collect();
    for (sequence, keys) in (1..).zip(keys.chunks(batch)) {
        let writes: Vec<_> = keys.iter().map(|key| write(key, key, 0)).collect();
        save(store, &VIEW, &writes, sequence).await;
    }
    let all = content(store, &VIEW).await;
    assert_eq!(all.iter().map(|(key, _)| key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
    let loaded = store.load(&VIEW, &keys[..batch.min(keys.len())]).await.expect("a load");
    assert!(loaded.iter().all(|saved| saved.document.is_some()));
}

/// A view is read page by page, in the order of its keys as bytes.
pub async fn views_are_read_in_pages<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let mut keys = ["b", "a", "é", "Z", "z", "a/b", "", "日本", "10", "9"];
    let writes = keys.map(|key| write(key, key, 0));
    save(store, &VIEW, &writes, 1).await;
    keys.sort_unstable();
    for size in [1, 3, 10, 100] {
        let mut read: Vec<String> = Vec::new();
        loop {
            let page = store.page(&VIEW, read.last().map(String::as_str), size).await.expect("a page");
            assert!(page.len() <= size);
            assert!(page.iter().all(|(key, found)| *found == document(key)));
            if page.is_empty() {
                break;
            }
            read.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(read, keys, "{size} at a time");
    }
}

/// The wait ends at once for a reached sequence, and with the save for a later one.
pub async fn waiting_ends_when_the_checkpoint_gets_there<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    soon("position 0", store.reached(&VIEW, 0)).await.expect("a wait");
    save(store, &VIEW, &[], 5).await;
    soon("position 5", store.reached(&VIEW, 5)).await.expect("a wait");
    soon("position 4", store.reached(&VIEW, 4)).await.expect("a wait");
    let waiting = async {
        soon("position 7", store.reached(&VIEW, 7)).await.expect("a wait");
    };
    let saving = async {
        save(store, &VIEW, &[], 6).await;
        save(store, &VIEW, &[write("a", "one", 0)], 9).await;
    };
    tokio::join!(waiting, saving);
}

/// The wait returns the number of dead letters, also when only that changes.
pub async fn waiting_tells_of_dead_letters<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let saved = async |sequence, dead_letters| {
        let revision = store.checkpoint(&VIEW).await.expect("the checkpoint").revision;
        let checkpoint = Checkpoint { dead_letters, ..checkpoint(sequence) };
        let save = Save { writes: &[], notes: &[], checkpoint: &checkpoint, revision };
        store.save(&VIEW, save).await.expect("a save in order");
        let found = store.checkpoint(&VIEW).await.expect("the checkpoint").checkpoint;
        assert_eq!(found, Some(checkpoint));
    };
    let reached = async |sequence| {
        let reached = soon("the position", store.reached(&VIEW, sequence)).await.expect("a wait");
        (reached.sequence, reached.dead_letters)
    };
    saved(5, 0).await;
    assert_eq!(reached(3).await, (5, 0));
    saved(6, 2).await;
    assert_eq!(reached(6).await, (6, 2));
    saved(6, 0).await;
    assert_eq!(reached(6).await, (6, 0));
}

fn note(key: &str, text: Option<&str>) -> Note {
    Note { key: key.into(), content: text.map(document) }
}

/// Saves notes after the current checkpoint, and changes nothing else.
async fn save_notes<S: ViewStore>(store: &S, notes: &[Note], sequence: u64) {
    let revision = store.checkpoint(&VIEW).await.expect("the checkpoint").revision;
    let checkpoint = checkpoint(sequence);
    let save = Save { writes: &[], notes, checkpoint: &checkpoint, revision };
    store.save(&VIEW, save).await.expect("a save in order");
}

async fn notes<S: ViewStore>(store: &S, prefix: &str) -> Vec<(String, Bytes)> {
    store.notes(&VIEW, prefix).await.expect("the notes")
}

/// Notes come and go with the checkpoint, sorted, and apart from documents of the same keys.
pub async fn notes_are_saved_with_the_checkpoint<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    assert_eq!(notes(store, "").await, []);
    save(store, &VIEW, &[write("a", "the document", 0)], 1).await;
    save_notes(store, &[note("b/2", Some("two")), note("a", Some("the note")), note("b/10", Some("ten"))], 2)
        .await;
    let all = [("a", "the note"), ("b/10", "ten"), ("b/2", "two")];
    assert_eq!(notes(store, "").await, all.map(|(key, text)| (key.to_owned(), document(text))));
    assert_eq!(
        notes(store, "b/").await,
        [all[1], all[2]].map(|(key, text)| (key.to_owned(), document(text)))
    );
    assert_eq!(content(store, &VIEW).await, [("a".to_owned(), document("the document"))]);

    save_notes(store, &[note("b/10", None), note("a", Some("changed")), note("missing", None)], 2).await;
    let left = [("a".to_owned(), document("changed")), ("b/2".to_owned(), document("two"))];
    assert_eq!(notes(store, "").await, left);

    let late =
        Save { writes: &[], notes: &[note("late", Some("wrong"))], checkpoint: &checkpoint(3), revision: 0 };
    let answer = store.save(&VIEW, late).await;
    assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    assert_eq!(notes(store, "").await, left);
}

/// Keys of notes with separators, wildcards and the like are keys like any other.
pub async fn no_note_reaches_another<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    let all: Vec<_> = HOSTILE.iter().map(|key| note(key, Some(key))).collect();
    save_notes(store, &all, 1).await;
    let mut expected: Vec<_> = HOSTILE.iter().map(|key| ((*key).to_owned(), document(key))).collect();
    expected.sort();
    assert_eq!(notes(store, "").await, expected);
    assert_eq!(content(store, &VIEW).await, []);
}

/// A removed document is not there, and can come again.
pub async fn documents_can_be_removed<S: ViewStore>(store: &S) {
    store.open(&VIEW).await.expect("the place");
    save(store, &VIEW, &[write("a", "one", 0), write("b", "two", 0)], 1).await;
    let current = revision(store, "a").await;
    save(store, &VIEW, &[Write { key: "a".into(), document: None, revision: current }], 2).await;
    assert_eq!(store.get(&VIEW, "a").await.expect("a read"), None);
    assert_eq!(content(store, &VIEW).await, [("b".to_owned(), document("two"))]);
    let loaded = store.load(&VIEW, &["a".into()]).await.expect("a load").remove(0);
    assert_eq!(loaded.document, None);
    save(store, &VIEW, &[write("a", "again", loaded.revision)], 3).await;
    assert_eq!(store.get(&VIEW, "a").await.expect("a read"), Some(document("again")));
}

/// A removed projection leaves nothing, and another build of it stays.
pub async fn a_projection_can_be_removed<S: ViewStore>(store: &S) {
    let next = ProjectionId { build: 2, ..VIEW };
    store.remove(&VIEW).await.expect("nothing to remove");
    for view in [&VIEW, &next] {
        store.open(view).await.expect("the place");
        save(store, view, &[write("a", "one", 0)], 7).await;
    }
    save_notes(store, &[note("a", Some("a note"))], 8).await;
    store.remove(&VIEW).await.expect("a removal");
    assert_eq!(store.get(&next, "a").await.expect("a read"), Some(document("one")));
    store.open(&VIEW).await.expect("the place, anew");
    let none = SavedCheckpoint { checkpoint: None, revision: 0 };
    assert_eq!(store.checkpoint(&VIEW).await.expect("the checkpoint"), none);
    assert_eq!(content(store, &VIEW).await, []);
    assert_eq!(notes(store, "").await, []);
    save(store, &VIEW, &[write("a", "anew", 0)], 1).await;
    soon("position 1", store.reached(&VIEW, 1)).await.expect("a wait");
}

/// The record of a view is kept, and of two concurrent changes one succeeds.
pub async fn a_view_can_be_noted_about<S: ViewStore>(store: &S) {
    let none = SavedDocument { document: None, revision: 0 };
    assert_eq!(store.about("contract").await.expect("what is noted"), none);
    let first = store.set_about("contract", document("one"), 0).await.expect("a note");
    for late in [0, first + 1] {
        let answer = store.set_about("contract", document("wrong"), late).await;
        assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    }
    let saved = SavedDocument { document: Some(document("one")), revision: first };
    assert_eq!(store.about("contract").await.expect("what is noted"), saved);
    let second = store.set_about("contract", document("two"), first).await.expect("a note");
    let saved = SavedDocument { document: Some(document("two")), revision: second };
    assert_eq!(store.about("contract").await.expect("what is noted"), saved);
    assert_eq!(store.about("contract-2").await.expect("what is noted"), none);
}

/// The store's name can be a part of a subscriber's name.
pub async fn its_place_is_a_name_that_stays<S: ViewStore>(store: &S) {
    let Some(place) = store.name() else { return };
    assert!(is_name(&place) && place.len() <= 32, "{place:?}");
    store.open(&VIEW).await.expect("the place");
    save(store, &VIEW, &[], 1).await;
    assert_eq!(store.name(), Some(place));
}
