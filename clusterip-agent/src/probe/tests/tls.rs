//! HTTPS against a server with a certificate that nobody would trust: for another name, signed by itself, and run out in 2020.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::probe::{Check, check::check};

const KEY: &str = "302e020100300506032b65700422042059cd1529344eedea2a5a29a616483056203390decc7daff06d0c32e8734ab84c";
const CERTIFICATE: &str = "3081f83081aba003020102020101300506032b6570300e310c300a06035504030c03706f64301e170d323030313031303030\
    3030305a170d3230303130323030303030305a300e310c300a06035504030c03706f64302a300506032b65700321005facf5\
    11636a62a519c1de55de3d14a3b770a118e4db2c9bfc2d4cb66314ea60a32e302c300b0603551d0f040403020780301d0603\
    551d0e0416041472c27e9df6eea7722d6920f6910b2d0f4e99b645300506032b6570034100064c1fb60e67dbc5eed11cab53\
    10c8c15221d8e4da61641b0cbdf2cc2c07c3d929f69255607aaf19c13f349e6fd169f2b0369438608475d5ec5aebd0a9d482\
    0a";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let text = digits.map(|pair| std::str::from_utf8(pair).unwrap());
    text.map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Answers each request over TLS with a text.
async fn server(answer: &'static str) -> SocketAddr {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(bytes(KEY)));
    let certificate = CertificateDer::from(bytes(CERTIFICATE));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap_or(0);
            assert!(request[..count].starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.ok();
        }
    });
    address
}

fn https(to: SocketAddr) -> Check {
    Check::Http {
        to,
        request: "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        secure: true,
    }
}

/// I2
#[tokio::test]
async fn https_asks_whether_the_pod_works_not_who_it_is() {
    let limit = Duration::from_secs(10);
    for (answer, is_success) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
    ] {
        let result = check(&https(server(answer).await), limit).await;
        assert_eq!(result.is_ok(), is_success, "{answer:?}: {result:?}");
    }
    // One that speaks no TLS.
    let plain = super::real::server("HTTP/1.1 200 OK\r\n\r\n").await;
    check(&https(plain), limit).await.unwrap_err();
    // And TLS where plain HTTP is asked for.
    let plain = Check::Http {
        to: server("HTTP/1.1 200 OK\r\n\r\n").await,
        request: "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        secure: false,
    };
    check(&plain, limit).await.unwrap_err();
}
