//! Connections over TLS: with a private certificate authority, with client certificates, and the errors when the two
//! sides do not agree.

use std::path::{Path, PathBuf};

use cqrs_nats::{Connect, ConnectError};
use cqrs_nats_server::LocalServer;
use cqrs_tests::configured_server;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A certificate authority with its file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    name: &'static str,
}

impl Authority {
    fn new(folder: &Path, name: &'static str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, folder: folder.to_owned(), name };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// A certificate for 127.0.0.1 and its key, as files.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str| self.folder.join(format!("{name}-{kind}.pem"));
        std::fs::write(file("certificate"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("certificate"), file("key"))
    }
}

async fn server(authority: &Authority, extra: &str) -> LocalServer {
    let (certificate, key) = authority.issue("server");
    let (certificate, key) = (certificate.display(), key.display());
    let config = format!("tls {{ cert_file: '{certificate}', key_file: '{key}', {extra} }}");
    configured_server(config).await
}

#[tokio::test]
async fn a_server_with_a_certificate_of_a_known_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let server = server(&ours, "").await;
    let nats = Connect::to(server.url()).ca(ours.file()).connect().await.unwrap();
    nats.context("tls").await.unwrap();
    let error = Connect::to(server.url()).ca(theirs.file()).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_wants_to_know_its_clients() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let server =
        server(&authority, &format!("ca_file: '{}', verify: true", authority.file().display())).await;
    let (certificate, key) = authority.issue("client");
    let connect = || Connect::to(server.url()).ca(authority.file());
    connect().client_certificate(certificate, key).connect().await.unwrap();
    let error = connect().connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_file_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let server = server(&authority, "").await;
    let error = Connect::to(server.url()).ca("missing.pem").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    server.stop().await;
}
