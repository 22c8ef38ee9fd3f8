//! The adapters for NATS fulfil the contracts of the ports on a cluster of three, with three replicas, of which a
//! lagging one may answer reads.
//!
//! For a moment after an election, a server may not know a stream that was just created. So calls that may be repeated are
//! repeated, as services do it.
//!
//! Not with the feature `testcontainers`: the cluster is its own, so a container changes nothing.
#![cfg(not(feature = "testcontainers"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cqrs_core::{
    CommandError, Cqrs,
    port::{ProjectionId, ViewStore as _},
};
use cqrs_nats::{Nats, NatsBackend, Topology};
use cqrs_tests::{
    cluster::Cluster,
    domain::{Account, AccountRejection, Statement, deposit, open, statement, withdraw},
    patient::Patient,
    unique_context,
};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::OnceCell;

/// One cluster for all tests of this process; its servers end with it.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_init(|| Cluster::start(3)).await
}

async fn backend() -> NatsBackend {
    let nats = Nats::connect(&cluster().await.url()).await.unwrap();
    nats.open(Topology::new(unique_context("cluster")).replicas(3)).await.unwrap()
}

cqrs_core::event_store_contract!(async { (Patient::new(backend().await.events), ()) });
cqrs_core::view_store_contract!(async { (Patient::new(backend().await.views), ()) });
cqrs_core::deadlines_contract!(async { (Patient::new(backend().await.events), ()) });

/// The same for a log with slices.
mod sliced {
    use super::*;

    cqrs_core::event_store_contract!(async {
        let nats = Nats::connect(&cluster().await.url()).await.unwrap();
        let topology = Topology::new(unique_context("cluster-sliced")).replicas(3).slices(8);
        (Patient::new(nats.open(topology).await.unwrap().events), ())
    });
}

/// A stream that is made with replicas is used when it has answered a read; other opens ask nothing of the kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_replicas_answers_before_it_is_used() {
    const VIEW: ProjectionId = ProjectionId::new("new", 1);
    let nats = Nats::connect(&cluster().await.url()).await.unwrap();
    for replicas in [1, 3] {
        let context = unique_context("answers");
        let views = nats.open(Topology::new(&*context).replicas(replicas)).await.unwrap().views;
        let asked = format!("$JS.API.STREAM.MSG.GET.KV_{context}__new-v1");
        let mut reads = nats.client().subscribe(asked).await.unwrap();
        // The client's own requests come back to it before their answers.
        let mut has_read = || reads.next().now_or_never().is_some();
        views.open(&VIEW).await.unwrap();
        assert_eq!(has_read(), replicas > 1, "made with {replicas} replicas");
        while has_read() {}
        views.open(&VIEW).await.unwrap();
        assert!(!has_read(), "there with {replicas} replicas");
    }
}

/// Two services write alternately, so that the last state of each is always stale, and each reads at once what was
/// written last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_decides_or_reads_on_old_state() {
    let context = unique_context("turns");
    let mut services = Vec::new();
    for _ in 0..2 {
        let nats = Nats::connect(&cluster().await.url()).await.unwrap();
        let backend = nats.open(Topology::new(&*context).replicas(3)).await.unwrap();
        let service = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>();
        services.push(service.start().await.unwrap());
    }
    let [first, second] = services.as_slice() else { unreachable!("there are two") };
    first.execute(open("1", 0)).await.unwrap();
    for round in 0..60 {
        let deposited = first.execute(deposit("1", 1)).await.unwrap();
        let seen = second.query(statement("1")).after(&deposited).await.unwrap();
        assert_eq!(seen.unwrap().versions.last(), Some(&deposited.version), "round {round}");
        // First one more than the balance, then exactly the balance: both answers need the newest state.
        let error = second.execute(withdraw("1", 2)).await.unwrap_err();
        let expected = AccountRejection::Insufficient { balance: 1, amount: 2 };
        assert!(matches!(&error, CommandError::Rejected(rejection) if *rejection == expected), "{error}");
        second.execute(withdraw("1", 1)).await.unwrap();
    }
}
