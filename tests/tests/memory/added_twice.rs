//! A service with an aggregate or a view twice.

use cqrs_core::{Cqrs, Envelope, Project, View, memory::Memory};
use cqrs_tests::domain::{Account, AccountEvent, Statement};
use serde::{Deserialize, Serialize};

#[tokio::test]
async fn a_type_that_is_added_twice_is_named_once() {
    let accounts = Cqrs::builder(Memory::default()).aggregate::<Account>().aggregate::<Account>();
    let started = accounts.view::<Statement>().view::<Statement>().start().await;
    let error = started.err().expect("an aggregate is there twice").to_string();
    let expected = "`Account` is added twice, call `.aggregate::<Account>()` once; \
                    `Statement` is added twice, call `.view::<Statement>()` once";
    assert!(error.ends_with(expected), "{error}");
}

/// Another view under the name of the first.
#[derive(Default, Serialize, Deserialize)]
struct Copied;

impl View for Copied {
    const NAME: &'static str = "statement";
    type Of = Account;
}

impl Project<AccountEvent> for Copied {
    fn project(&mut self, _: &Envelope<AccountEvent>) {}
}

#[tokio::test]
async fn a_name_that_is_used_twice_is_named() {
    let accounts = Cqrs::builder(Memory::default()).aggregate::<Account>();
    let started = accounts.view::<Statement>().view::<Copied>().start().await;
    let error = started.err().expect("two views have one name").to_string();
    assert!(error.ends_with(r#"projection name "statement" is used twice"#), "{error}");
}
