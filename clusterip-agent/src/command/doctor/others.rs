//! Who else handles the packets: what kube-proxy left.

use super::{Finding, machine::Machine};
use crate::kube_proxy::{self, Leftovers};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![kube_proxy(
        &kube_proxy::running(),
        &kube_proxy::find(machine),
    )]
}

/// Whether kube-proxy runs, what it left, and what was not seen of it.
pub(super) fn kube_proxy(running: &[u32], left: &Leftovers) -> Finding {
    let check = "kube-proxy";
    let unseen = match left.unseen.as_slice() {
        [] => String::new(),
        unseen => format!("; not seen: {}", unseen.join(", ")),
    };
    if !running.is_empty() {
        let processes: Vec<String> = running.iter().map(ToString::to_string).collect();
        return Finding::bad(
            check,
            format!(
                "it runs (process {}), with {left}{unseen}",
                processes.join(", ")
            ),
            "one service proxy to a node: take kube-proxy from it, then `clusterip cleanup --kube-proxy` (docs/kubernetes.md)",
        );
    }
    if left.is_empty() {
        return Finding::good(check, format!("it left nothing here{unseen}"));
    }
    Finding::bad(
        check,
        format!("it left {left}{unseen}"),
        "its rules would translate what the agent passes on: `clusterip cleanup --kube-proxy --dry-run` shows what goes, \
         without --dry-run it goes",
    )
}
