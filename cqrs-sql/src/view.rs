//! Views in tables of one's own: what users write.

use std::future::Future;

use cqrs_core::{Aggregate, Envelope, Event, OnFailure, ProjectionId, Recorded, StoreError};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tracing::Instrument as _;

use crate::Sql;

/// A read model in tables of its own: rows instead of documents, changed with SQL.
///
/// The rows and the checkpoint are written in one transaction, so that each event takes effect once. Each build
/// of each version has tables of its own, so that it can be built anew beside the one that answers; therefore
/// statements name a table in braces, and [`Tables::sql`] fills in what it is called.
///
/// ```
/// use cqrs_core::{Envelope, ProjectionId};
/// use cqrs_sql::{
///     SqlProject, SqlView, SqliteViews, Tables,
///     sqlx::{self, Sqlite, SqliteConnection},
/// };
/// # use cqrs_core::{Aggregate, Apply, Event};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Created { country: String }, Shipped }
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
///
/// struct OrderRows;
///
/// impl SqlView<Sqlite> for OrderRows {
///     const NAME: &'static str = "order-rows";
///     const TABLES: &'static [&'static str] = &["orders"];
///     type Of = (Order,);
///
///     async fn create(&self, tables: &Tables, connection: &mut SqliteConnection) -> sqlx::Result<()> {
///         let create = "CREATE TABLE {orders} (id TEXT PRIMARY KEY, country TEXT NOT NULL, shipped INT NOT NULL)";
///         sqlx::query(tables.sql(create)).execute(connection).await?;
///         Ok(())
///     }
/// }
///
/// impl SqlProject<OrderEvent, Sqlite> for OrderRows {
///     async fn project(
///         &self,
///         event: &Envelope<OrderEvent>,
///         tables: &Tables,
///         connection: &mut SqliteConnection,
///     ) -> sqlx::Result<()> {
///         let query = match &event.data {
///             OrderEvent::Created { country } => {
///                 sqlx::query(tables.sql("INSERT INTO {orders} VALUES ($1, $2, 0)")).bind(event.subject()).bind(country)
///             }
///             OrderEvent::Shipped => {
///                 sqlx::query(tables.sql("UPDATE {orders} SET shipped = 1 WHERE id = $1")).bind(event.subject())
///             }
///         };
///         query.execute(connection).await?;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let views = SqliteViews::in_memory("orders").await?;
/// let projection = views.projection(OrderRows); // for the service to run
/// # use cqrs_core::Projection;
/// # projection.open(&ProjectionId::new("order-rows", 1)).await?;
///
/// // Queries are your own, on connections that only read:
/// let tables = views.tables::<OrderRows>(&ProjectionId::new("order-rows", 1));
/// let shipped: i64 = sqlx::query_scalar(tables.sql("SELECT count(*) FROM {orders} WHERE shipped = 1"))
///     .fetch_one(views.pool())
///     .await?;
/// # assert_eq!(shipped, 0);
/// # Ok(())
/// # }
/// ```
pub trait SqlView<DB: Sql>: Sized + Send + Sync + 'static {
    /// The stored name, such as `order-rows`: `a-z`, `0-9`, `_` and `-`.
    const NAME: &'static str;

    /// The version of the rules and of the tables' shape. A new version is built from the beginning, in tables
    /// of its own.
    const VERSION: u32 = 1;

    /// The names of its tables: `a-z`, `0-9`, `_` and `-`. In the database each also bears the name, version and
    /// build of the view.
    const TABLES: &'static [&'static str];

    /// What to do with an event that cannot be applied.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// The stored names of events, such as `order.noted`, that the view passes over without reading them, in
    /// all versions, also when this program does not know them. Name what a newer program may record and the view is
    /// certain not to need.
    const IGNORED: &'static [&'static str] = &[];

    /// The aggregates whose events the view is built from: `(Order, Stock)`, or `(Order,)`.
    type Of: SqlSources<Self, DB>;

    /// Creates the tables, none of which is there, and what belongs to them, such as indexes.
    ///
    /// # Errors
    ///
    /// The database's. Nothing is created then.
    ///
    /// # Cancel safety
    ///
    /// It runs in a transaction that is rolled back.
    fn create(
        &self,
        tables: &Tables,
        connection: &mut DB::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The name and version together.
    fn id() -> ProjectionId {
        ProjectionId::new(Self::NAME, Self::VERSION)
    }
}

