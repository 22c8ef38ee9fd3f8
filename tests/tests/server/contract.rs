//! The adapters for NATS fulfil the contracts of the ports, on a real server.

use cqrs_nats::Topology;
use cqrs_tests::TestContext;

cqrs_core::event_store_contract!(async {
    let context = TestContext::new("contract").await;
    (context.backend().await.events, context)
});

cqrs_core::view_store_contract!(async {
    let context = TestContext::new("contract").await;
    (context.backend().await.views, context)
});

cqrs_core::deadlines_contract!(async {
    let context = TestContext::new("contract").await;
    (context.backend().await.events, context)
});

cqrs_core::notices_contract!(async {
    let context = TestContext::new("contract").await;
    let backend = context.nats.open(Topology::new(&*context.name).notices()).await.expect("the context");
    (backend.events, context)
});

/// The same for a log with slices. Views and deadlines do not depend on them.
mod sliced {
    use cqrs_tests::backends;

    cqrs_core::event_store_contract!(async {
        let (context, backend) = backends::sliced("contract-sliced").await;
        (backend.events, context)
    });

    cqrs_core::notices_contract!(async {
        let (context, backend) = backends::sliced("contract-sliced").await;
        (backend.events, context)
    });
}
