//! Read models: the results of projections that queries are asked of.

use std::any::Any;

use crate::{
    base::id::ProjectionId,
    port::projection::{AnyProjection, Projection},
    read::{active_build::ActiveBuild, documents::Documents, view::View, view_projection::ViewProjection},
};

/// The results of a projection that queries are asked of: the documents of a [`View`], or rows of a database.
///
/// Each [`View`] is a read model. An adapter with another form of results implements it for its projection, which a
/// service gets by [`Builder::read_model`](crate::Builder::read_model): a service then waits, switches builds and calls
/// interceptors for its queries as for those of a view. The crate `cqrs-sql` does so for an `SqlView`. A
/// [`Query`](crate::Query) names one read model or, as a tuple, several: see
/// [`ReadModels`].
pub trait ReadModel: 'static {
    /// The first build of its name and version.
    const FIRST: ProjectionId;

    /// What an [`Answer`](crate::Answer) reads with: the [`Documents`] of a view.
    type Reader: Send + Sync;

    /// The projection that keeps the results. For an adapter, this type itself.
    type Projection: Projection;

    /// The reader of a build. It makes no request; the reader makes its requests with [`ActiveBuild::asked`].
    fn reader(projection: &Self::Projection, build: ActiveBuild) -> Self::Reader;
}

/// A read model that is its own projection, as an adapter has it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a projection that queries can be asked of",
    label = "expected a projection with `impl ReadModel`",
    note = "a view of documents is added by `.view::<{Self}>()`, a view in a database by \
            `.read_model(views.projection(…))`; an adapter implements `ReadModel` for its projection"
)]
pub trait OwnProjection: Projection + ReadModel<Projection = Self> {}

#[diagnostic::do_not_recommend]
impl<M: Projection + ReadModel<Projection = M>> OwnProjection for M {}

impl<V: View> ReadModel for V {
    const FIRST: ProjectionId = ProjectionId::new(V::NAME, V::VERSION);

    type Reader = Documents<V>;
    type Projection = ViewProjection<V>;

    fn reader(projection: &Self::Projection, build: ActiveBuild) -> Documents<V> {
        Documents::stored(projection.store().clone(), build)
    }
}

/// What one query is asked of: a [`ReadModel`], such as a [`View`], or a tuple of up to eight. The reader of a tuple is
/// the tuple of the readers.
#[diagnostic::on_unimplemented(
    message = "queries cannot be asked of `{Self}`",
    label = "no view, and no tuple of views",
    note = "a query is asked of a type with `impl View`, of rows in a database (`cqrs_sql::InSqlite`, \
            `cqrs_sql::InPostgres`), or of a tuple of up to eight of these"
)]
pub trait ReadModels: 'static {
    /// What an [`Answer`](crate::Answer) reads with.
    type Reader: Send + Sync;

    /// The stored names.
    #[doc(hidden)]
    const NAMES: &'static [&'static str];

    /// The readers of the builds, which are those of [`NAMES`](Self::NAMES), in that order; `None` if a projection of
    /// that name is of another type.
    #[doc(hidden)]
    fn open(opened: &[Opened<'_>]) -> Option<Self::Reader>;
}

/// A projection of a service, and the build of it that answers a query.
pub struct Opened<'a> {
    pub(crate) projection: &'a dyn AnyProjection,
    pub(crate) build: ActiveBuild,
}

impl Opened<'_> {
    fn open<M: ReadModel>(&self) -> Option<M::Reader> {
        let projection: &dyn Any = self.projection;
        let projection = projection.downcast_ref::<M::Projection>()?;
        Some(M::reader(projection, self.build.clone()))
    }
}

impl<M: ReadModel> ReadModels for M {
    type Reader = M::Reader;

    const NAMES: &'static [&'static str] = &[M::FIRST.name];

    fn open(opened: &[Opened<'_>]) -> Option<M::Reader> {
        opened.first()?.open::<M>()
    }
}

/// Implements [`ReadModels`] for a tuple.
macro_rules! read_models {
    ($($index:tt $M:ident)+) => {
        impl<$($M: ReadModel),+> ReadModels for ($($M,)+) {
            type Reader = ($($M::Reader,)+);

            const NAMES: &'static [&'static str] = &[$($M::FIRST.name),+];

            fn open(opened: &[Opened<'_>]) -> Option<Self::Reader> {
                Some(($(opened.get($index)?.open::<$M>()?,)+))
            }
        }
    };
}

read_models! { 0 A }
read_models! { 0 A 1 B }
read_models! { 0 A 1 B 2 C }
read_models! { 0 A 1 B 2 C 3 D }
read_models! { 0 A 1 B 2 C 3 D 4 E }
read_models! { 0 A 1 B 2 C 3 D 4 E 5 F }
read_models! { 0 A 1 B 2 C 3 D 4 E 5 F 6 G }
read_models! { 0 A 1 B 2 C 3 D 4 E 5 F 6 G 7 H }
