//! What the compiler says about mistakes in the derives' attributes, word for word.
//!
//! The expected messages stand beside the cases in `ui/`, as the compiler of `rust-toolchain.toml` writes
//! them. `TRYBUILD=overwrite cargo test -p cqrs-tests --test derive_ui` writes them anew; read them then as
//! a user would.
//!
//! Not with the feature `testcontainers`: it needs no server.
#![cfg(not(feature = "testcontainers"))]

#[test]
fn mistakes_are_reported_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
