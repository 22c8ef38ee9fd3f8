//! The derives of `cqrs-core`, which exports them under the names of their traits: depend on that crate, not on this
//! one.
//!
//! Each derive has three steps: `attributes` and `options` parse, a `Model` checks everything, and `emit` writes the
//! impls. All mistakes are reported at once, each on its own tokens. Even then there is an impl, with holes or empty
//! bodies, so that the compiler reports nothing besides the mistakes.
//!
//! The output names everything by absolute paths, and only items of `core`, `std` and `::cqrs_core`. If that crate has
//! another name, each derive takes a path to it:
//!
//! ```ignore
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(prefix = "order", crate = renamed)]
//! enum OrderEvent {
//!     Created,
//! }
//! ```

mod aggregate;
mod attributes;
mod command;
mod diagnostics;
mod event;
mod names;
mod options;
mod query;
mod serde_attributes;
mod target;
#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Event` for an enum whose variants are facts, or for a struct that is one.
///
/// The type needs serde's `Serialize` and `Deserialize` too: the payload of an event is what they write for the struct,
/// or for the fields of the variant. serde's attributes on fields (`rename`, `default`, `with`, …) have their usual
/// effect. Attributes that change the shape of the enum (`tag`, `untagged`, `from`, …) or leave a variant out (`skip`,
/// `other`, …) are refused.
///
/// Fields with a `#[serde(default)]` can be added later to every payload that is a map. The payload of a variant
/// without fields is an empty map, and so is that of `struct Closed {}`. But serde writes `struct Closed;` as `null`,
/// so give an event that is a struct its braces.
///
/// # On an enum: `#[event(…)]`
///
/// | option | meaning |
/// |---|---|
/// | `prefix = "order"` | the prefix of the stored names; required unless every variant has a `name` |
/// | `codec = bincode` | the encoding of recorded events; `json` by default |
/// | `schema` | the stored shape can be locked; the type needs schemars' `JsonSchema` |
/// | `crate = path` | the path of `cqrs_core`, if it is not `::cqrs_core` |
///
/// # On a variant: `#[event(…)]`
///
/// | option | meaning | default |
/// |---|---|---|
/// | `name = "order.settled"` | the stored name | the prefix, a dot and the variant in snake case |
/// | `aliases("order.closed")` | former stored names, which are read as well | none |
/// | `version = 2` | the version of the payload's shape, from 1 | 1 |
/// | `upcast(1 = SomeType)` | the types of the payloads of all earlier versions, from 1 on | none |
/// | `retired` | the event is read and not recorded any more | it is recorded |
///
/// # On a struct: `#[event(…)]`
///
/// `name` (required), `aliases`, `version`, `upcast`, `codec`, `schema` and `crate`, as above.
///
/// # Versions: `version = 3, upcast(1 = V1, 2 = V2)`
///
/// A payload of an old version is read as the type of its version and converted to the next one by `From`:
/// `V2: From<V1>`, and from the last one to the event itself, `OrderEvent: From<V2>`. Each version needs its step.
///
/// # Names
///
/// A stored name consists of words of `a-z`, `0-9`, `_` and `-`, joined by dots, 128 bytes at most. It stays in the
/// log: if you rename a variant, give it its old name as `name`. No two variants may have the same name.
///
/// # Example
///
/// ```ignore
/// use cqrs_core::{Event, model::EventType};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// #[event(prefix = "order")]
/// enum OrderEvent {
///     Created { customer: String },                 // order.created
///     #[event(name = "order.settled", version = 2, upcast(1 = u64))]
///     Paid { amount: u64 },
///     Cancelled,                                    // order.cancelled
/// }
///
/// impl From<u64> for OrderEvent {
///     fn from(amount: u64) -> Self {
///         Self::Paid { amount }
///     }
/// }
///
/// assert_eq!(OrderEvent::Paid { amount: 7 }.event_type(), EventType::new("order.settled", 2));
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    event::derive(&parse_macro_input!(input as DeriveInput)).into()
}

/// Implements `Aggregate` for the state of an aggregate, a struct or an enum.
///
/// The type needs `Default`, which is the state before the first event, `Clone`, `Send` and `Sync`; an
/// `Apply<…>` of its event; and a `Handle<…>` of each of its commands.
///
/// # `#[aggregate(…)]`
///
/// | option | meaning | default |
/// |---|---|---|
/// | `id = OrderId` | the type of the aggregate's id; its `Display` text is stored | required |
/// | `event = OrderEvent` | the events that the aggregate records | required |
/// | `rejection = OrderRejection` | the error type with the reasons for which a command is rejected | required |
/// | `commands(CreateOrder, PayOrder)` | the commands that can be sent by name: by `Router`, policies and deadlines | none |
/// | `internal(ExpireOrder)` | the commands that policies and deadlines can send by name, and `Router` cannot | none |
/// | `snapshot(every = 50)` | how often a snapshot is saved, in events | no snapshots |
/// | `name = "order"` | the stored name | the type in snake case |
/// | `crate = path` | the path of `cqrs_core` | `::cqrs_core` |
///
/// A name consists of `a-z`, `0-9`, `_` and `-`, 64 of them at most. It stays in the log: if you rename a type, give it
/// its old name as `name`.
///
/// Each command is in one list, once, or in none. The aggregate implements `Lists<…>` for the commands in its lists, so
/// that a policy that sends another command does not compile. A command in no list can be executed by its type only.
///
/// # Snapshots: `snapshot(every = 50, version = 2)`
///
/// A snapshot is the state itself, saved about every so many events, so that a load reads it and the few events since,
/// and not all events. It is a cache: if anything is wrong with it, the events are replayed. Use it for aggregates that
/// live long; short ones are read as fast without.
///
/// The state then needs serde's `Serialize` and `Deserialize`, and all of it must be in what they write. A change of
/// its type, also of a nested one, is detected, and old snapshots are discarded. A change of what `apply` does cannot
/// be detected: raise `version` (1 by default) with every change that makes another state of the same events.
/// `Snapshots` in `cqrs-core` explains more.
///
/// # Example
///
/// ```ignore
/// use cqrs_core::{Aggregate, Apply};
///
/// #[derive(Debug, Default, Clone, Aggregate)]
/// #[aggregate(id = OrderId, event = OrderEvent, rejection = OrderRejection, commands(CreateOrder, PayOrder))]
/// struct Order {
///     paid: u64,
/// }
///
/// impl Apply<OrderEvent> for Order {
///     fn apply(&mut self, event: &OrderEvent) {
///         if let OrderEvent::Paid(amount) = event {
///             self.paid += amount;
///         }
///     }
/// }
/// ```
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn derive_aggregate(input: TokenStream) -> TokenStream {
    aggregate::derive(&parse_macro_input!(input as DeriveInput)).into()
}