/// How events of type `E` change the tables of a view.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not project `{E}` into a database of type `{DB}`",
    label = "this view's rows do not follow from its aggregates' events yet",
    note = "add `impl SqlProject<{E}, {DB}> for {Self}` with `fn project`, or take the aggregate out of `SqlView::Of`"
)]
pub trait SqlProject<E: Event, DB: Sql> {
    /// Changes the rows by what happened, on a connection with a transaction in which the checkpoint is saved as
    /// well. No clock, no randomness, nothing outside of the transaction: the same event may be tried again
    /// after a failure.
    ///
    /// # Errors
    ///
    /// Return every error of a statement: in Postgres, the transaction is over with it. An error of your own,
    /// for an event that cannot be applied, is [`sqlx::Error::InvalidArgument`]. What happens to the event then,
    /// [`SqlView::ON_FAILURE`] says.
    ///
    /// # Cancel safety
    ///
    /// The transaction is rolled back.
    fn project(
        &self,
        event: &Envelope<E>,
        tables: &Tables,
        connection: &mut DB::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// The tables of one build of a view, by the names that its code calls them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    names: Vec<(&'static str, String)>,
}

impl Tables {
    pub(crate) fn new(names: impl Iterator<Item = (&'static str, String)>) -> Self {
        Self { names: names.collect() }
    }

    /// A statement in which each `{table}` is replaced by what the table is called, quoted. Other braces stay as
    /// they are.
    pub fn sql(&self, statement: &'static str) -> SqlStr {
        let mut sql = statement.to_owned();
        for (table, name) in &self.names {
            sql = sql.replace(&format!("{{{table}}}"), name);
        }
        // The text is the program's own, and no name can end the quotes around it.
        AssertSqlSafe(sql).into_sql_str()
    }

    /// What a table is called, quoted; none if the view has no table of that name.
    pub fn name(&self, table: &str) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == table).map(|(_, name)| name.as_str())
    }
}

/// Why one event was not projected.
#[doc(hidden)]
#[derive(Debug)]
pub enum EventError {
    Undecodable(StoreError),
    Sql(sqlx::Error),
}

/// The aggregates that a view in tables is built from: a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of aggregates that `{V}` projects",
    note = "it is a tuple also of one: `type Of = (Order,);`, and each takes an `impl SqlProject<OrderEvent, {DB}> for {V}`"
)]
pub trait SqlSources<V, DB: Sql>: 'static {
    /// The stored names of the aggregates.
    fn names() -> Vec<&'static str>;

    /// Projects one event: nothing for those of other aggregates.
    #[doc(hidden)]
    fn project(
        view: &V,
        event: &Recorded<'_>,
        tables: &Tables,
        connection: &mut DB::Connection,
    ) -> impl Future<Output = Result<(), EventError>> + Send;
}

/// One event, if it is one of the aggregate's.
async fn project_of<A, V, DB>(
    view: &V,
    event: &Recorded<'_>,
    tables: &Tables,
    connection: &mut DB::Connection,
) -> Result<(), EventError>
where
    DB: Sql,
    A: Aggregate,
    V: SqlProject<A::Event, DB> + Sync,
{
    if event.aggregate() != A::NAME {
        return Ok(());
    }
    let event = event.decode::<A::Event>().map_err(EventError::Undecodable)?;
    let projecting = view.project(&event, tables, connection).instrument(span(&event));
    projecting.await.map_err(EventError::Sql)
}

/// The span in which an event is projected, with the ids that logs are searched by.
fn span<E: Event>(event: &Envelope<E>) -> tracing::Span {
    tracing::debug_span!(
        "event",
        event_id = %event.id,
        event_type = event.event_type.name,
        aggregate = event.aggregate.name(),
        id = event.aggregate.id(),
        version = event.version,
        sequence = event.position.sequence,
        command_id = %event.command_id,
        correlation_id = %event.correlation_id,
    )
}

macro_rules! sources_of_tuples {
    ($(($($aggregate:ident),+);)+) => {
        $(
            impl<V, DB, $($aggregate),+> SqlSources<V, DB> for ($($aggregate,)+)
            where
                DB: Sql,
                V: Sync,
                $($aggregate: Aggregate, V: SqlProject<$aggregate::Event, DB>,)+
            {
                fn names() -> Vec<&'static str> {
                    vec![$($aggregate::NAME),+]
                }

                async fn project(
                    view: &V,
                    event: &Recorded<'_>,
                    tables: &Tables,
                    connection: &mut DB::Connection,
                ) -> Result<(), EventError> {
                    $(project_of::<$aggregate, V, DB>(view, event, tables, connection).await?;)+
                    Ok(())
                }
            }
        )+
    };
}

sources_of_tuples! {
    (A);
    (A, B);
    (A, B, C);
    (A, B, C, D);
    (A, B, C, D, E);
    (A, B, C, D, E, F);
    (A, B, C, D, E, F, G);
    (A, B, C, D, E, F, G, H);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_get_the_names_of_tables_and_keep_other_braces() {
        let tables = Tables::new([("orders", r#""shop.v1.orders""#.to_owned())].into_iter());
        let sql = tables.sql("INSERT INTO {orders} VALUES ('{}', '{1}', '{other}'); DELETE FROM {orders}");
        assert_eq!(
            sql.as_str(),
            r#"INSERT INTO "shop.v1.orders" VALUES ('{}', '{1}', '{other}'); DELETE FROM "shop.v1.orders""#
        );
        assert_eq!(tables.name("orders"), Some(r#""shop.v1.orders""#));
        assert_eq!(tables.name("other"), None);
    }
}
