//! The stored states of a policy: each says the version of its shape.
//!
//! A stored state is `{"cqrs.version": 2, "state": …}`; a state without a version has version 1. A state of another
//! version than the program's is read with [`Policy::upgrade`] or, if that is not possible, by another program: the policy
//! halts. A state of the program's own version that cannot be read is about its instance, whose event is set aside.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    base::{id::ProjectionId, source::describe, store_error::StoreError},
    effects::policy::{Policy, PolicyStateOf},
    encoding::{
        fingerprint,
        json::{self, NotKept},
    },
    projector::{
        kept::{Fault, Format},
        rules::panicked,
    },
};

#[derive(Serialize, Deserialize)]
struct Stored<S> {
    #[serde(rename = "cqrs.version")]
    version: u32,
    state: S,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "cqrs.version")]
    version: Option<u32>,
}

/// How the states of `P` are stored.
pub(super) fn format<P: Policy>() -> Format<PolicyStateOf<P>> {
    Format { read: read::<P>, write: write::<P> }
}

fn write<P: Policy>(state: &PolicyStateOf<P>) -> Result<Bytes, NotKept> {
    let stored = Stored { version: P::VERSION, state };
    let read_back = PhantomData::<Stored<PolicyStateOf<P>>>;
    let compare = |read: &Stored<_>| fingerprint::difference(state, &read.state, true);
    json::written_and_read(&stored, read_back, compare).map(|(json, _)| json)
}

fn read<P: Policy>(id: &ProjectionId, key: &str, document: &[u8]) -> Result<PolicyStateOf<P>, Fault> {
    let (known, stored) = (P::VERSION, version(document));
    let from = stored.unwrap_or(1);
    if from == known {
        return panicked(|| decode(document, stored))
            .and_then(|state| state.map_err(|error| same_version(id, key, known, &error)))
            .map_err(Fault::Rule);
    }
    let halted = |reason| {
        Fault::Store(StoreError::PolicyState { policy: id.to_string(), instance: key.to_owned(), reason })
    };
    if from > known {
        return Err(halted(format!(
            "has version {from}, and this program knows version {known}: a newer program goes on with it"
        )));
    }
    let upgraded = panicked(|| {
        let old: Value = decode(document, stored).map_err(|error| error.to_string())?;
        P::upgrade(from, old).map_err(|error| describe(&*error))
    });
    upgraded.and_then(|upgraded| upgraded).map(Into::into).map_err(|reason| {
        halted(format!(
            "has version {from}, and this program cannot make version {known} of it ({reason}): start a program whose \
             `Policy::upgrade` reads version {from}"
        ))
    })
}

/// The version that is stored with the state.
fn version(document: &[u8]) -> Option<u32> {
    // A state of its own form can be a sequence, which serde would take for the fields in their order.
    let is_object = document.trim_ascii_start().starts_with(b"{");
    is_object.then(|| json::decode::<Header>(document).ok()?.version).flatten()
}

fn decode<T: DeserializeOwned>(document: &[u8], version: Option<u32>) -> Result<T, serde_json::Error> {
    match version {
        Some(_) => json::decode::<Stored<T>>(document).map(|stored| stored.state),
        None => json::decode(document),
    }
}

fn same_version(id: &ProjectionId, key: &str, version: u32, error: &serde_json::Error) -> String {
    format!(
        "state {key:?} of policy {id} cannot be read: {error}; if its type has changed since it was stored, the policy \
         needs a version above {version} and an `upgrade`"
    )
}
