//! Ports that wrap another one: [`pass_on`](crate::pass_on!).

/// Passes these calls of an `EventStore`, a `ViewStore` or a `Projection` on to the port in a field.
///
/// With `repeatedly`, a call is repeated after a transient error, as a [`Patient`](crate::patient::Patient) store
/// does it.
///
/// The `name` of a view store is `place` here, since the `name` of an event store has another type.
#[macro_export]
macro_rules! pass_on {
    (to $inner:ident: all but append) => {
        $crate::pass_on! {
            to $inner: source name era capabilities backlog read last last_confirmed next_after last_before commit_at
                has_subscriber forget log search aggregates subscribe load_snapshot save_snapshot
        }
    };
    (to $inner:ident: all views but save) => {
        $crate::pass_on! {
            to $inner: open checkpoint load notes max_writes place get list page reached remove about set_about
        }
    };
    (to $inner:ident: $($call:ident)+) => { $($crate::pass_on! { @$call $inner })+ };
    (repeatedly to $inner:ident: $($call:ident)+) => { $($crate::pass_on! { @$call (repeatedly $inner) })+ };
    (@source $inner:tt) => { $crate::pass_on! { @now $inner source() -> &str } };
    (@name $inner:tt) => { $crate::pass_on! { @now $inner name() -> &str } };
    (@era $inner:tt) => { $crate::pass_on! { @now $inner era() -> u64 } };
    (@capabilities $inner:tt) => {
        $crate::pass_on! { @now $inner capabilities() -> cqrs_core::port::Capabilities }
    };
    (@now $inner:ident $call:ident() -> $answer:ty) => {
        fn $call(&self) -> $answer { self.$inner.$call() }
    };
    (@backlog $inner:tt) => {
        $crate::pass_on! { @later $inner backlog(aggregates: &[&'static str], after: u64) -> cqrs_core::port::Backlog }
    };
    (@read $inner:tt) => {
        $crate::pass_on! {
            @later $inner read(aggregate: &cqrs_core::AggregateKey, after: u64, max: usize) -> cqrs_core::port::Page
        }
    };
    (@last $inner:tt) => {
        $crate::pass_on! {
            @later $inner last(aggregate: &cqrs_core::AggregateKey) -> Option<cqrs_core::log::StoredCommit>
        }
    };
    (@last_confirmed $inner:tt) => {
        $crate::pass_on! {
            @later $inner last_confirmed(aggregate: &cqrs_core::AggregateKey) -> Option<cqrs_core::log::StoredCommit>
        }
    };
    (@next_after $inner:tt) => {
        $crate::pass_on! {
            @later $inner
            next_after(aggregate: &cqrs_core::AggregateKey, after: u64) -> Option<cqrs_core::log::StoredCommit>
        }
    };
    (@last_before $inner:tt) => {
        $crate::pass_on! {
            @later $inner
            last_before(aggregates: &[cqrs_core::AggregateKey], at: u64) -> Vec<Option<cqrs_core::port::Delivery>>
        }
    };
    (@commit_at $inner:tt) => {
        $crate::pass_on! { @later $inner commit_at(sequence: u64) -> Option<cqrs_core::port::Delivery> }
    };
    (@has_subscriber $inner:tt) => {
        $crate::pass_on! { @later $inner has_subscriber(subscriber: &str) -> Option<bool> }
    };
    (@forget $inner:tt) => { $crate::pass_on! { @later $inner forget(subscriber: &str) -> () } };
    (@log $inner:tt) => {
        $crate::pass_on! { @later $inner log(aggregates: &[&'static str]) -> cqrs_core::port::Log }
    };
    (@search $inner:tt) => {
        $crate::pass_on! { @later $inner search(search: cqrs_core::port::Search) -> cqrs_core::port::Page }
    };
    (@aggregates $inner:tt) => {
        $crate::pass_on! {
            @later $inner aggregates(listing: cqrs_core::port::Listing<'_>) -> cqrs_core::port::AggregatePage
        }
    };
    (@subscribe $inner:tt) => {
        $crate::pass_on! { @later $inner subscribe(request: cqrs_core::port::Subscribe<'_>) -> Self::Subscription }
    };
    (@load_snapshot $inner:tt) => {
        $crate::pass_on! { @later $inner load_snapshot(of: &cqrs_core::AggregateKey, part: cqrs_core::port::SnapshotPart) -> Option<bytes::Bytes> }
    };
    (@save_snapshot $inner:tt) => {
        $crate::pass_on! { @later $inner save_snapshot(of: &cqrs_core::AggregateKey, part: cqrs_core::port::SnapshotPart, snapshot: bytes::Bytes) -> () }
    };
    (@place $inner:tt) => { $crate::pass_on! { @now $inner name() -> Option<String> } };
    (@max_writes $inner:tt) => { $crate::pass_on! { @now $inner max_writes() -> usize } };
    (@open $inner:tt) => {
        $crate::pass_on! { @later $inner open(projection: &cqrs_core::port::ProjectionId) -> () }
    };
    (@remove $inner:tt) => {
        $crate::pass_on! { @later $inner remove(projection: &cqrs_core::port::ProjectionId) -> () }
    };
    (@checkpoint $inner:tt) => {
        $crate::pass_on! {
            @later $inner checkpoint(projection: &cqrs_core::port::ProjectionId) -> cqrs_core::port::SavedCheckpoint
        }
    };
    (@reached $inner:tt) => {
        $crate::pass_on! {
            @later $inner
            reached(projection: &cqrs_core::port::ProjectionId, sequence: u64) -> cqrs_core::port::Reached
        }
    };
    (@load $inner:tt) => {
        $crate::pass_on! {
            @later $inner
            load(projection: &cqrs_core::port::ProjectionId, keys: &[String]) -> Vec<cqrs_core::port::SavedDocument>
        }
    };
    (@notes $inner:tt) => {
        $crate::pass_on! {
            @later $inner
            notes(projection: &cqrs_core::port::ProjectionId, prefix: &str) -> Vec<(String, bytes::Bytes)>
        }
    };
    (@get $inner:tt) => {
        $crate::pass_on! {
            @later $inner get(projection: &cqrs_core::port::ProjectionId, key: &str) -> Option<bytes::Bytes>
        }
    };
    (@list $inner:tt) => {
        $crate::pass_on! {
            @later $inner list(projection: &cqrs_core::port::ProjectionId) -> Vec<(String, bytes::Bytes)>
        }
    };
    (@page $inner:tt) => {
        $crate::pass_on! {
            @later $inner
            page(projection: &cqrs_core::port::ProjectionId, after: Option<&str>, max: usize)
                -> Vec<(String, bytes::Bytes)>
        }
    };
    (@about $inner:tt) => {
        $crate::pass_on! { @later $inner about(view: &str) -> cqrs_core::port::SavedDocument }
    };
    (@set_about $inner:tt) => {
        $crate::pass_on! { @saved $inner set_about(view: &str, content: bytes::Bytes, revision: u64) }
    };
    (@settings $inner:tt) => {
        $crate::pass_on! { @now $inner settings() -> cqrs_core::port::ProjectionSettings }
    };
    (@under_way $inner:tt) => {
        $crate::pass_on! { @now $inner under_way() -> Vec<(cqrs_core::AggregateKey, cqrs_core::log::Position)> }
    };
    (@waiting $inner:tt) => {
        $crate::pass_on! { @now $inner waiting() -> Option<cqrs_core::port::Waiting> }
    };
    (@let_go $inner:tt) => { $crate::pass_on! { @now $inner let_go() -> () } };
    (@resume $inner:tt) => {
        $crate::pass_on! {
            @saved $inner
            resume(
                projection: &cqrs_core::port::ProjectionId,
                checkpoint: &cqrs_core::port::Checkpoint,
                revision: u64
            )
        }
    };
    (@saved $inner:ident $call:ident($($name:ident: $value:ty),*)) => {
        async fn $call(&self, $($name: $value),*) -> Result<u64, cqrs_core::port::SaveError> {
            self.$inner.$call($($name),*).await
        }
    };
    (@later (repeatedly $inner:ident) $call:ident($($name:ident: $value:ty),*) -> $answer:ty) => {
        async fn $call(&self, $($name: $value),*) -> Result<$answer, cqrs_core::StoreError> {
            $crate::patient::again(|| self.$inner.$call($(Clone::clone(&$name)),*)).await
        }
    };
    (@later $inner:ident $call:ident($($name:ident: $value:ty),*) -> $answer:ty) => {
        async fn $call(&self, $($name: $value),*) -> Result<$answer, cqrs_core::StoreError> {
            self.$inner.$call($($name),*).await
        }
    };
}
