//! The schema lock: a file with the stored shape of each event, with which a test compares the program.

mod check;
mod compare;
mod lock;
mod policy;
mod sample;
mod shapes;
#[cfg(test)]
mod tests;

use std::{
    any::type_name,
    env,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::model::event::Event;

pub use policy::check_policy_lock;
pub use shapes::Older;

/// The environment variable that allows the test to write the file.
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

    /// Former names of stored types, each with its present name.
    const ALIASES: &'static [(&'static str, &'static str)];

    /// Adds the type of each older version's payload to `older`.
    fn older(older: &mut Older);
}

/// Compares the stored shape of the events `E` with the file at `path`, which is under version control.
///
/// The file has the shape of each event in each version, as JSON Schema, and a payload for each, which was written once
/// and must stay readable. `path` is relative to the package's folder.
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
/// A change after which this program could not read stored events fails, and the message says what has changed and what
/// to do: give the event a new version, or make the change a compatible one. Any other change fails until the file is
/// updated by a run with `UPDATE_SCHEMA_LOCK=1`, which writes additions and nothing else.
///
/// The payloads are generated from the schema. If a type reads less than its schema says, give it an example that it
/// reads: `#[schemars(example = "2026-01-02")]`.
///
/// # Panics
///
/// When the shape differs from the locked one; this is how the test fails.
#[track_caller]
pub fn check_schema_lock<E: StoredShape>(path: impl AsRef<Path>) {
    let (path, update) = path_and_update(path.as_ref());
    if let Err(problem) = check::check::<E>(&path, update) {
        panic!("the stored shape of {} (locked in {}) {problem}", type_name::<E>(), path.display());
    }
}

/// The path of a lock, and whether the test may write it.
fn path_and_update(path: &Path) -> (PathBuf, bool) {
    // Cargo sets this variable to the folder in which it runs the test.
    let folder = env::var_os("CARGO_MANIFEST_DIR").map_or_else(Default::default, PathBuf::from);
    (folder.join(path), env::var_os(UPDATE).is_some_and(|value| value == "1"))
}
