//! How commands reach the agent.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::output::Format;
use crate::{
    api::client::{self, question},
    view::Selection,
};

/// The flag of every command that asks the agent.
#[derive(Args, Clone, Debug)]
pub(super) struct Reach {
    /// Socket of the agent
    #[arg(
        long,
        value_name = "PATH",
        env = "CLUSTERIP_SOCKET",
        default_value = "/run/clusterip/agent.sock"
    )]
    pub(super) socket: PathBuf,
}

/// The flag of every command that looks at pins itself.
#[derive(Args, Clone, Debug)]
pub(super) struct Pinned {
    /// Directory for pins, on a mounted bpffs
    #[arg(
        long,
        value_name = "DIR",
        env = "CLUSTERIP_BPFFS",
        default_value = "/sys/fs/bpf/clusterip"
    )]
    pub(super) bpffs: PathBuf,
}

/// The flags of every command that shows a document of the agent.
#[derive(Args, Clone, Debug)]
pub(super) struct Asking {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// How to tell it
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
}

/// Which services are wanted.
#[derive(Args, Clone, Debug)]
pub(super) struct Wanted {
    /// Name of a service, or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Namespace of the services
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Services of every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Wanted {
    /// As the agent understands it.
    pub(super) fn selection(&self) -> Selection {
        let parts = self
            .name
            .as_deref()
            .map(|name| name.split_once('/').ok_or(name));
        match parts {
            Some(Ok((namespace, name))) => Selection {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
            },
            other => Selection {
                namespace: (!self.all_namespaces).then(|| self.namespace.clone()),
                name: other.and_then(Result::err).map(str::to_owned),
            },
        }
    }

    /// Whether services of several namespaces may be among them.
    pub(super) const fn is_everywhere(&self) -> bool {
        self.all_namespaces
    }
}

/// The question for the documents of a selection.
pub(super) fn about(path: &str, selection: &Selection, more: &[(&str, Option<&str>)]) -> String {
    let Selection { namespace, name } = selection;
    let mut values = vec![
        ("namespace", namespace.as_deref()),
        ("name", name.as_deref()),
    ];
    values.extend(more);
    question(path, &values)
}

/// Asks the agent for a document.
pub(super) fn ask<T: serde::de::DeserializeOwned>(
    reach: &Reach,
    question: &str,
) -> anyhow::Result<T> {
    Ok(run(client::ask(&reach.socket, question))??)
}

/// Runs what waits for the agent.
pub(super) fn run<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    Ok(runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(name: Option<&str>, namespace: &str, everywhere: bool) -> String {
        let wanted = Wanted {
            name: name.map(str::to_owned),
            namespace: namespace.to_owned(),
            all_namespaces: everywhere,
        };
        about("/v1/services", &wanted.selection(), &[])
    }

    #[test]
    fn the_namespace_is_default_unless_said_otherwise() {
        assert_eq!(
            selection(None, "default", false),
            "/v1/services?namespace=default"
        );
        assert_eq!(
            selection(Some("web"), "shop", false),
            "/v1/services?namespace=shop&name=web"
        );
        assert_eq!(selection(None, "default", true), "/v1/services");
        assert_eq!(
            selection(Some("web"), "default", true),
            "/v1/services?name=web"
        );
        assert_eq!(
            selection(Some("shop/web"), "default", false),
            "/v1/services?namespace=shop&name=web"
        );
    }
}
