//! The traits of views in their own tables.

use std::{borrow::Cow, future::Future, sync::Arc};

use cqrs_core::{
    Envelope, Event, OnFailure, Retry, StoreError,
    log::Recorded,
    model::EventSource,
    port::{BoxFuture, ProjectionId},
};
use sqlx::{AssertSqlSafe, Database, SqlSafeStr as _, SqlStr};

use crate::{Sql, names::is_name};

/// A read model in its own tables: rows instead of documents, changed with SQL.
///
/// The rows and the checkpoint are written in one transaction, so that each event takes effect once. Each build of each
/// version has its own tables, so that it can be rebuilt beside the active build. So statements name a table in braces,
/// and [`Tables::sql`] replaces it by its name in the database. Other names in the database, such as that of an index,
/// must be made in the same way: a fixed name would exist already when a second build is created. Write `{table.name}`
/// for a name that belongs to the table of this build.
///
/// A service gets it by [`Builder::read_model`](cqrs_core::Builder::read_model). Its queries are typed, as those of a view
/// of documents, and name it with its database: [`InSqlite`](crate::InSqlite) or [`InPostgres`](crate::InPostgres).
///
/// ```
/// use cqrs_core::{Answer, Cqrs, Envelope, Error, Query, memory::MemoryEvents};
/// use cqrs_sql::{
///     InSqlite, Rows, SqlProject, SqlView, SqliteViews, Tables,
///     sqlx::{self, Sqlite, SqliteConnection},
/// };
/// # use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
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
/// # #[derive(Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order, create)]
/// # struct CreateOrder { #[command(id)] order: u32, country: String }
/// # impl Handle<CreateOrder> for Order {
/// #     fn handle(&self, command: &CreateOrder, _: &Context) -> Handled<Self> {
/// #         Ok(OrderEvent::Created { country: command.country.clone() }.into())
/// #     }
/// # }
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
///         sqlx::query(tables.sql(create)).execute(&mut *connection).await?;
///         let index = "CREATE INDEX {orders.by_country} ON {orders} (country)";
///         sqlx::query(tables.sql(index)).execute(connection).await?;
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
/// /// How many orders of a country are not shipped yet.
/// #[derive(Query)]
/// #[query(view = InSqlite<OrderRows>, answer = i64)]
/// struct OpenOrders {
///     country: String,
/// }
///
/// impl Answer<OpenOrders> for InSqlite<OrderRows> {
///     async fn answer(query: OpenOrders, rows: &Rows<Sqlite>) -> Result<i64, Error> {
///         let open = "SELECT count(*) FROM {orders} WHERE country = $1 AND shipped = 0";
///         rows.read(|| sqlx::query_scalar(rows.sql(open)).bind(&query.country).fetch_one(rows.pool())).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let views = SqliteViews::in_memory("orders").await?;
/// let cqrs = Cqrs::builder((MemoryEvents::default(), views.clone()))
///     .aggregate::<Order>()
///     .read_model(views.projection(OrderRows))
///     .start()
///     .await?;
///
/// let receipt = cqrs.execute(CreateOrder { order: 7, country: "NO".into() }).await?;
/// let open = cqrs.query(OpenOrders { country: "NO".into() }).after(&receipt).await?;
/// assert_eq!(open, 1);
/// # cqrs.stop().await;
/// # Ok(())
/// # }
/// ```
pub trait SqlView<DB: Sql>: Sized + Send + Sync + 'static {
    /// The stored name, such as `order-rows`: `a-z`, `0-9`, `_` and `-`.
    const NAME: &'static str;

    /// The version of the rules and of the tables' shape. A new version is built from the first event, in its own
    /// tables.
    const VERSION: u32 = 1;

    /// The names of its tables: `a-z`, `0-9`, `_` and `-`. In the database each also has the name, version and build of
    /// the view.
    const TABLES: &'static [&'static str];

    /// What happens with an event that cannot be applied.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long the view waits for a failure that may pass, before it does that: an outage may end, or a program that
    /// knows the event may start.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the view skips without reading them, in all versions,
    /// also if this program does not know them. Name events that a newer program may record and that the view will
    /// never need.
    const IGNORED: &'static [&'static str] = &[];

    /// The aggregates (or any [`EventSource`]) whose events the view is built from: `(Order, Stock)`, or `(Order,)`.
    type Of: SqlSources<Self, DB>;

    /// Creates the tables, none of which exists, and what belongs to them, such as indexes. Every name must come from
    /// [`Tables::sql`], because the same is created for another build.
    ///
    /// # Errors
    ///
    /// The database's. Then nothing is created.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, its transaction is rolled back.
    fn create(
        &self,
        tables: &Tables,
        connection: &mut DB::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// The first build of this name and version.
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
    /// Changes the rows by the event, on a connection with a transaction that also saves the checkpoint. No clock, no
    /// randomness, no effects outside of the transaction: the same event may be tried again after a failure.
    ///
    /// # Errors
    ///
    /// Return every error of a statement: in Postgres, it ends the transaction. For an event that cannot be applied,
    /// return [`sqlx::Error::InvalidArgument`]. [`SqlView::ON_FAILURE`] decides what then happens with the event.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the transaction is rolled back.
    fn project(
        &self,
        event: &Envelope<E>,
        tables: &Tables,
        connection: &mut DB::Connection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// The tables of one build of a view, by their names in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    names: Vec<(&'static str, String)>,
    /// The prefix of all other names that belong to this build, and their longest length.
    build: String,
    longest: usize,
}

impl Tables {
    pub(crate) fn new(
        names: impl Iterator<Item = (&'static str, String)>,
        build: String,
        longest: usize,
    ) -> Self {
        Self { names: names.collect(), build, longest }
    }

    /// A statement in which each `{table}` is replaced by the table's name, quoted, and each `{table.name}` by a name
    /// that belongs to the table, for an index, a trigger or a constraint. Other braces stay.
    pub fn sql(&self, statement: &'static str) -> SqlStr {
        let mut sql = String::with_capacity(statement.len() + 64);
        let mut rest = statement;
        while let Some((before, after)) = rest.split_once('{') {
            sql.push_str(before);
            let known =
                after.split_once('}').and_then(|(inner, after)| Some((self.filled_in(inner)?, after)));
            rest = if let Some((name, after)) = known {
                sql.push_str(&name);
                after
            } else {
                sql.push('{');
                after
            };
        }
        sql.push_str(rest);
        // The text is the program's own, and no name can end the quotes around it.
        AssertSqlSafe(sql).into_sql_str()
    }

    /// The name of a table in the database, quoted; `None` if the view has no such table.
    pub fn name(&self, table: &str) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == table).map(|(_, name)| name.as_str())
    }

    /// The replacement of the text between two braces.
    fn filled_in(&self, inner: &str) -> Option<Cow<'_, str>> {
        let Some((table, name)) = inner.split_once('.') else { return self.name(inner).map(Cow::Borrowed) };
        (self.name(table).is_some() && is_name(name)).then(|| Cow::Owned(self.own_name(inner)))
    }

    /// A name of this build, quoted. A database would truncate a name that is too long, and two names could become
    /// equal.
    fn own_name(&self, name: &str) -> String {
        let mut own = format!("{}.{name}", self.build);
        if own.len() > self.longest {
            let hash = format!(".{:016x}", fnv(own.as_bytes()));
            own.truncate(self.longest - hash.len());
            own.push_str(&hash);
        }
        format!("\"{own}\"")
    }
}

