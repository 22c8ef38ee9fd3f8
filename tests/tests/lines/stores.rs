//! A service's stores of each kind, all in the thread of their test, whose lines are collected.

use std::any::Any;

use cqrs_core::{
    Backend,
    memory::Memory,
    port::{AnyEvents, AnyViews},
};
use cqrs_sql::SqliteBackend;
use cqrs_tests::TestContext;

/// A backend with its name, and what it needs until the end of the test.
pub(crate) struct Stores {
    pub(crate) name: &'static str,
    pub(crate) backend: (AnyEvents, AnyViews),
    _needed: Box<dyn Any>,
}

impl Stores {
    fn new(name: &'static str, backend: impl Backend, needed: impl Any) -> Self {
        let (events, views) = backend.split();
        let backend = (AnyEvents::new(events), AnyViews::new(views));
        Self { name, backend, _needed: Box::new(needed) }
    }

    /// In memory, in an SQLite file, on NATS.
    pub(crate) async fn all() -> [Self; 3] {
        let folder = tempfile::tempdir().unwrap();
        let file = SqliteBackend::open(folder.path().join("bank.db"), "bank").await.unwrap();
        let context = TestContext::new("lines").await;
        let nats = context.backend().await;
        [
            Self::new("memory", Memory::default(), ()),
            Self::new("sqlite", file, folder),
            Self::new("nats", nats, context),
        ]
    }
}
