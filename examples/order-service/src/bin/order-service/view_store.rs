//! The view store of the service: one of four, chosen when it starts.
//!
//! The ports are not `dyn`-compatible, so a choice at run time is an enum whose calls go to the chosen store. A service
//! with one kind of store does not need this.

#[cfg(feature = "postgres")]
use std::env;
use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use cqrs_core::{
    Builder, StoreError,
    memory::MemoryViews,
    port::{ProjectionId, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore},
};
use cqrs_nats::KvViews;
#[cfg(feature = "postgres")]
use cqrs_sql::PostgresViews;
use cqrs_sql::{SqlView, SqliteViews, sqlx::Sqlite};
use order_service::{
    OrderService,
    views::{MonthSales, SalesByMonth, SalesOfYear as _},
};

/// The default file of SQLite.
const FILE: &str = "views.db";

/// The store that was chosen with `--views`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Kv,
    Memory,
    /// In this file, or in the default file.
    Sqlite(Option<String>),
    /// At this address, or at that of `DATABASE_URL`.
    Postgres(Option<String>),
}

impl Choice {
    /// Parses the value of `--views`. It may contain a password, so an error does not repeat it.
    pub(crate) fn read(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "kv" => Ok(Self::Kv),
            None if text == "memory" => Ok(Self::Memory),
            None if text == "sqlite" => Ok(Self::Sqlite(None)),
            None if text == "postgres" => Ok(Self::Postgres(None)),
            Some(("sqlite", file)) if !file.is_empty() => Ok(Self::Sqlite(Some(file.to_owned()))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(Some(text.to_owned())))
            }
            Some(("postgres", url)) if url.starts_with("postgres") => {
                Ok(Self::Postgres(Some(url.to_owned())))
            }
            _ => bail!(
                "--views takes kv, memory, sqlite, sqlite:FILE, postgres (at DATABASE_URL) or a URL that begins \
                 with postgres://"
            ),
        }
    }
}

/// The store that was chosen.
#[derive(Debug, Clone)]
pub(crate) enum AnyViews {
    Kv(Box<KvViews>),
    Memory(MemoryViews),
    Sqlite(SqliteViews),
    #[cfg(feature = "postgres")]
    Postgres(PostgresViews),
}

impl AnyViews {
    /// Opens SQLite. Without a file the views are in `folder`, or in memory if there is no folder.
    pub(crate) async fn sqlite(file: Option<&str>, folder: Option<&Path>, context: &str) -> Result<Self> {
        let file = match (file, folder) {
            (Some(":memory:"), _) | (None, None) => {
                return Ok(Self::Sqlite(SqliteViews::in_memory(context).await?));
            }
            (Some(file), _) => file.into(),
            (None, Some(folder)) => {
                let failed = || format!("cannot make the folder {}", folder.display());
                fs::create_dir_all(folder).with_context(failed)?;
                folder.join(FILE)
            }
        };
        Ok(Self::Sqlite(SqliteViews::open(file, context).await?))
    }

    /// Says how to get a program that knows Postgres.
    #[cfg(not(feature = "postgres"))]
    #[expect(clippy::unused_async, reason = "with the feature it connects")]
    pub(crate) async fn postgres(_: Option<&str>, _: &str) -> Result<Self> {
        bail!(
            "this program was built without Postgres: build it with the feature `postgres`, as in `cargo run -p \
             order-service --features postgres -- --views postgres`"
        )
    }

    /// Connects to Postgres, at `DATABASE_URL` unless a URL is given.
    #[cfg(feature = "postgres")]
    pub(crate) async fn postgres(url: Option<&str>, context: &str) -> Result<Self> {
        let variable = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        let Some(url) = url.or(variable.as_deref()) else {
            bail!(
                "--views postgres needs DATABASE_URL, or the URL itself: --views postgres://user@host/database"
            )
        };
        Ok(Self::Postgres(PostgresViews::connect(url, context).await?))
    }

