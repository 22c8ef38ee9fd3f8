//! A service with an aggregate or a view twice.

use cqrs_core::{Cqrs, memory::Memory};
use cqrs_tests::domain::{Account, Statement};

#[tokio::test]
async fn a_type_that_is_added_twice_is_named_once() {
    let accounts = Cqrs::builder(Memory::default()).aggregate::<Account>().aggregate::<Account>();
    let started = accounts.view::<Statement>().view::<Statement>().start().await;
    let error = started.err().expect("an aggregate is there twice").to_string();
    let expected = "`Account` is added twice, call `.aggregate::<Account>()` once; \
                    `Statement` is added twice, call `.view::<Statement>()` once";
    assert!(error.ends_with(expected), "{error}");
}
