//! What `run` says about another service proxy on the node.

use std::thread;

use crate::kube_proxy::{self, Installed};

/// Looks for kube-proxy and what it left, on a thread of its own: on a large cluster its rules take seconds to be listed, and
/// nothing waits for that, not even the end of the agent. Whatever is found is said, loudly; the agent serves all the same, as its
/// programs come before the rules.
pub(super) fn warn() {
    let looks = thread::Builder::new().name("kube-proxy".to_owned());
    if let Err(error) = looks.spawn(look) {
        log::warn!(error:err; "whether kube-proxy left something here is not known");
    }
}

fn look() {
    let running = kube_proxy::running();
    let found = kube_proxy::find(&Installed);
    if !running.is_empty() {
        log::error!(
            processes:? = running, found:% = found;
            "kube-proxy runs on this node: what this agent does not translate, its rules do; take it from the node \
             (docs/kubernetes.md)"
        );
    } else if !found.is_empty() {
        log::error!(
            found:% = found;
            "kube-proxy left rules on this node, which translate what this agent does not: `clusterip cleanup --kube-proxy` \
             takes them away"
        );
    }
    for unseen in found.unseen {
        log::debug!(unseen; "whether kube-proxy left something here is not known in full");
    }
}
