//! The schema lock: a file with the stored shape of each event, which a test holds the program to.

mod check;
mod compare;
mod lock;
mod sample;
mod shapes;
#[cfg(test)]
mod tests;

use std::{any::type_name, env, path::Path};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::model::event::Event;

pub use shapes::Older;

/// The environment variable that lets the helper write the file.
const UPDATE: &str = "UPDATE_SCHEMA_LOCK";

/// Events whose stored shape can be locked: `#[event(schema)]` beside schemars' `JsonSchema`.
///
/// The derive writes it; see [`check_schema_lock`].
#[diagnostic::on_unimplemented(
    message = "the stored shape of `{Self}` is not known",
    note = "add `#[event(schema)]` and `#[derive(schemars::JsonSchema)]`"
)]
pub trait StoredShape: Event + JsonSchema + DeserializeOwned {
    /// Whether each variant is a stored type; a struct is one by itself.
    const IS_ENUM: bool;

    /// Names that a stored type had once, each with the name that it has now.
    const ALIASES: &'static [(&'static str, &'static str)];

    /// Shows the type of each older version's payload.
    fn older(older: &mut Older);
}

/// Holds the stored shape of the events `E` to what the file at `path` says, which is under version control.
///
/// The file has the shape of each event in each version, as JSON Schema, and a payload for each, which was written
/// once and is read back for ever. `path` counts from the package's folder.
///
/// ```no_run
/// # use cqrs_core::Event;
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize, schemars::JsonSchema, Event)]
/// #[event(prefix = "order", schema)]
/// enum OrderEvent {
///     Created { customer: String },
/// }
///
/// // in a #[test]
/// cqrs_core::testing::check_schema_lock::<OrderEvent>("schema/order.json");
/// ```
///
/// A change after which this program could not read what is stored fails, and says what has changed and what to do:
/// give the event a new version, or make the change a compatible one. Any other change fails until the file is brought
/// up to date by a run with `UPDATE_SCHEMA_LOCK=1`, which writes additions and nothing else.
///
/// The payloads follow from the schema. Where a type reads less than its schema says, give it an example that it does
/// read: `#[schemars(example = "2026-01-02")]`.
///
/// # Panics
///
/// When the shape is not the locked one; this is how the test fails.
#[track_caller]
pub fn check_schema_lock<E: StoredShape>(path: impl AsRef<Path>) {
    // What cargo sets for a test is the folder in which it runs as well.
    let path =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(Default::default, std::path::PathBuf::from).join(path);
    let update = env::var_os(UPDATE).is_some_and(|value| value == "1");
    if let Err(problem) = check::check::<E>(&path, update) {
        panic!("the stored shape of {} (locked in {}) {problem}", type_name::<E>(), path.display());
    }
}