/// Implements `Command` for a struct, or for an enum whose variants are commands.
///
/// The type needs serde's `Serialize` and `Deserialize` too.
///
/// # On a struct: `#[command(…)]`
///
/// | option | meaning | default |
/// |---|---|---|
/// | `aggregate = Order` | the type of the aggregate that decides | required |
/// | `create`, `update` or `upsert` | the aggregate must not exist yet, must exist, or either | `update` |
/// | `name = "create_order"` | the name in messages | the type in snake case |
/// | `crate = path` | the path of `cqrs_core` | `::cqrs_core` |
///
/// A name consists of `a-z`, `0-9`, `_` and `-`, 64 of them at most.
///
/// # On a field: `#[command(id)]`
///
/// Marks the field with the id of the aggregate that the command is for. Exactly one field must have it, also if there
/// is no other field, and its type must be the aggregate's `id`.
///
/// # Example
///
/// ```ignore
/// use cqrs_core::Command;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Command)]
/// #[command(aggregate = Order, create)]
/// struct CreateOrder {
///     #[command(id)]
///     order: OrderId,
///     customer: String,
/// }
///
/// assert_eq!(CreateOrder::NAMES, ["create_order"]);
/// ```
///
/// # On an enum: `#[command(…)]`
///
/// | option | meaning | default |
/// |---|---|---|
/// | `aggregate = Order` | the type of the aggregate that decides | required |
/// | `suffix = "order"` | the suffix of the variants' names, after a `_` | no suffix |
/// | `crate = path` | the path of `cqrs_core` | `::cqrs_core` |
///
/// # On a variant: `#[command(…)]`
///
/// | option | meaning | default |
/// |---|---|---|
/// | `create`, `update` or `upsert` | as above | `update` |
/// | `name = "create_order"` | the name in messages | the variant in snake case, and the suffix |
///
/// Each variant marks its own field with `#[command(id)]`. In messages a variant is its name and its fields, as if it
/// were a struct. So serde's attributes that would change the shape of the enum or leave a variant out (`tag`,
/// `untagged`, `skip`, …) are refused, as they are on events. The names of all commands of a service must differ: a
/// suffix distinguishes the `Create` of one aggregate from that of another.
///
/// ```ignore
/// #[derive(Debug, Serialize, Deserialize, Command)]
/// #[command(aggregate = Order, suffix = "order")]
/// enum OrderCommand {
///     #[command(create)]
///     Create { #[command(id)] order: OrderId, customer: String },     // create_order
///     Pay { #[command(id)] order: OrderId, amount: u64 },             // pay_order
///     #[command(name = "withdraw", upsert)]
///     Cancel(#[command(id)] OrderId),
/// }
///
/// impl Handle<OrderCommand> for Order {
///     fn handle(&self, command: &OrderCommand, _: &Context) -> Handled<Self> {
///         match command { /* one arm for each command */ }
///     }
/// }
/// ```
#[proc_macro_derive(Command, attributes(command))]
pub fn derive_command(input: TokenStream) -> TokenStream {
    command::derive(&parse_macro_input!(input as DeriveInput)).into()
}

/// Implements `Query` for a struct, and with a key also the view's `Answer`.
///
/// # On the struct: `#[query(…)]`
///
/// | option | meaning | default |
/// |---|---|---|
/// | `view = OrderSummary` | the type of the view that answers, or a tuple of views | required |
/// | `answer = Option<OrderSummary>` | the type of the answer | required |
/// | `name = "get_order"` | the name in messages | the type in snake case |
/// | `crate = path` | the path of `cqrs_core` | `::cqrs_core` |
///
/// A name consists of `a-z`, `0-9`, `_` and `-`, 64 of them at most.
///
/// # On a field: `#[query(key)]`
///
/// Marks the field whose `Display` text is the key of the document that answers. The answer is made from that document:
/// from the view's `Option` by `From`, so it may be `Option<OrderSummary>` or any type with
/// `From<Option<OrderSummary>>`. Without a key, implement `Answer` for the view.
///
/// # Example
///
/// ```ignore
/// use cqrs_core::Query;
///
/// #[derive(Debug, Query)]
/// #[query(view = OrderSummary, answer = Option<OrderSummary>)]
/// struct GetOrder {
///     #[query(key)]
///     order: OrderId,
/// }
/// ```
#[proc_macro_derive(Query, attributes(query))]
pub fn derive_query(input: TokenStream) -> TokenStream {
    query::derive(&parse_macro_input!(input as DeriveInput)).into()
}
