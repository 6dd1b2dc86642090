//! Who else handles the packets: what kube-proxy left.

use super::{Finding, machine::Machine};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![kube_proxy(machine)]
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
