//! A bounded context in one SQLite file: its events and its views.

use std::{path::Path, sync::Arc};

use cqrs_core::{Backend, port::AnyViews};
use sqlx::sqlite::SqliteConnectOptions;

use crate::{
    SqlError, SqliteViews,
    events::SqliteEvents,
    open_file::OpenFile,
    sqlite::{Connected, options},
};

/// A bounded context in one SQLite file: its event store and its view store. Clones share the connections.
///
/// ```
/// # use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Event, Handle, Handled, Envelope, Project, View};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Created { total: u64 } }
/// # #[derive(Debug, thiserror::Error)]
/// # enum Never {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderEvent, rejection = Never, commands(CreateOrder))]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
/// # #[derive(Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order, create)]
/// # struct CreateOrder { #[command(id)] order: u32, total: u64 }
/// # impl Handle<CreateOrder> for Order {
/// #     fn handle(&self, create: &CreateOrder, _: &Context) -> Handled<Self> {
/// #         Ok(OrderEvent::Created { total: create.total }.into())
/// #     }
/// # }
/// # #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
/// # struct Summary { total: u64 }
/// # impl View for Summary { const NAME: &'static str = "summary"; type Of = Order; }
/// # impl Project<OrderEvent> for Summary {
/// #     fn project(&mut self, event: &Envelope<OrderEvent>) { let OrderEvent::Created { total } = event.data; self.total = total; }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use cqrs_sql::SqliteBackend;
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("orders.db");
/// let start = async || {
///     let backend = SqliteBackend::open(&file, "orders").await?;
///     let service = Cqrs::builder(backend).aggregate::<Order>().view::<Summary>().start().await?;
///     Ok::<_, Box<dyn std::error::Error>>(service)
/// };
/// let service = start().await?;
/// service.execute(CreateOrder { order: 7, total: 90 }).await?;
/// service.stop().await;
///
/// // Another process, or the same one later:
/// let service = start().await?;
/// service.caught_up().await?;
/// # service.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteBackend {
    /// The event store.
    pub events: SqliteEvents,
    /// The view store.
    pub views: SqliteViews,
    file: Arc<OpenFile>,
}

impl SqliteBackend {
    /// Opens the file, or creates it, for the bounded context `context`. It can be a path, or a URL such as
    /// `sqlite:orders.db?mode=rw`, in which `mode=rw` does not create it.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open(file: impl AsRef<Path>, context: &str) -> Result<Self, SqlError> {
        if let Some(options) = options(file.as_ref())? {
            return Self::open_with(options, context).await;
        }
        let (found, wanted) = ("no file", "a file: `cqrs_core::memory` keeps events in memory");
        let (place, found, wanted) = ("memory".to_owned(), found.to_owned(), wanted.to_owned());
        Err(SqlError::Unfit { place, found, wanted })
    }

    /// Opens a file with options of your own, for the bounded context `context`. The journal mode, `synchronous` and
    /// the busy timeout are set by this crate.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open_with(options: SqliteConnectOptions, context: &str) -> Result<Self, SqlError> {
        let place = options.get_filename().display().to_string();
        let Connected { writer, reader, file } = Connected::to(options, &place).await?;
        let views = SqliteViews::new(writer, reader, context, place).await?;
        let events = log_beside(&views, &file, false).await?;
        Ok(Self { events, views, file })
    }

    /// Opens the public log of the context, and creates it if it does not exist: the context announces into it, and
    /// other contexts [follow](cqrs_core::Builder::following) it. It is in the same file.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn public_log(&self) -> Result<SqliteEvents, SqlError> {
        log_beside(&self.views, &self.file, true).await
    }
}

async fn log_beside(
    views: &SqliteViews,
    file: &Arc<OpenFile>,
    public: bool,
) -> Result<SqliteEvents, SqlError> {
    let (shared, file) = (&views.shared, Arc::clone(file));
    let (writer, reader) = (shared.writer.clone(), views.pool().clone());
    let progress = AnyViews::new(views.clone());
    SqliteEvents::open(writer, reader, file, &shared.names, progress, views.address(), public).await
}

impl Backend for SqliteBackend {
    type Events = SqliteEvents;
    type Views = SqliteViews;

    fn split(self) -> (SqliteEvents, SqliteViews) {
        (self.events, self.views)
    }
}