/// FNV-1a, which is the same in every program.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The change of the tables by one event.
pub(crate) type SqlStep<DB> = Box<
    dyn for<'a> FnOnce(
            &'a Tables,
            &'a mut <DB as Database>::Connection,
        ) -> BoxFuture<'a, Result<(), sqlx::Error>>
        + Send,
>;

/// The aggregates that a view in tables is built from: a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of aggregates that `{V}` projects",
    note = "it is a tuple also of one: `type Of = (Order,);`, and each takes an `impl SqlProject<OrderEvent, {DB}> for {V}`"
)]
pub trait SqlSources<V, DB: Sql>: 'static {
    /// The stored names of the aggregates.
    fn names() -> Vec<&'static str>;

    /// The view's change by an event; `None` for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn step(view: &Arc<V>, event: &Recorded<'_>) -> Result<Option<SqlStep<DB>>, StoreError>;
}

/// The change of the tables by an event of the aggregate.
fn step<A, V, DB>(view: &Arc<V>, event: &Recorded<'_>) -> Result<Option<SqlStep<DB>>, StoreError>
where
    DB: Sql,
    A: EventSource,
    V: SqlProject<A::Event, DB> + Send + Sync + 'static,
{
    let (view, event) = (Arc::clone(view), event.decode::<A::Event>()?);
    Ok(Some(Box::new(move |tables, connection| {
        Box::pin(async move { view.project(&event, tables, connection).await })
    })))
}

cqrs_core::sources! { impl SqlSources<V, DB: Sql> where each: SqlProject, fn step(view: &Arc<V>) -> SqlStep<DB> = step }

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use super::*;

    fn tables(build: &str) -> Tables {
        let names = [("orders", format!(r#""shop"."{build}.orders""#))];
        Tables::new(names.into_iter(), build.to_owned(), 63)
    }

    #[test]
    fn statements_get_the_names_of_tables_and_keep_other_braces() {
        let tables = tables("rows-v1");
        let sql = tables
            .sql("INSERT INTO {orders} VALUES ('{}', '{1}', '{other}', '{{orders}}'); DELETE FROM {orders}{");
        assert_eq!(
            sql.as_str(),
            r#"INSERT INTO "shop"."rows-v1.orders" VALUES ('{}', '{1}', '{other}', '{"shop"."rows-v1.orders"}'); DELETE FROM "shop"."rows-v1.orders"{"#
        );
        assert_eq!(tables.name("orders"), Some(r#""shop"."rows-v1.orders""#));
        assert_eq!(tables.name("other"), None);
    }

    #[test]
    fn what_belongs_to_a_table_has_a_name_of_its_own_in_each_build() {
        let index =
            "CREATE INDEX {orders.by_country} ON {orders} (country, '{other.by_country}', '{orders.\"}')";
        assert_eq!(
            tables("rows-v1-b2").sql(index).as_str(),
            r#"CREATE INDEX "rows-v1-b2.orders.by_country" ON "shop"."rows-v1-b2.orders" (country, '{other.by_country}', '{orders."}')"#
        );
        let long = "{orders.an-index-with-a-name-that-is-by-far-too-long-for-the-database}";
        let [one, other] = ["rows-v1", "rows-v1-b2"].map(|build| tables(build).sql(long).as_str().to_owned());
        assert_ne!(one, other);
        assert_eq!((one.len(), other.len()), (65, 65), "63 and the quotes");
    }
}
