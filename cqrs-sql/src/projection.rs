//! The projection of a view in its own tables.

use std::sync::Arc;

use cqrs_core::{
    __private::awaited_unless_panics,
    StoreError,
    port::{Batch, ProjectError, Projection, ProjectionId, ProjectionSettings},
};
use tracing::Instrument as _;

use crate::{
    Sql, SqlSources, SqlView, SqlViews, Tables,
    errors::{Failure, Kind, kind, store_error},
    layout,
    names::is_name,
    transaction::Saving,
    views::check_name,
};

/// The most events of one transaction.
const MAX_EVENTS: usize = 512;

/// A view in its own tables, for a service to run and to ask; made by [`SqlViews::projection`]. As a type it is what
/// queries name: [`InSqlite`] and [`InPostgres`] are short for it.
#[derive(Debug)]
pub struct SqlProjection<DB: Sql, V> {
    pub(crate) views: SqlViews<DB>,
    view: Arc<V>,
}

/// The [`SqlView`] `V` in SQLite: `#[query(view = InSqlite<OrderRows>, …)]`.
#[cfg(feature = "sqlite")]
pub type InSqlite<V> = SqlProjection<sqlx::Sqlite, V>;

/// The [`SqlView`] `V` in Postgres: `#[query(view = InPostgres<OrderRows>, …)]`.
#[cfg(feature = "postgres")]
pub type InPostgres<V> = SqlProjection<sqlx::Postgres, V>;

impl<DB: Sql> SqlViews<DB> {
    /// A projection of a view in its own tables, which are in this database:
    /// `builder.read_model(views.projection(OrderRows))`.
    pub fn projection<V: SqlView<DB>>(&self, view: V) -> SqlProjection<DB, V> {
        SqlProjection { views: self.clone(), view: Arc::new(view) }
    }

    /// The tables of one build of a view.
    pub(crate) fn tables<V: SqlView<DB>>(&self, projection: &ProjectionId) -> Tables {
        let table = |table| self.shared.names.table(&own_table(projection, table));
        let names = V::TABLES.iter().map(|name| (*name, table(name)));
        Tables::new(names, DB::own_names(self.shared.names.context(), &projection.to_string()), DB::MAX_NAME)
    }
}

/// A table's name without that of its context. No projection has a name with a dot.
pub(crate) fn own_table(projection: &ProjectionId, table: &str) -> String {
    format!("{projection}.{table}")
}

impl<DB: Sql, V: SqlView<DB>> SqlProjection<DB, V> {
    /// Creates the tables unless they exist.
    async fn create(&self, projection: &ProjectionId) -> Result<(), sqlx::Error> {
        let shared = &self.views.shared;
        let name = projection.to_string();
        let mut connection = shared.writer.acquire().await?;
        layout::add_projection::<DB>(&mut connection, &shared.names, &name).await?;
        let there = layout::tables::<DB>(&mut connection, &shared.names, &name).await?;
        drop(connection);
        if has_tables::<DB, V>(projection, &there) {
            return Ok(());
        }
        let mut transaction = layout::exclusive(&shared.writer).await?;
        let there = layout::tables::<DB>(&mut transaction, &shared.names, &name).await?;
        // Another process may have been faster.
        if !has_tables::<DB, V>(projection, &there) {
            self.view.create(&self.views.tables::<V>(projection), &mut transaction).await?;
        }
        transaction.commit().await
    }

    async fn store(&self, projection: &ProjectionId, batch: &Batch<'_>) -> Result<u64, ProjectError> {
        let steps = batch.each(|event| V::Of::step(&self.view, event))?;
        let name = projection.to_string();
        let failed =
            |failure: Failure| ProjectError::Save(failure.into_save_error(|| format!("saving {name}")));
        let shared = &self.views.shared;
        let saving = Saving::begin(&shared.writer, &shared.names, &name, batch.checkpoint, batch.revision);
        let mut saving = saving.await.map_err(failed)?;
        let tables = self.views.tables::<V>(projection);
        for (index, step) in steps {
            let projecting = step(&tables, &mut saving.transaction).instrument(batch.events[index].span());
            let error = match awaited_unless_panics(Box::pin(projecting)).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => project_error(index, &name, error),
                Err(panic) => {
                    let reason = format!("the rules panicked: {panic}");
                    ProjectError::Event { index, reason, transient: false }
                }
            };
            saving.give_up().await;
            return Err(error);
        }
        if let Err(failure) = saving.notes(batch.notes).await {
            saving.give_up().await;
            return Err(failed(failure));
        }
        let revision = saving.commit().await.map_err(failed)?;
        self.views.note(&name, revision.cast_signed(), batch.checkpoint.reached());
        Ok(revision)
    }
}

fn has_tables<DB: Sql, V: SqlView<DB>>(projection: &ProjectionId, there: &[String]) -> bool {
    V::TABLES.iter().all(|table| there.contains(&own_table(projection, table)))
}

/// Decides whether the event is at fault, or the database.
fn project_error(index: usize, projection: &str, error: sqlx::Error) -> ProjectError {
    match kind(&error) {
        Kind::Lost | Kind::Busy | Kind::Full => store_error(format!("saving {projection}"), error).into(),
        kind => ProjectError::Event { index, reason: error.to_string(), transient: kind == Kind::Contended },
    }
}

impl<DB: Sql, V: SqlView<DB>> Projection for SqlProjection<DB, V> {
    type Store = SqlViews<DB>;

    fn store(&self) -> &SqlViews<DB> {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        ProjectionSettings {
            on_failure: V::ON_FAILURE,
            retry: V::RETRY,
            ignored: V::IGNORED,
            ..ProjectionSettings::new(V::Of::names(), MAX_EVENTS)
        }
    }

    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        check_name::<DB>(&projection.to_string())?;
        for table in V::TABLES {
            let name = check_name::<DB>(&own_table(projection, table))?;
            if !is_name(table) {
                let what = format!("{name} cannot be the name of a table: use a-z, 0-9, _ and -");
                return Err(StoreError::Refused { what, source: None });
            }
        }
        let created = self.create(projection).await;
        created.map_err(|error| store_error(format!("creating the tables of {projection}"), error))
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        self.store(projection, &batch).await
    }
}
