/// A read model that is not a view, as an adapter has it.
struct OrderRows(cqrs_core::memory::MemoryViews);

impl cqrs_core::port::Projection for OrderRows {
    type Store = cqrs_core::memory::MemoryViews;

    fn store(&self) -> &Self::Store {
        &self.0
    }

    fn settings(&self) -> cqrs_core::port::ProjectionSettings {
        cqrs_core::port::ProjectionSettings::new(vec!["order"], 1)
    }

    async fn project(
        &self,
        _: &cqrs_core::port::ProjectionId,
        batch: cqrs_core::port::Batch<'_>,
    ) -> Result<u64, cqrs_core::port::ProjectError> {
        Ok(batch.revision)
    }
}

impl cqrs_core::read_models::ReadModel for OrderRows {
    const FIRST: cqrs_core::port::ProjectionId = cqrs_core::port::ProjectionId::new("order-rows", 1);

    type Reader = u64;
    type Projection = Self;

    fn reader(_: &Self, _: cqrs_core::read_models::ActiveBuild) -> u64 {
        7
    }
}
