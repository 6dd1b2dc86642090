//! Certificates: the server's, and the agent's own.

use anyhow::Result;
use clusterip_agent::source::kubernetes::Scope;
use clusterip_tests::{
    ApiServer,
    apiserver::{Certificate, Identity, objects, write_identity},
};
use tempfile::NamedTempFile;

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
        // Clock skew: of the node, or of whoever signs.
        (
            Certificate::Early,
            "the API server's certificate is not valid yet: set this node's clock right",
        ),
        (
            Certificate::Other,
            "the API server's certificate is for other names",
        ),
        (
            Certificate::Stranger,
            "the API server's certificate is from another authority",
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

/// A server that wants a certificate, and who shows one.
struct Mutual {
    server: ApiServer,
    kubeconfig: NamedTempFile,
    listener: Listener,
}

impl Mutual {
    fn new(identity: Identity) -> Result<Self> {
        let server = ApiServer::start_mutual_tls()?;
        server.put(objects::node(NODE, "zone-a"))?;
        add(&server, 1)?;
        let kubeconfig = NamedTempFile::new()?;
        write_identity(kubeconfig.path(), &server.url(), identity)?;
        let listener = Listener::by(kubeconfig.path(), &[], &Scope::new(NODE, false))?;
        Ok(Self {
            server,
            kubeconfig,
            listener,
        })
    }

    /// As kubelets do it: the file is the same, what is in it is renewed.
    fn renew(&self) -> Result<()> {
        write_identity(self.kubeconfig.path(), &self.server.url(), Identity::Good)
    }

    fn until_listed(&mut self) -> Result<()> {
        let listener = &mut self.listener;
        listener.until("all is listed", |it| it.services() == listed(1))?;
        listener.until("nothing is lost", |it| it.lost().is_none())
    }
}

#[test]
fn an_agent_with_a_certificate_of_the_clusters_authority_is_known() -> Result<()> {
    Mutual::new(Identity::Good)?.until_listed()
}

#[test]
fn a_certificate_of_its_own_that_has_run_out_is_named_and_counts_once_it_is_renewed() -> Result<()>
{
    let mut mutual = Mutual::new(Identity::Expired)?;
    mutual.listener.until("it is said", |it| {
        it.lost().is_some_and(|why| {
            why.contains("this agent's own certificate has run out: renew it in the kubeconfig")
        })
    })?;
    assert!(!mutual.listener.is_synced());
    assert_eq!(mutual.server.requests(), Vec::<String>::new());
    mutual.renew()?;
    mutual.until_listed()
}

#[test]
fn a_certificate_of_its_own_from_another_authority_is_named_and_counts_once_it_is_right()
-> Result<()> {
    let mut mutual = Mutual::new(Identity::Stranger)?;
    mutual.listener.until("it is said", |it| {
        it.lost().is_some_and(|why| {
            why.contains("the API server does not accept this agent's own certificate: renew it in the kubeconfig")
        })
    })?;
    assert!(!mutual.listener.is_synced());
    mutual.renew()?;
    mutual.until_listed()
}

/// A kubeconfig with a token alone, where a certificate is wanted.
#[test]
fn a_server_that_wants_a_certificate_gets_none_and_it_is_said() -> Result<()> {
    let server = ApiServer::start_mutual_tls()?;
    let mut listener = Listener::to(&server)?;
    listener.until("it is said", |it| {
        it.lost().is_some_and(|why| {
            why.contains("the API server does not accept this agent's own certificate")
        })
    })?;
    assert_eq!(server.requests(), Vec::<String>::new());
    Ok(())
}
