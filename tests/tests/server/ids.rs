//! Ids of any characters on a real server: no id reaches another aggregate, and none harms the connection.

use std::collections::HashSet;

use cqrs_core::{Cqrs, model::MAX_ID_BYTES};
use cqrs_tests::{
    TestContext,
    domain::{Account, Open, RichAccounts, Statement, statement},
};

/// Ids with token separators, wildcards or line ends, and ids that differ only in their spelling.
fn hostile() -> HashSet<String> {
    let parts = [
        ".", "*", ">", "=", "=2E", "=2e", " ", "\r\n", "\0", "$", "a", "A", "é", "e\u{301}", "日", "😀", "/",
        "%",
    ];
    let pairs = parts.iter().flat_map(|one| parts.iter().map(move |other| format!("{one}{other}")));
    let longest = ["😀", "*", "a"].map(|part| part.repeat(MAX_ID_BYTES / part.len()));
    let nested = ["PUB x 0\r\n\r\n", "\r\nNATS/1.0", "_INBOX.>", "$JS.API.STREAM.PURGE.X", "event.account.*"];
    let single = parts.iter().map(ToString::to_string);
    single.chain(pairs).chain(longest).chain(nested.map(str::to_owned)).chain([String::new()]).collect()
}

#[tokio::test]
async fn no_id_reaches_another_one_or_harms_the_connection() {
    let context = TestContext::new("ids").await;
    let builder = Cqrs::builder(context.backend().await).aggregate::<Account>().view::<Statement>();
    let bank = builder.start().await.unwrap();
    let ids = hostile();
    let mut last = None;
    for (id, amount) in ids.iter().zip(1..) {
        let opened = bank.execute(Open { account: id.clone(), owner: id.clone(), amount }).await;
        last = Some(opened.unwrap_or_else(|error| panic!("{id:?}: {error}")));
    }
    let rich = bank.query(RichAccounts { at_least: 1 }).after(&last.unwrap()).await.unwrap();
    assert_eq!(rich.into_iter().collect::<HashSet<_>>(), ids, "each has its own document");
    for (id, balance) in ids.iter().zip(1..) {
        let seen = bank.query(statement(id.clone())).await.unwrap();
        assert_eq!(seen, Some(Statement { balance, versions: vec![1, 2] }), "{id:?}");
    }
    bank.stop().await;
}
