//! The view store of the service: one of four, chosen when it starts.
//!
//! A service takes a store of any type. This one keeps the choice as an enum, because views in tables exist only in a
//! database, and because it prints the place of its views.

#[cfg(feature = "postgres")]
use std::env;
use std::path::Path;

use anyhow::{Result, bail};
use cqrs_core::{
    Builder, StoreError,
    memory::MemoryViews,
    port::{AnyViews, ProjectionId, ViewStore as _},
};
use cqrs_nats::KvViews;
#[cfg(feature = "postgres")]
use cqrs_sql::PostgresViews;
use cqrs_sql::{SqlView, SqliteViews, sqlx::Sqlite};
use order_service::{
    OrderService,
    views::{MonthSales, SalesByMonth, SalesOfYear as _},
};

use crate::folder;

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
pub(crate) enum Views {
    Kv(Box<KvViews>),
    Memory(MemoryViews),
    Sqlite(SqliteViews),
    #[cfg(feature = "postgres")]
    Postgres(PostgresViews),
}

impl Views {
    /// Opens SQLite. Without a file the views are in `folder`, or in memory if there is no folder.
    pub(crate) async fn sqlite(file: Option<&str>, folder: Option<&Path>, context: &str) -> Result<Self> {
        let file = match (file, folder) {
            (Some(":memory:"), _) | (None, None) => {
                return Ok(Self::Sqlite(SqliteViews::in_memory(context).await?));
            }
            (Some(file), _) => file.into(),
            (None, Some(folder)) => {
                folder::make(folder)?;
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

    /// The chosen store, for a service.
    pub(crate) fn store(&self) -> AnyViews {
        match self {
            Self::Kv(views) => AnyViews::new(KvViews::clone(views)),
            Self::Memory(views) => AnyViews::new(views.clone()),
            Self::Sqlite(views) => AnyViews::new(views.clone()),
            #[cfg(feature = "postgres")]
            Self::Postgres(views) => AnyViews::new(views.clone()),
        }
    }

    /// Removes the views of a log that does not exist any more.
    pub(crate) async fn begin_anew(&self) -> Result<(), StoreError> {
        let store = self.store();
        for id in order_service::projections().into_iter().chain([by_month()]) {
            store.remove(&id).await?;
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
