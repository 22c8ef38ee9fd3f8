//! The lock of the shape of a policy's states.

use std::{any::type_name, fmt::Write as _, path::Path};

use schemars::JsonSchema;

use crate::{
    base::{panics::unless_panics, source::describe},
    effects::policy::{Policy, PolicyStateOf},
    testing::schema::{
        UPDATE, compare,
        lock::{Entry, Lock},
        path_and_update,
        shapes::{Shape, shape},
    },
};

/// Compares the shape of the states of the policy `P` with the file at `path`, which is under version control. It is
/// [`check_schema_lock`](crate::testing::check_schema_lock) for states; several policies can share a file.
///
/// ```no_run
/// # use cqrs_core::{Aggregate, Apply, Effects, Envelope, Event, Policy, React, Start};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(name = "order.paid")]
/// # struct Paid;
/// # #[derive(Debug, thiserror::Error)]
/// # enum Never {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = Paid, rejection = Never)]
/// # struct Order;
/// # impl Apply<Paid> for Order { fn apply(&mut self, _: &Paid) {} }
/// #[derive(Default, Serialize, Deserialize, schemars::JsonSchema)]
/// struct Fulfilment { paid: u64 }
/// # impl Policy for Fulfilment {
/// #     const NAME: &'static str = "fulfilment";
/// #     const START: Start = Start::Beginning;
/// #     type Of = Order;
/// # }
/// # impl React<Paid> for Fulfilment { fn react(&mut self, _: &Envelope<Paid>, _: &mut Effects) {} }
///
/// // in a #[test]
/// cqrs_core::testing::check_policy_lock::<Fulfilment>("schema/policies.json");
/// ```
///
/// A change after which stored states could not be read fails: raise [`Policy::VERSION`] and write a step in
/// [`Policy::upgrade`]. The file has a state of each version, and `upgrade` must make a present state of each. Any other
/// change fails until the file is updated by a run with `UPDATE_SCHEMA_LOCK=1`.
///
/// # Panics
///
/// When the shape differs from the locked one; this is how the test fails.
#[track_caller]
pub fn check_policy_lock<P: Policy + JsonSchema>(path: impl AsRef<Path>) {
    let (path, update) = path_and_update(path.as_ref());
    if let Err(problem) = check::<P>(&path, update) {
        panic!(
            "the stored shape of the states of {} (locked in {}) {problem}",
            type_name::<P>(),
            path.display()
        );
    }
}

/// Compares the program with the file.
///
/// # Errors
///
/// The problem, as the end of a sentence that begins with the shape of the states.
pub(super) fn check<P: Policy + JsonSchema>(path: &Path, update: bool) -> Result<(), String> {
    let Shape { schema, payload } = shape::<P>();
    let mut locked = Lock::read(path)?.unwrap_or_default();
    let mut broken = String::new();
    for (_, version, entry) in locked.iter().filter(|(name, ..)| *name == P::NAME) {
        for problem in problems::<P>(version, entry, &schema) {
            let _ = writeln!(broken, "  - version {version}: {problem}");
        }
    }
    if !broken.is_empty() {
        return Err(format!(
            "has changed so that stored states could not be read:\n\n{broken}\n  Raise `Policy::VERSION`, and let \
             `Policy::upgrade` make a present state of each stored version; or make the change a compatible one, such \
             as a new field with `#[serde(default)]`.\n  If nothing of it was ever stored, take it out of the file by \
             hand."
        ));
    }
    let change = match locked.entry(P::NAME, P::VERSION) {
        Some(entry) if entry.schema == schema => return Ok(()),
        Some(entry) => {
            entry.schema = schema;
            "its shape has changed in a compatible way"
        }
        None => {
            read::<P>(&payload).map_err(|error| {
                format!(
                    "cannot be locked: it does not read a state that its schema allows: {error}\n  {payload}\n  Give \
                     the type that refuses it an example that it reads: `#[schemars(example = …)]`."
                )
            })?;
            locked.insert(P::NAME, P::VERSION, Entry { schema, payload, bincode: None });
            "it is new"
        }
    };
    if update {
        return locked.write(path);
    }
    Err(format!(
        "is not locked as it is now. Whatever is stored can be read, so bring the file up to date with \
         `{UPDATE}=1 cargo test`, read the difference, and check it in:\n\n  - version {}: {change}",
        P::VERSION
    ))
}

fn problems<P: Policy>(version: u32, entry: &Entry, schema: &serde_json::Value) -> Vec<String> {
    let state = &entry.payload;
    if version > P::VERSION {
        return vec![format!("the policy has version {} only", P::VERSION)];
    }
    if version < P::VERSION {
        let upgraded =
            unless_panics(|| P::upgrade(version, state.clone()).map_err(|error| describe(&*error)));
        let failed = upgraded.and_then(|upgraded| upgraded.map(drop)).err();
        return failed
            .map(|error| format!("`upgrade` does not read its locked state: {error}"))
            .into_iter()
            .collect();
    }
    let mut problems = compare::problems(&entry.schema, schema);
    if let Err(error) = read::<P>(state) {
        problems.push(format!("its locked state is not read any more: {error}"));
    }
    problems
}

fn read<P: Policy>(state: &serde_json::Value) -> Result<(), serde_json::Error> {
    serde_json::from_value::<PolicyStateOf<P>>(state.clone()).map(drop)
}
