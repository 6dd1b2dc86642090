//! Who else handles the packets: programs of others, and what kube-proxy left.

use super::{Finding, machine::Machine, netdev::NetDevice};
use crate::dataplane::attach::every_program;

pub(super) fn findings(machine: &Machine, globs: &[String]) -> Vec<Finding> {
    let devices = machine.devices(globs);
    vec![programs(machine, &devices), kube_proxy(machine)]
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

fn kube_proxy(machine: &Machine) -> Finding {
    let check = "kube-proxy";
    let mut found = Vec::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = machine.output(program, &[]).unwrap_or_default();
        let count = service_rules(&rules);
        found.extend((count > 0).then(|| format!("{count} rules in {program}")));
    }
    let tables = machine
        .output("nft", &["list", "tables"])
        .unwrap_or_default();
    found.extend(
        tables
            .contains("kube-proxy")
            .then(|| "a table of nftables".to_owned()),
    );
    let has_ipvs = !machine.devices(&["kube-ipvs0".to_owned()]).is_empty();
    found.extend(has_ipvs.then(|| "the device kube-ipvs0".to_owned()));
    if found.is_empty() {
        return Finding::good(check, "it left nothing here");
    }
    Finding::bad(
        check,
        format!("it left {}", found.join(", ")),
        "stop it, then `kube-proxy --cleanup`: packets that the agent passes on would be translated by its rules",
    )
}

/// Rules of its chains in the output of `iptables-save`.
pub(super) fn service_rules(rules: &str) -> usize {
    let of_services = rules.lines().filter(|line| {
        line.starts_with("-A")
            && ["KUBE-SERVICES", "KUBE-SVC-", "KUBE-SEP-"]
                .iter()
                .any(|chain| line.contains(chain))
    });
    of_services.count()
}
