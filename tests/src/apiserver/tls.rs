//! TLS of the server, with certificates that were made once for it.

use std::{io, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use axum::serve::Listener;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
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
    /// For another name.
    Other,
}

impl Certificate {
    const fn pem(self) -> (&'static str, &'static str) {
        match self {
            Self::Good => (include_str!("tls/good.pem"), include_str!("tls/good.key")),
            Self::Expired => (
                include_str!("tls/expired.pem"),
                include_str!("tls/expired.key"),
            ),
            Self::Other => (include_str!("tls/other.pem"), include_str!("tls/other.key")),
        }
    }

    fn acceptor(self) -> Result<TlsAcceptor> {
        let (certificate, key) = self.pem();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A listener of TLS connections.
pub(super) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, certificate: Certificate) -> Result<Self> {
        Ok(Self {
            listener,
            acceptor: certificate
                .acceptor()
                .context("read the server's certificate")?,
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
