//! Views in tables of one's own: how a projector drives them.

use bytes::Bytes;
use cqrs_core::{
    Batch, OnFailure, ProjectError, Projection, ProjectionId, Reached, Retry, SavedCheckpoint, StoreError,
    ViewStore,
};

use crate::{
    Sql, SqlSources, SqlView, SqlViews, Tables,
    errors::{Failure, Kind, kind, store_error},
    layout,
    names::is_name,
    transaction::Saving,
    view::EventError,
    views::check_name,
};

/// The most events of one transaction.
const MAX_EVENTS: usize = 512;

/// A view in tables of its own, for a service to run; made by [`SqlViews::projection`].
#[derive(Debug)]
pub struct SqlProjection<DB: Sql, V> {
    views: SqlViews<DB>,
    view: V,
}

impl<DB: Sql> SqlViews<DB> {
    /// A view in tables of its own, which are in this database.
    pub fn projection<V: SqlView<DB>>(&self, view: V) -> SqlProjection<DB, V> {
        SqlProjection { views: self.clone(), view }
    }

    /// The tables of one build of a view, for queries of your own.
    pub fn tables<V: SqlView<DB>>(&self, projection: &ProjectionId) -> Tables {
        let table = |table| self.shared.names.table(&own_table(projection, table));
        let names = V::TABLES.iter().map(|name| (*name, table(name)));
        Tables::new(names, DB::own_names(self.shared.names.context(), &projection.to_string()), DB::MAX_NAME)
    }
}

/// A table's name without that of its context. No projection has a name with a dot in it.
pub(crate) fn own_table(projection: &ProjectionId, table: &str) -> String {
    format!("{projection}.{table}")
}

impl<DB: Sql, V: SqlView<DB>> SqlProjection<DB, V> {
    /// Creates the tables unless they are there.
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
        // Somebody else may have been faster.
        if !has_tables::<DB, V>(projection, &there) {
            self.view.create(&self.views.tables::<V>(projection), &mut transaction).await?;
        }
        transaction.commit().await
    }

    async fn store(&self, projection: &ProjectionId, batch: &Batch<'_>) -> Result<u64, ProjectError> {
        let name = projection.to_string();
        let failed =
            |failure: Failure| ProjectError::Save(failure.into_save_error(|| format!("saving {name}")));
        let shared = &self.views.shared;
        let saving = Saving::begin(&shared.writer, &shared.names, &name, batch.checkpoint, batch.revision);
        let mut saving = saving.await.map_err(failed)?;
        let tables = self.views.tables::<V>(projection);
        for (index, event) in batch.events.iter().enumerate() {
            if let Err(error) = V::Of::project(&self.view, event, &tables, &mut saving.transaction).await {
                // If this fails as well, the connection is not used again.
                let _ = saving.transaction.rollback().await;
                return Err(project_error(index, &name, error));
            }
        }
        saving.notes(batch.notes).await.map_err(failed)?;
        let revision = saving.commit().await.map_err(failed)?;
        self.views.note(&name, revision.cast_signed(), batch.checkpoint.reached());
        Ok(revision)
    }
}

fn has_tables<DB: Sql, V: SqlView<DB>>(projection: &ProjectionId, there: &[String]) -> bool {
    V::TABLES.iter().all(|table| there.contains(&own_table(projection, table)))
}

/// Whether an event is at fault, or the database as a whole.
fn project_error(index: usize, projection: &str, error: EventError) -> ProjectError {
    match error {
        EventError::Undecodable(error) => ProjectError::undecodable(index, error),
        EventError::Sql(error) => match kind(&error) {
            Kind::Lost | Kind::Busy | Kind::Full => store_error(format!("saving {projection}"), error).into(),
            kind => {
                ProjectError::Event { index, reason: error.to_string(), transient: kind == Kind::Contended }
            }
        },
    }
}

impl<DB: Sql, V: SqlView<DB>> Projection for SqlProjection<DB, V> {
    fn aggregates(&self) -> Vec<&'static str> {
        V::Of::names()
    }

    fn on_failure(&self) -> OnFailure {
        V::ON_FAILURE
    }

    fn retry(&self) -> Retry {
        V::RETRY
    }

    fn ignored(&self) -> &'static [&'static str] {
        V::IGNORED
    }

    fn max_events(&self) -> usize {
        MAX_EVENTS
    }

    fn place(&self) -> Option<String> {
        self.views.place()
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

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        self.views.checkpoint(projection).await
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        ViewStore::notes(&self.views, projection, prefix).await
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        self.store(projection, &batch).await
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        self.views.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.views.remove(projection).await
    }
}
