//! Event stores that wrap another one: [`pass_on`](crate::pass_on!).

/// Passes these calls of an `EventStore` on to the store in a field.
#[macro_export]
macro_rules! pass_on {
    (to $inner:ident: all but append) => {
        $crate::pass_on! {
            to $inner: source name era backlog read last last_confirmed next_after last_before commit_at forget log search
                subscribe load_snapshot save_snapshot
        }
    };
    (to $inner:ident: $($call:ident)+) => { $($crate::pass_on! { @$call $inner })+ };
    (@source $inner:ident) => { $crate::pass_on! { @now $inner source() -> &str } };
    (@name $inner:ident) => { $crate::pass_on! { @now $inner name() -> &str } };
    (@era $inner:ident) => { $crate::pass_on! { @now $inner era() -> u64 } };
    (@now $inner:ident $call:ident() -> $answer:ty) => {
        fn $call(&self) -> $answer { self.$inner.$call() }
    };
    (@backlog $inner:ident) => {
        $crate::pass_on! { @later $inner backlog(aggregates: &[&'static str], after: u64) -> cqrs_core::port::Backlog }
    };
    (@read $inner:ident) => {
        $crate::pass_on! {
            @later $inner read(aggregate: &cqrs_core::AggregateKey, after: u64, max: usize) -> cqrs_core::port::Page
        }
    };
    (@last $inner:ident) => {
        $crate::pass_on! {
            @later $inner last(aggregate: &cqrs_core::AggregateKey) -> Option<cqrs_core::log::StoredCommit>
        }
    };
    (@last_confirmed $inner:ident) => {
        $crate::pass_on! {
            @later $inner last_confirmed(aggregate: &cqrs_core::AggregateKey) -> Option<cqrs_core::log::StoredCommit>
        }
    };
    (@next_after $inner:ident) => {
        $crate::pass_on! {
            @later $inner
            next_after(aggregate: &cqrs_core::AggregateKey, after: u64) -> Option<cqrs_core::log::StoredCommit>
        }
    };
    (@last_before $inner:ident) => {
        $crate::pass_on! {
            @later $inner
            last_before(aggregates: &[cqrs_core::AggregateKey], at: u64) -> Vec<Option<cqrs_core::port::Delivery>>
        }
    };
    (@commit_at $inner:ident) => {
        $crate::pass_on! { @later $inner commit_at(sequence: u64) -> Option<cqrs_core::port::Delivery> }
    };
    (@forget $inner:ident) => { $crate::pass_on! { @later $inner forget(subscriber: &str) -> () } };
    (@log $inner:ident) => {
        $crate::pass_on! { @later $inner log(aggregates: &[&'static str]) -> cqrs_core::port::Log }
    };
    (@search $inner:ident) => {
        $crate::pass_on! { @later $inner search(search: cqrs_core::port::Search) -> cqrs_core::port::Page }
    };
    (@subscribe $inner:ident) => {
        $crate::pass_on! { @later $inner subscribe(request: cqrs_core::port::Subscribe<'_>) -> Self::Subscription }
    };
    (@load_snapshot $inner:ident) => {
        $crate::pass_on! { @later $inner load_snapshot(of: &cqrs_core::AggregateKey) -> Option<bytes::Bytes> }
    };
    (@save_snapshot $inner:ident) => {
        $crate::pass_on! { @later $inner save_snapshot(of: &cqrs_core::AggregateKey, snapshot: bytes::Bytes) -> () }
    };
    (@later $inner:ident $call:ident($($name:ident: $value:ty),*) -> $answer:ty) => {
        async fn $call(&self, $($name: $value),*) -> Result<$answer, cqrs_core::StoreError> {
            self.$inner.$call($($name),*).await
        }
    };
}
