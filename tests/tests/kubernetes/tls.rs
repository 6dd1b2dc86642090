//! Certificates.

use anyhow::Result;
use clusterip_tests::{
    ApiServer,
    apiserver::{Certificate, objects},
};

use crate::{
    listener::{Listener, NODE},
    lists::{add, listed},
};

fn server(certificate: Certificate) -> Result<ApiServer> {
    let server = ApiServer::start_tls(certificate)?;
    server.put(objects::node(NODE, "zone-a"))?;
    add(&server, 1)?;
    Ok(server)
}

#[test]
fn a_server_with_a_certificate_of_the_clusters_authority_is_trusted() -> Result<()> {
    let server = server(Certificate::Good)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", |it| it.services() == listed(1))?;
    assert_eq!(listener.connection().server, server.url());
    Ok(())
}

#[test]
fn a_certificate_that_is_no_good_is_refused_with_its_remedy() -> Result<()> {
    for (certificate, words) in [
        (
            Certificate::Expired,
            "the API server's certificate has run out: renew it",
        ),
        (
            Certificate::Other,
            "the API server's certificate is for other names",
        ),
    ] {
        let server = server(certificate)?;
        let mut listener = Listener::to(&server)?;
        listener.until("it is said", |it| it.lost().is_some())?;
        let why = listener.lost().unwrap_or_default();
        assert!(why.contains(words), "{why}");
        assert!(!listener.is_synced());
        assert_eq!(
            server.requests(),
            Vec::<String>::new(),
            "nothing was told to it"
        );
    }
    Ok(())
}
