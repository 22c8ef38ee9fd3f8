//! What differs between the databases, and how a statement is sent to either.

use std::future::Future;

use sqlx::{Database, Pool};

/// One row of an answer: every statement of this crate asks for a key, a content and a number.
pub(crate) type Row = (String, Option<String>, i64);

/// A value bound to a statement.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

/// A database, as far as the two that there are differ.
pub trait Dialect: Database {
    /// Begins a transaction that writes.
    const BEGIN: &'static str;

    /// What stands between context and name within the quotes of a table's name.
    const DOT: &'static str;

    /// The longest name of a table, in bytes.
    const MAX_NAME: usize;

    /// What names begin with that belong to a projection and are not those of tables. They stand where no schema may
    /// be named.
    fn own_names(context: &str, projection: &str) -> String;

    /// The elements of the JSON array `$1` as rows with a column `value`, each of which is an array itself.
    const EACH: &'static str;

    /// The type of columns that hold keys.
    const KEY: &'static str;

    /// An id of 32 hexadecimal digits that there is nowhere else.
    const NEW_ID: &'static str;

    /// Lists the tables of the context `$1` whose names begin with `$2`.
    const TABLES: &'static str;

    /// Makes others wait who create or drop tables at the same time.
    const EXCLUDE: Option<&'static str>;

    /// Creates the place of the context's tables.
    fn create_place(context: &str) -> Option<String>;

    /// Tells other processes that something was saved in the context `$1`; it is sent with the transaction.
    const NOTIFY: Option<&'static str>;

    /// Notices that other processes saved something.
    type News: Send + 'static;

    fn news(pool: Pool<Self>, context: &str) -> Self::News;

    /// Waits until something may have been saved since the last call. The first call returns as soon as
    /// nothing is missed any more.
    fn next(news: &mut Self::News) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    fn fetch(
        connection: &mut Self::Connection,
        sql: String,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;

    /// Returns how many rows were changed.
    fn execute(
        connection: &mut Self::Connection,
        sql: String,
        values: &[Value<'_>],
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
}

/// [`Dialect::fetch`] and [`Dialect::execute`]. Written out for each database, since sqlx's bounds for a generic
/// one would have to be repeated wherever a statement is sent.
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
