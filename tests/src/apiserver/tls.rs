//! TLS of the server, with certificates that were made once for it; the keys of the two authorities were thrown away.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use axum::serve::Listener;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The authority that signed the others.
pub const CA: &str = include_str!("tls/ca.pem");

/// A certificate of the server, for 127.0.0.1 and localhost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certificate {
    /// Good until 2120.
    Good,
    /// It ran out in 2020.
    Expired,
    /// It begins in 2119.
    Early,
    /// For another name.
    Other,
    /// From another authority.
    Stranger,
}

/// What a client shows that has no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// A certificate that is good until 2120.
    Good,
    /// One that ran out in 2020.
    Expired,
    /// One from another authority.
    Stranger,
}

impl Identity {
    /// Certificate and key, in PEM.
    pub(super) const fn pem(self) -> (&'static str, &'static str) {
        match self {
            Self::Good => (
                include_str!("tls/client.pem"),
                include_str!("tls/client.key"),
            ),
            Self::Expired => (
                include_str!("tls/client-expired.pem"),
                include_str!("tls/client-expired.key"),
            ),
            Self::Stranger => Certificate::Stranger.pem(),
        }
    }
}

/// How a server speaks TLS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tls {
    /// What it shows.
    pub certificate: Certificate,
    /// Whether it talks to nobody who shows no certificate of [`CA`].
    pub wants_certificate: bool,
}

impl Certificate {
    const fn pem(self) -> (&'static str, &'static str) {
        match self {
            Self::Good => (include_str!("tls/good.pem"), include_str!("tls/good.key")),
            Self::Expired => (
                include_str!("tls/expired.pem"),
                include_str!("tls/expired.key"),
            ),
            Self::Early => (include_str!("tls/early.pem"), include_str!("tls/early.key")),
            Self::Other => (include_str!("tls/other.pem"), include_str!("tls/other.key")),
            Self::Stranger => (
                include_str!("tls/stranger.pem"),
                include_str!("tls/stranger.key"),
            ),
        }
    }
}

impl Tls {
    fn acceptor(self) -> Result<TlsAcceptor> {
        let (certificate, key) = self.certificate.pem();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if self.wants_certificate {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(CA.as_bytes())?)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(vec![certificate], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A listener of TLS connections.
pub(super) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, tls: Tls) -> Result<Self> {
        Ok(Self {
            listener,
            acceptor: tls.acceptor().context("read the server's certificates")?,
        })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // One at a time: who is refused goes away at once.
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
