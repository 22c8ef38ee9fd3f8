//! Models of protocols whose every state is visited. They need no server, so a container changes nothing, and they are
//! not built with the feature `testcontainers`.
#![cfg(not(feature = "testcontainers"))]

mod append_model;
mod project_model;

use std::{fmt::Debug, hash::Hash};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model};

/// All properties of `model` hold, and `reached` is reached.
fn holds<M>(model: M, reached: &[&'static str])
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>,
    M: Copy + Debug + Send + Sync + 'static,
{
    let checked = model.checker().spawn_bfs().join();
    println!("{} states of {model:?}", checked.unique_state_count());
    for property in model.properties() {
        if property.expectation == Expectation::Always {
            checked.assert_no_discovery(property.name);
        }
    }
    for name in reached {
        checked.assert_any_discovery(name);
    }
}

/// There is a counterexample to `property`.
fn breaks<M>(model: M, property: &'static str)
where
    M: Model<State: Clone + Debug + Hash + PartialEq + Send + Sync, Action: Clone + Debug + PartialEq>,
    M: Copy + Debug + Send + Sync + 'static,
{
    let found = HasDiscoveries::AnyOf([property].into());
    let checked = model.checker().finish_when(found).spawn_bfs().join();
    println!("{} states of {model:?}, looking for a case against: {property}", checked.unique_state_count());
    assert!(checked.discovery(property).is_some(), "nothing breaks \"{property}\" in {model:?}");
}
