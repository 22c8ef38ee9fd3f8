//! Events and views in SQLite, and views in Postgres: the adapters for `cqrs-core`.
//!
//! [`SqliteBackend`] keeps a whole bounded context in one file, without a server: [`embedded`] says what it is for, what
//! it promises, and its limits. The rest of this page is about views, which go with events in any store.
//!
//! The documents of views, their notes and the checkpoint are written in one transaction, which first compares the
//! checkpoint (compare-and-set): each event takes effect once, also after crashes and redelivery. [`SqliteViews`] needs
//! no server, [`PostgresViews`] is for several machines; with either, a service is built on a pair of stores:
//!
//! ```
//! # use cqrs_core::{
//! #     Aggregate, Apply, Command, Envelope, Event, Handle, Handled, Project, View, memory::MemoryEvents,
//! # };
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
//! # #[event(prefix = "order")]
//! # enum OrderEvent { Created { country: String } }
//! # #[derive(Debug, thiserror::Error)]
//! # enum OrderRejection {}
//! # #[derive(Default, Clone, Aggregate)]
//! # #[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
//! # struct Order;
//! # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
//! # #[derive(Command, Serialize, Deserialize)]
//! # #[command(aggregate = Order, create)]
//! # struct Create { #[command(id)] order: u32, country: String }
//! # impl Handle<Create> for Order {
//! #     fn handle(&self, command: &Create, _: &cqrs_core::Context) -> Handled<Order> {
//! #         Ok(vec![OrderEvent::Created { country: command.country.clone() }].into())
//! #     }
//! # }
//! # #[derive(Debug, Default, Serialize, Deserialize)]
//! # struct CountryOrders { orders: u64 }
//! # impl View for CountryOrders { const NAME: &'static str = "country-orders"; type Of = Order; }
//! # impl Project<OrderEvent> for CountryOrders {
//! #     fn key(event: &Envelope<OrderEvent>) -> Option<String> {
//! #         let OrderEvent::Created { country } = &event.data;
//! #         Some(country.clone())
//! #     }
//! #     fn project(&mut self, _: &Envelope<OrderEvent>) { self.orders += 1; }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cqrs_core::{Cqrs, port::ViewStore};
//! use cqrs_sql::{SqliteViews, sqlx};
//!
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("views.db");
//! # let events = MemoryEvents::default(); // or `Nats::connect(…).await?.context("orders").await?.events`
//! let views = SqliteViews::open(&file, "orders").await?; // or `PostgresViews::connect(url, "orders")`
//! let cqrs = Cqrs::builder((events, views.clone()))
//!     .aggregate::<Order>()
//!     .view::<CountryOrders>()
//!     .start()
//!     .await?;
//! let receipt = cqrs.execute(Create { order: 1, country: "NO".into() }).await?;
//!
//! // Documents are JSON, and the database can look into them:
//! let projection = CountryOrders::projection();
//! views.reached(&projection, receipt.position.sequence).await?;
//! let sql = format!("SELECT sum(document ->> 'orders') FROM {}", views.table(&projection));
//! let orders: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(views.pool()).await?;
//! assert_eq!(orders, 1);
//! # cqrs.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Views that are not documents have tables of their own, which they change with SQL and answer queries from:
//! [`SqlView`]. They need not be views: [`effectively_once`] explains how any row in a database follows from each event exactly once.
//!
//! # What is stored
//!
//! Each bounded context has a name: in Postgres a schema, in SQLite the prefix of its tables' names
//! (`"orders"."country-orders-v1"`, `"orders.country-orders-v1"`). It contains
//!
//! | table | columns |
//! |---|---|
//! | `<view>-v<version>`, then `…-b<build>` | `key`, `document`, `revision`: the documents of one build of a view |
//! | `<view>-v<version>.<table>` | a table of an [`SqlView`]; `<view>-v<version>.<table>.<name>` is an index of it |
//! | `projections` | `projection`, `checkpoint`, `revision`: how far each is |
//! | `notes` | `projection`, `key`, `content`: what projectors note |
//! | `about` | `view`, `content`, `revision`: what is noted about views as a whole |
//! | `layout` | `version`: which tables there are |
//!
//! Documents are text, and stay byte for byte as they are. Postgres would sort the fields of a `jsonb` and drop its
//! spaces; use `document::jsonb` if a query or an index needs one. Revisions count the saves of a view and never
//! repeat, not even when it is removed and rebuilt.
//!
//! # Rows as types
//!
//! Tuples are rows: `sqlx::query_as::<_, (String, i64)>(…)`. `#[derive(sqlx::FromRow)]` needs sqlx in the Cargo.toml of
//! the program that derives it, in the version of [`sqlx`] here, because the derive's output names the crate `sqlx`:
//! `sqlx = { version = "0.9", default-features = false, features = ["derive"] }`.
//!
//! # In tests
//!
//! - **No paused time.** `#[tokio::test(start_paused = true)]` is for stores in memory only. A database answers from
//!   threads and sockets that tokio does not see: it takes the time to be idle, advances it, and timeouts elapse at once.
//!   The same holds for NATS. Rules about time are tested with a `ManualClock` (`cqrs_core::testing`) on any store.
//! - **Events in memory need views in memory.** The next start has a new, empty log, and views in a file are of the log
//!   before it: they halt with `StoreError::ForeignLog`. Take `SqliteViews::in_memory`, a new file, or a context name of
//!   its own for each start.
//!
//! # Features
//!
//! `sqlite` and `postgres`, both by default; one of them is enough. SQLite is compiled into the program, which takes a C
//! compiler. `postgres` includes TLS.

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!("cqrs-sql needs the feature `sqlite` or the feature `postgres`");

#[cfg(feature = "sqlite")]
#[doc = include_str!("../docs/once.md")]
pub mod effectively_once {}

#[cfg(feature = "sqlite")]
#[doc = include_str!("../docs/embedded.md")]
pub mod embedded {}

#[cfg(feature = "sqlite")]
mod backend;
mod dialect;
mod errors;
#[cfg(feature = "sqlite")]
mod events;
#[cfg(feature = "sqlite")]
mod folder;
mod layout;
mod names;
#[cfg(feature = "sqlite")]
mod open_file;
#[cfg(feature = "postgres")]
mod postgres;
mod projection;
mod reached;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
mod transaction;
mod view;
mod views;

#[cfg(feature = "sqlite")]
pub use backend::SqliteBackend;
pub use errors::SqlError;
#[cfg(feature = "sqlite")]
pub use events::{SqliteDueQueue, SqliteEvents, SqliteNotices, SqliteSubscription};
#[cfg(feature = "postgres")]
pub use postgres::PostgresViews;
#[cfg(feature = "postgres")]
pub use projection::InPostgres;
#[cfg(feature = "sqlite")]
pub use projection::InSqlite;
pub use projection::SqlProjection;
pub use rows::Rows;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteViews;
/// The client, in the version that this crate uses.
pub use sqlx;
pub use view::{SqlProject, SqlSources, SqlView, Tables};
pub use views::{Sql, SqlViews};
