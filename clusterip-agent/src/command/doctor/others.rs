//! Who else handles the packets: programs of others, and what kube-proxy left.

use super::{Finding, machine::Machine, netdev::NetDevice};
use crate::{
    dataplane::attach::every_program,
    kube_proxy::{self, Leftovers},
};

pub(super) fn findings(machine: &Machine, globs: &[String]) -> Vec<Finding> {
    let devices = machine.devices(globs);
    vec![
        programs(machine, &devices),
        kube_proxy(&kube_proxy::running(), &kube_proxy::find(machine)),
    ]
}

/// Programs of others on the pods' devices, as the kernel, `tc` and `bpftool` tell them, if they are there.
fn programs(machine: &Machine, devices: &[&NetDevice]) -> Finding {
    let check = "other programs";
    let mut found = Vec::new();
    for NetDevice { name, mtu: _, xdp } in devices {
        found.extend(xdp.then(|| format!("XDP on {name}")));
        for hook in ["ingress", "egress"] {
            let filters = machine.output("tc", &["filter", "show", "dev", name, hook]);
            found.extend(
                foreign_filters(&filters.unwrap_or_default())
                    .map(|program| format!("{program} at {hook} of {name}")),
            );
        }
    }
    let links = machine
        .output("bpftool", &["net", "show"])
        .unwrap_or_default();
    found.extend(foreign_tcx(&links, devices));
    if found.is_empty() {
        return Finding::good(check, "none on the pods' devices");
    }
    Finding::bad(
        check,
        found.join(", "),
        "they see packets before or after translation; whether that is well depends on them: a second service proxy (Cilium, \
         Calico) must be off",
    )
}

fn is_ours(name: &str) -> bool {
    every_program().any(|ours| ours == name)
}

/// Names of programs in the output of `tc filter show` that are not ours.
pub(super) fn foreign_filters(filters: &str) -> impl Iterator<Item = &str> {
    let bpf = filters
        .lines()
        .filter(|line| line.contains(" bpf ") && line.contains(" handle "));
    bpf.filter_map(|line| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "handle")
            .skip(2);
        words.next()
    })
    .filter(|name| !is_ours(name))
}

/// `vethA(7) tcx/ingress cil_from prog_id 12 link_id 5` in the output of `bpftool net show`.
pub(super) fn foreign_tcx(links: &str, devices: &[&NetDevice]) -> Vec<String> {
    links
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let device = words.next()?.split('(').next()?.to_owned();
            let hook = words.next().filter(|hook| hook.starts_with("tcx/"))?;
            let name = words.next().filter(|name| !is_ours(name))?;
            let is_ours = devices.iter().any(|it| it.name == device);
            is_ours.then(|| format!("{name} at {hook} of {device}"))
        })
        .collect()
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
