//! The differences between the databases, and how a statement is sent to either.

use std::future::Future;

use sqlx::{Database, Pool};

/// One row of an answer: every statement of this crate selects a key, a content and a number.
pub(crate) type Row = (String, Option<String>, i64);

/// A value bound to a statement.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

/// The differences between the supported databases.
pub trait Dialect: Database {
    /// Begins a transaction that writes.
    const BEGIN: &'static str;

    /// The separator of context and name within the quotes of a table's name.
    const DOT: &'static str;

    /// The longest name of a table, in bytes.
    const MAX_NAME: usize;

    /// The prefix of names that belong to a projection and are not those of tables, for places in which no schema may
    /// be named.
    fn own_names(context: &str, projection: &str) -> String;

    /// Selects the elements of the JSON array `$1` as rows with a column `value`; each element is an array.
    const EACH: &'static str;

    /// The type of columns that hold keys.
    const KEY: &'static str;

    /// Makes a unique id of 32 hexadecimal digits.
    const NEW_ID: &'static str;

    /// Lists the tables of the context `$1` whose names begin with `$2`.
    const TABLES: &'static str;

    /// Locks out other connections that create or drop tables at the same time.
    const EXCLUDE: Option<&'static str>;

    /// Creates the schema for the context's tables.
    fn create_place(context: &str) -> Option<String>;

    /// Notifies other processes that a save in the context `$1` happened; it is sent with the transaction.
    const NOTIFY: Option<&'static str>;

    /// Learns of saves of other processes.
    type News: Send + 'static;

    fn news(pool: Pool<Self>, context: &str) -> Self::News;

    /// Waits until a save may have happened since the last call. The first call returns as soon as later saves are
    /// noticed.
    fn next(news: &mut Self::News) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn fetch(
        connection: &mut Self::Connection,
        sql: String,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    /// Returns the number of changed rows.
    fn execute(
        connection: &mut Self::Connection,
        sql: String,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
}

/// [`Dialect::fetch`] and [`Dialect::execute`]. Written out for each database, because sqlx's bounds for a generic
/// database would have to be repeated wherever a statement is sent.
macro_rules! statements {
    () => {
        async fn fetch(
            connection: &mut Self::Connection,
            sql: String,
            values: &[Value<'_>],
        ) -> Result<Vec<Row>, sqlx::Error> {
            let mut query = sqlx::query_as::<Self, Row>(AssertSqlSafe(sql));
            for value in values {
                query = match *value {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(number),
                };
            }
            query.fetch_all(connection).await
        }

        async fn execute(
            connection: &mut Self::Connection,
            sql: String,
            values: &[Value<'_>],
        ) -> Result<u64, sqlx::Error> {
            let mut query = sqlx::query::<Self>(AssertSqlSafe(sql));
            for value in values {
                query = match *value {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(number),
                };
            }
            Ok(query.execute(connection).await?.rows_affected())
        }
    };
}

pub(crate) use statements;
