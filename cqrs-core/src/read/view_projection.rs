//! The projection of a view: it loads the documents that a batch of events changes, changes them, and saves them
//! together.

use std::{borrow::Borrow, marker::PhantomData};

use crate::{
    base::id::ProjectionId,
    port::{
        any_views::AnyViews,
        projection::{Batch, ProjectError, Projection, ProjectionSettings},
        view_store::ViewStore,
    },
    projector::{
        kept::{Format, Kind, applied},
        rules::save,
    },
    read::view::{DocumentOf, Sources, View},
};

/// The documents of `V` in the view store `S`.
pub struct ViewProjection<V> {
    views: AnyViews,
    view: PhantomData<fn() -> V>,
}

impl<V> ViewProjection<V> {
    pub(crate) fn new(views: AnyViews) -> Self {
        Self { views, view: PhantomData }
    }
}

impl<V: View> Projection for ViewProjection<V> {
    type Store = AnyViews;

    fn store(&self) -> &AnyViews {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        ProjectionSettings {
            on_failure: V::ON_FAILURE,
            retry: V::RETRY,
            ignored: V::IGNORED,
            // Each event changes at most one document, which is one write.
            ..ProjectionSettings::new(V::Of::names(), self.views.max_writes())
        }
    }

    async fn project(&self, id: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        let is_kept = |document: &DocumentOf<V>| V::is_kept(document.borrow());
        let kind = Kind { what: ("document", "view"), is_kept, format: Format::json() };
        let applied = applied(&self.views, id, &batch, kind, || batch.each(V::Of::step)).await?;
        save(&self.views, id, &batch, &applied.writes, batch.notes).await
    }
}