    /// A description of the place, without secrets.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Kv(_) => "in key-value buckets beside the events".to_owned(),
            Self::Memory(_) => "in memory, built from the log each time".to_owned(),
            Self::Sqlite(views) if views.address() == "memory" => {
                "in SQLite in memory, built from the log each time".to_owned()
            }
            Self::Sqlite(views) => format!("in SQLite, file {}", views.address()),
            #[cfg(feature = "postgres")]
            Self::Postgres(views) => format!("in Postgres, {}", views.address()),
        }
    }

    /// Removes the views of a log that does not exist any more.
    pub(crate) async fn begin_anew(&self) -> Result<(), StoreError> {
        for id in order_service::projections().into_iter().chain([by_month()]) {
            self.remove(&id).await?;
        }
        Ok(())
    }

    /// Adds the view in its own tables, if the store has tables.
    pub(crate) fn add_tables<A, V>(&self, builder: Builder<A, V>) -> Builder<A, V> {
        match self {
            Self::Kv(_) | Self::Memory(_) => builder,
            Self::Sqlite(views) => builder.projection(by_month(), views.projection(SalesByMonth)),
            #[cfg(feature = "postgres")]
            Self::Postgres(views) => builder.projection(by_month(), views.projection(SalesByMonth)),
        }
    }

    /// The sales of a year by month and country; `None` if the store has no tables.
    pub(crate) async fn sales_of_year(
        &self,
        service: &OrderService,
        year: Option<i16>,
    ) -> Result<Option<Vec<MonthSales>>> {
        let build =
            async || anyhow::Ok(service.active_build(by_month().name).await?.unwrap_or_else(by_month));
        Ok(match self {
            Self::Kv(_) | Self::Memory(_) => None,
            Self::Sqlite(views) => Some(views.sales_of_year(&build().await?, year).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres(views) => Some(views.sales_of_year(&build().await?, year).await?),
        })
    }
}

/// The view in its own tables, under the same name in either database.
fn by_month() -> ProjectionId {
    <SalesByMonth as SqlView<Sqlite>>::id()
}

/// The same call on the chosen store.
macro_rules! each {
    ($any:expr, $views:ident => $call:expr) => {
        match $any {
            Self::Kv($views) => $call,
            Self::Memory($views) => $call,
            Self::Sqlite($views) => $call,
            #[cfg(feature = "postgres")]
            Self::Postgres($views) => $call,
        }
    };
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl ViewStore for AnyViews {
    async fn open(&self, id: &ProjectionId) -> Result<(), StoreError> {
        each!(self, views => views.open(id).await)
    }

    async fn checkpoint(&self, id: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        each!(self, views => views.checkpoint(id).await)
    }

    async fn load(&self, id: &ProjectionId, keys: &[String]) -> Result<Vec<SavedDocument>, StoreError> {
        each!(self, views => views.load(id, keys).await)
    }

    async fn notes(&self, id: &ProjectionId, prefix: &str) -> Result<Vec<(String, Bytes)>, StoreError> {
        each!(self, views => views.notes(id, prefix).await)
    }

    async fn save(&self, id: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        each!(self, views => views.save(id, save).await)
    }

    fn max_writes(&self) -> usize {
        each!(self, views => views.max_writes())
    }

    fn name(&self) -> Option<String> {
        each!(self, views => views.name())
    }

    async fn get(&self, id: &ProjectionId, key: &str) -> Result<Option<Bytes>, StoreError> {
        each!(self, views => views.get(id, key).await)
    }

    async fn list(&self, id: &ProjectionId) -> Result<Vec<(String, Bytes)>, StoreError> {
        each!(self, views => views.list(id).await)
    }

    async fn page(
        &self,
        id: &ProjectionId,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        each!(self, views => views.page(id, after, max).await)
    }

    async fn reached(&self, id: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        each!(self, views => views.reached(id, sequence).await)
    }

    async fn remove(&self, id: &ProjectionId) -> Result<(), StoreError> {
        each!(self, views => views.remove(id).await)
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        each!(self, views => views.about(view).await)
    }

    async fn set_about(&self, view: &str, content: Bytes, revision: u64) -> Result<u64, SaveError> {
        each!(self, views => views.set_about(view, content, revision).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_store_has_a_name_and_a_database_an_address() {
        let some = |text: &str| Some(text.to_owned());
        for (text, expected) in [
            ("kv", Choice::Kv),
            ("memory", Choice::Memory),
            ("sqlite", Choice::Sqlite(None)),
            ("sqlite:a/b.db", Choice::Sqlite(some("a/b.db"))),
            ("postgres", Choice::Postgres(None)),
            ("postgres://anna@host/db", Choice::Postgres(some("postgres://anna@host/db"))),
            ("postgresql://host/db", Choice::Postgres(some("postgresql://host/db"))),
            ("postgres:postgres://host/db", Choice::Postgres(some("postgres://host/db"))),
        ] {
            assert_eq!(Choice::read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_store_is_not_said_again() {
        for text in ["", "redis", "mysql://anna:s3cret@host/db", "sqlite:", "postgres:s3cret@host"] {
            let refusal = Choice::read(text).unwrap_err().to_string();
            assert!(refusal.contains("postgres://") && !refusal.contains("s3cret"), "{refusal}");
        }
    }
}
