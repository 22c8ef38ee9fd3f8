//! The contracts of the ports as tests, for the authors of adapters (feature `contract`).
//!
//! Each case is an async function that takes a store and panics when the store breaks the contract. A case that is
//! dropped leaves its data in the store. The macros [`event_store_contract!`](crate::event_store_contract),
//! [`view_store_contract!`](crate::view_store_contract), [`deadlines_contract!`](crate::deadlines_contract) and
//! [`notices_contract!`](crate::notices_contract) make a test of every case:
//!
//! ```
//! # #[cfg(feature = "contract")] mod tests {
//! use cqrs_core::memory::{MemoryEvents, MemoryViews};
//!
//! cqrs_core::event_store_contract!(async { (MemoryEvents::default(), ()) });
//! cqrs_core::view_store_contract!(async { (MemoryViews::default(), ()) });
//! # }
//! ```
//!
//! The expression is a future of an empty store for one test, and of a guard that is dropped after the test.

#![expect(clippy::missing_panics_doc, reason = "panicking is how a case fails")]

pub mod deadlines;
pub mod event_store;
pub mod listing;
pub mod notices;
pub mod subscription;
pub mod view_store;

use std::time::Duration;

use crate::base::{patience::Patience, store_error::StoreError};

/// How long a case waits for an expected event; far longer than any store takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than a store takes to notice that an instance has died.
const LONG: Duration = Duration::from_secs(5);

/// Fails the case when `wait` does not end.
async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Calls `open` again after a transient error, because a busy server may not answer in time. Any other error fails the
/// case, and so does the end of [`PATIENCE`].
async fn opened<T, F>(what: &str, open: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut patience = Patience::of(PATIENCE);
    loop {
        if let Some(opened) = patience.after(open().await).await.expect(what) {
            return opened;
        }
    }
}

/// Texts that have broken stores: separators, wildcards, encodings, control characters, long ones.
const HOSTILE: [&str; 24] = [
    "",
    " ",
    ".",
    "a.b",
    "*",
    ">",
    "a*",
    "a>",
    "=",
    "=2E",
    "=41",
    "A",
    "a",
    "é",
    "e\u{301}",
    "日本",
    "😀",
    "'; drop table orders; --",
    "\"quoted\"",
    "a\r\nb: c",
    "\0",
    "$JS.API",
    "checkpoint",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
     xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// Makes a test of every case of the event store's contract; see [`contract`](crate::contract).
#[macro_export]
macro_rules! event_store_contract {
    ($fresh:expr) => {
        $crate::contract_cases! { event_store, $fresh,
            nothing_is_there_at_first
            what_is_appended_is_read_back
            an_append_with_another_expectation_stores_nothing
            of_appends_at_once_one_is_stored
            the_same_append_again_is_not_stored_twice
            long_aggregates_are_read_in_pages
            the_next_commit_after_a_place_is_found
            the_last_commit_is_found
            no_id_reaches_another
            a_log_knows_its_end_by_aggregate_type
            what_comes_after_a_place_is_counted
            what_stands_at_a_place_is_found
            what_stands_before_a_place_is_found
            a_business_transaction_is_found
            numbers_that_no_log_reaches_harm_nothing
            metadata_is_stored_or_refused_by_its_size
            no_snapshot_is_there_at_first
            the_last_snapshot_is_kept_if_any_is
            no_id_reaches_the_snapshot_of_another
        }
        $crate::contract_cases! { listing, $fresh,
            no_aggregate_is_listed_at_first
            every_aggregate_is_listed_once
            aggregates_that_are_added_meanwhile_hide_none
            a_listing_goes_on_from_its_key
        }
        $crate::contract_cases! { subscription, $fresh,
            a_subscription_follows_from_the_beginning_into_the_present
            a_subscription_starts_where_it_is_told
            a_subscription_has_only_the_aggregates_it_asks_for
            a_subscriber_that_asks_for_other_aggregates_gets_them
            whoever_reads_keeps_its_turn_until_it_leaves
            an_active_subscriber_is_known_if_the_store_can_tell
            a_subscriber_can_be_forgotten
        }
    };
}

/// Makes a test of every case of the view store's contract; see [`contract`](crate::contract).
#[macro_export]
macro_rules! view_store_contract {
    ($fresh:expr) => {
        $crate::contract_cases! { view_store, $fresh,
            nothing_is_there_at_first
            documents_and_checkpoint_are_saved_together
            a_save_after_an_old_checkpoint_changes_nothing
            a_save_over_a_newer_document_changes_nothing
            a_removal_of_a_newer_document_changes_nothing
            a_seal_is_kept_with_the_checkpoint
            of_saves_at_once_one_succeeds
            a_save_without_documents_moves_the_checkpoint
            no_key_reaches_another
            projections_are_apart
            opening_again_keeps_what_is_there
            large_views_are_listed_whole
            views_are_read_in_pages
            waiting_ends_when_the_checkpoint_gets_there
            waiting_tells_of_dead_letters
            notes_are_saved_with_the_checkpoint
            no_note_reaches_another
            documents_can_be_removed
            a_projection_can_be_removed
            a_view_can_be_noted_about
            its_place_is_a_name_that_stays
        }
    };
}

/// Makes a test of every case of the contract for deadlines; see [`contract`](crate::contract).
#[macro_export]
macro_rules! deadlines_contract {
    ($fresh:expr) => {
        $crate::contract_cases! { deadlines, $fresh,
            a_deadline_comes_when_it_is_due_and_not_before
            a_time_that_is_past_has_come
            a_disarmed_deadline_does_not_come
            a_deadline_that_is_due_can_be_disarmed
            armed_again_it_comes_once_with_what_is_newest
            armed_again_as_it_becomes_due_it_comes_once
            the_same_arming_is_armed_once
            what_is_older_undoes_nothing
            no_id_reaches_another
            what_is_not_done_comes_again
            of_those_who_wait_one_gets_it
            whoever_holds_a_deadline_keeps_it
            what_comes_again_later_says_how_often
            those_that_come_again_later_hold_up_no_others
            what_is_armed_while_it_is_disarmed_comes
            what_is_due_is_counted_until_it_is_done_or_delayed
        }
    };
}

/// Makes a test of every case of the contract for notices; see [`contract`](crate::contract). The store must announce
/// what it stores.
#[macro_export]
macro_rules! notices_contract {
    ($fresh:expr) => {
        $crate::contract_cases! { notices, $fresh,
            what_is_stored_is_announced_once
            what_is_refused_is_not_announced
            only_those_who_ask_are_told
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! contract_cases {
    ($port:ident, $fresh:expr, $($case:ident)+) => {
        mod $port {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let (store, _guard) = $fresh.await;
                    $crate::contract::$port::$case(&store).await;
                }
            )+
        }
    };
}
