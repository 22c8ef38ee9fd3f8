//! What the compiler says about mistakes in the derives' attributes, and about traits that are not implemented, word for
//! word.
//!
//! The expected messages stand beside the cases in `ui/`, as the compiler of `rust-toolchain.toml` writes
//! them. `TRYBUILD=overwrite cargo test -p cqrs-derive-tests` writes them anew; read them then as a user would.

#[test]
fn mistakes_are_reported_in_the_users_words() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
