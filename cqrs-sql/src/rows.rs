//! The rows of one view, for reading.

use std::{fmt, future::Future, time::Duration};

use cqrs_core::{
    Error,
    port::ProjectionId,
    read_models::{ActiveBuild, ReadModel},
};
use sqlx::{Pool, SqlStr};

use crate::{Sql, SqlProjection, SqlView, SqlViews, Tables, errors::store_error};

/// How long reading by hand asks a database again; as long as a service's queries do by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// The rows of one build of a view, for reading: what an [`Answer`](cqrs_core::Answer) of an [`SqlView`] gets, in place
/// of the [`Documents`](cqrs_core::Documents) of a view of documents. [`SqlView`] has an example.
pub struct Rows<DB: Sql> {
    views: SqlViews<DB>,
    tables: Tables,
    build: ActiveBuild,
}

impl<DB: Sql> SqlViews<DB> {
    /// The rows of a build of a view, for reading without a [`Query`](cqrs_core::Query). In a service,
    /// [`Cqrs::active_build`](cqrs_core::Cqrs::active_build) says which build to read from.
    pub fn rows<V: SqlView<DB>>(&self, projection: &ProjectionId) -> Rows<DB> {
        Rows::of::<V>(self, ActiveBuild::new(projection.clone(), PATIENCE))
    }
}

impl<DB: Sql> Rows<DB> {
    fn of<V: SqlView<DB>>(views: &SqlViews<DB>, build: ActiveBuild) -> Self {
        Self { views: views.clone(), tables: views.tables::<V>(build.id()), build }
    }

    /// A statement in which each `{table}` is replaced by that table of the build; see [`Tables::sql`].
    pub fn sql(&self, statement: &'static str) -> SqlStr {
        self.tables.sql(statement)
    }

    /// The tables of the build, for statements that are put together: [`Tables::name`].
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The connections for reading. In SQLite they refuse to write; in Postgres they are those of the projector. A row
    /// that an answer writes is in no checkpoint, and missing in the next build.
    pub fn pool(&self) -> &Pool<DB> {
        self.views.pool()
    }

    /// The database's answer to what `ask` asks on the [`pool`](Self::pool), with its errors as those of an answer:
    /// `rows.read(|| sqlx::query_scalar(rows.sql("SELECT …")).fetch_one(rows.pool())).await?`.
    ///
    /// `ask` is called again while the database fails transiently and the query has patience left
    /// ([`Ask::patience`](cqrs_core::futures::Ask::patience)). Each statement sees the rows as of its own time. Several
    /// that must agree belong into one transaction: `rows.read(|| async { let mut transaction =
    /// rows.pool().begin().await?; … })`, in Postgres `REPEATABLE READ`.
    ///
    /// # Errors
    ///
    /// [`Error::Store`]: [`Unavailable`](cqrs_core::StoreError::Unavailable) when the database does not answer, also
    /// when one answer takes longer than the query's patience; [`Refused`](cqrs_core::StoreError::Refused) when the
    /// statement or the rows are not as expected.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn read<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let failed = |error| store_error(format!("reading view {}", self.build.id()), error);
        Ok(self.build.asked(|| async { ask().await.map_err(failed) }).await?)
    }
}

impl<DB: Sql> fmt::Debug for Rows<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.build.id();
        f.debug_struct("Rows").field("views", &self.views).field("build", id).finish_non_exhaustive()
    }
}

impl<DB: Sql, V: SqlView<DB>> ReadModel for SqlProjection<DB, V> {
    const FIRST: ProjectionId = ProjectionId::new(V::NAME, V::VERSION);

    type Reader = Rows<DB>;
    type Projection = Self;

    fn reader(projection: &Self, build: ActiveBuild) -> Rows<DB> {
        Rows::of::<V>(&projection.views, build)
    }
}
