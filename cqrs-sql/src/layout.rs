//! The tables of a context: creates them, and removes those of one projection.
//!
//! Each build of a projection has tables of its own: removing one frees its space at once, and an operator can query
//! one view, or add an index on its documents, without affecting the others. Small data about all of them (checkpoints,
//! notes) is in shared tables.
//!
//! An existing table is never created again, so that a service can run as a user who may not create any.

use sqlx::Pool;

use crate::{
    SqlError,
    dialect::{Dialect, Value},
    names::Names,
};

/// The version of the layout of the tables.
const LAYOUT: i64 = 1;

/// Creates the tables that all projections of a context share, or checks the existing ones.
pub(crate) async fn open_context<DB: Dialect>(
    pool: &Pool<DB>,
    names: &Names<DB>,
    place: &str,
) -> Result<(), SqlError> {
    let failed = |error| SqlError::new(place, error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    let tables = tables::<DB>(&mut connection, names, "layout").await.map_err(failed)?;
    drop(connection);
    if !tables.contains(&"layout".to_owned()) {
        create_context(pool, names).await.map_err(failed)?;
    }
    let mut connection = pool.acquire().await.map_err(failed)?;
    let sql = format!("SELECT '', '', version FROM {}", names.layout());
    let found = DB::fetch(&mut connection, sql, &[]).await.map_err(failed)?;
    let found = found.first().map_or(0, |(_, _, version)| *version);
    if found == LAYOUT {
        return Ok(());
    }
    let context = names.context().to_owned();
    Err(SqlError::Layout { place: place.to_owned(), context, found, known: LAYOUT })
}

/// An id that no other place of views has: it is made when the context is first opened in this database, and kept with
/// the records of views, under a name that no view has.
pub(crate) async fn place_id<DB: Dialect>(
    pool: &Pool<DB>,
    names: &Names<DB>,
    place: &str,
) -> Result<String, SqlError> {
    let failed = |error| SqlError::new(place, error);
    let mut connection = pool.acquire().await.map_err(failed)?;
    let read = format!("SELECT view, content, revision FROM {} WHERE view = ''", names.about());
    let mut rows = DB::fetch(&mut connection, read.clone(), &[]).await.map_err(failed)?;
    if rows.is_empty() {
        let sql = format!(
            "INSERT INTO {} (view, content, revision) VALUES ('', {}, 1) ON CONFLICT DO NOTHING",
            names.about(),
            DB::NEW_ID
        );
        DB::execute(&mut connection, sql, &[]).await.map_err(failed)?;
        // Another process may have been faster.
        rows = DB::fetch(&mut connection, read, &[]).await.map_err(failed)?;
    }
    Ok(rows.into_iter().find_map(|(_, id, _)| id).unwrap_or_default())
}

async fn create_context<DB: Dialect>(pool: &Pool<DB>, names: &Names<DB>) -> Result<(), sqlx::Error> {
    let mut transaction = exclusive(pool).await?;
    if tables::<DB>(&mut transaction, names, "layout").await?.contains(&"layout".to_owned()) {
        return transaction.commit().await;
    }
    if let Some(place) = DB::create_place(names.context()) {
        DB::execute(&mut transaction, place, &[]).await?;
    }
    let key = DB::KEY;
    for table in [
        format!("{} (version bigint NOT NULL)", names.layout()),
        format!(
            "{} (projection {key} PRIMARY KEY, checkpoint text, revision bigint NOT NULL)",
            names.projections()
        ),
        format!(
            "{} (projection {key} NOT NULL, key {key} NOT NULL, content text NOT NULL, \
             PRIMARY KEY (projection, key))",
            names.notes()
        ),
        format!(
            "{} (view {key} PRIMARY KEY, content text NOT NULL, revision bigint NOT NULL)",
            names.about()
        ),
    ] {
        DB::execute(&mut transaction, format!("CREATE TABLE {table}"), &[]).await?;
    }
    let sql = format!("INSERT INTO {} (version) VALUES ($1)", names.layout());
    DB::execute(&mut transaction, sql, &[Value::Number(LAYOUT)]).await?;
    transaction.commit().await
}

/// Begins a transaction in which tables may be created or dropped, after all other such transactions.
pub(crate) async fn exclusive<DB: Dialect>(
    pool: &Pool<DB>,
) -> Result<sqlx::Transaction<'static, DB>, sqlx::Error> {
    let mut transaction = pool.begin_with(DB::BEGIN).await?;
    if let Some(sql) = DB::EXCLUDE {
        DB::fetch(&mut transaction, sql.to_owned(), &[]).await?;
    }
    Ok(transaction)
}

/// Adds the projection's row in the table of checkpoints. The row is never removed, so that concurrent saves always
/// have a row to lock, and its revision never repeats.
pub(crate) async fn add_projection<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names<DB>,
    projection: &str,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "INSERT INTO {} (projection, revision) VALUES ($1, 0) ON CONFLICT DO NOTHING",
        names.projections()
    );
    DB::execute(connection, sql, &[Value::Text(projection)]).await?;
    Ok(())
}

/// The tables of the context whose names begin with `prefix`.
pub(crate) async fn tables<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names<DB>,
    prefix: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let values = [Value::Text(names.context()), Value::Text(prefix)];
    let rows = DB::fetch(connection, DB::TABLES.to_owned(), &values).await?;
    Ok(rows.into_iter().map(|(name, _, _)| name).collect())
}

/// Drops the tables of a projection and empties its row; returns the row's new revision.
pub(crate) async fn remove<DB: Dialect>(
    pool: &Pool<DB>,
    names: &Names<DB>,
    projection: &str,
) -> Result<i64, sqlx::Error> {
    let mut transaction = exclusive(pool).await?;
    let sql = format!(
        "UPDATE {} SET checkpoint = NULL, revision = revision + 1 WHERE projection = $1 \
         RETURNING projection, '', revision",
        names.projections()
    );
    let row = DB::fetch(&mut transaction, sql, &[Value::Text(projection)]).await?;
    let own = format!("{projection}.");
    for table in tables::<DB>(&mut transaction, names, projection).await? {
        if table == projection || table.starts_with(&own) {
            DB::execute(&mut transaction, format!("DROP TABLE {}", names.table(&table)), &[]).await?;
        }
    }
    let sql = format!("DELETE FROM {} WHERE projection = $1", names.notes());
    DB::execute(&mut transaction, sql, &[Value::Text(projection)]).await?;
    if let Some(sql) = DB::NOTIFY {
        DB::fetch(&mut transaction, sql.to_owned(), &[Value::Text(names.context())]).await?;
    }
    transaction.commit().await?;
    Ok(row.first().map_or(0, |(_, _, revision)| *revision))
}
