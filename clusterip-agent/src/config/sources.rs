//! Where objects come from: exactly one place.

use std::path::Path;

use super::{Config, ConfigError, RUN, key, variable};

/// Where objects come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source<'a> {
    /// A directory of manifests.
    Manifests(&'a Path),
    /// An API server that a kubeconfig file leads to.
    Kubeconfig(&'a Path),
    /// The API server of the cluster that the agent is a pod of.
    InCluster,
}

impl Config {
    /// The source; the manifests if nothing else was given.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        match &self.kubeconfig {
            Some(file) => Source::Kubeconfig(file),
            None if self.in_cluster => Source::InCluster,
            None => Source::Manifests(&self.manifests),
        }
    }

    /// Whether an API server gives services their addresses: then this node gives none.
    #[must_use]
    pub fn has_api_server(&self) -> bool {
        !matches!(self.source(), Source::Manifests(_))
    }

    pub(super) fn check_source<const COMMAND: u8>(&self) -> Result<(), ConfigError> {
        let has_manifests = !self.manifests.as_os_str().is_empty();
        let given: Vec<&str> = [
            ("--manifests", has_manifests),
            ("--kubeconfig", self.kubeconfig.is_some()),
            ("--in-cluster", self.in_cluster),
        ]
        .into_iter()
        .filter_map(|(flag, is_given)| is_given.then_some(flag))
        .collect();
        // The other sources are no options of the other commands: what is in a file or the environment is for `run`.
        if COMMAND != RUN {
            return if has_manifests {
                Ok(())
            } else {
                Err(ConfigError::Required {
                    flag: "manifests",
                    variable: variable("manifests"),
                    key: key("manifests"),
                })
            };
        }
        match given.as_slice() {
            [] => Err(ConfigError::Source(
                "where objects come from is required: give one of --manifests DIR, --kubeconfig FILE and --in-cluster \
                 (or its variable, or its key in the file of --config)"
                    .to_owned(),
            )),
            [_] if has_manifests && !self.kube_api_servers.is_empty() => {
                Err(ConfigError::Source(
                    "--kube-api-server goes with --kubeconfig or --in-cluster, not with --manifests: take one of them away"
                        .to_owned(),
                ))
            }
            [_] => Ok(()),
            several => Err(ConfigError::Source(format!(
                "{} are given, but objects come from one place: leave one",
                several.join(" and ")
            ))),
        }
    }
}
