//! Programs of others where this program's own are, as the kernel tells them, and `tc` for filters.

use std::path::{Path, PathBuf};

use super::{Finding, machine::Machine, netdev::NetDevice};
use crate::dataplane::{
    attached::{self, Attached},
    cgroup,
};

const HINT: &str = "they see packets before or after translation; whether that is well depends on them: a second service proxy \
                    (Cilium, Calico) must be off";

/// `devices` are those of pods and the uplinks; no cgroup is the root.
pub(super) fn findings(
    machine: &Machine,
    devices: &[&NetDevice],
    cgroup: Option<&Path>,
) -> Vec<Finding> {
    if !machine.runs() {
        return Vec::new();
    }
    let root = cgroup::root();
    vec![
        at_devices(machine, devices),
        at_sockets(cgroup.map(Path::to_owned).or(root)),
    ]
}

fn at_devices(machine: &Machine, devices: &[&NetDevice]) -> Finding {
    let check = "other programs";
    let (mut found, mut hidden) = (Vec::new(), None);
    for NetDevice {
        index, name, xdp, ..
    } in devices
    {
        let program = xdp.map(attached::at_driver);
        found.extend(foreign(program, name));
        match attached::at_device(*index) {
            Ok(programs) => found.extend(foreign(programs, name)),
            Err(error) => hidden = Some(error),
        }
        for hook in ["ingress", "egress"] {
            let filters = machine.output("tc", &["filter", "show", "dev", name, hook]);
            found.extend(
                foreign_filters(&filters.unwrap_or_default())
                    .map(|program| format!("{program} at {hook} of {name}")),
            );
        }
    }
    match (found.is_empty(), hidden) {
        (false, _) => Finding::bad(check, found.join(", "), HINT),
        (true, Some(error)) => Finding::good(check, format!("not looked at ({error}): root may")),
        (true, None) => Finding::good(check, "none on the pods' devices"),
    }
}

/// Calls of sockets meet all programs of a cgroup in turn: another proxy's would choose a second time.
fn at_sockets(cgroup: Option<PathBuf>) -> Finding {
    let check = "other sockets";
    let Some(cgroup) = cgroup else {
        return Finding::good(check, "no cgroup2 to look at");
    };
    match attached::at_cgroup(&cgroup) {
        Ok(programs) => {
            let found = foreign(programs, &cgroup.display().to_string());
            if found.is_empty() {
                return Finding::good(
                    check,
                    format!("no programs of others at {}", cgroup.display()),
                );
            }
            Finding::bad(
                check,
                found.join(", "),
                "they translate the calls of sockets too (Cilium's socketLB, Calico's connect-time load balancing): switch that off, or use \
                 --socket-lb off here",
            )
        }
        Err(error) => Finding::good(check, format!("not looked at ({error}): root may")),
    }
}

/// `cil_from_container at tcx/ingress of vethA`
fn foreign(programs: impl IntoIterator<Item = Attached>, place: &str) -> Vec<String> {
    let others = programs.into_iter().filter(|it| !it.is_ours());
    others
        .map(|Attached { hook, id, name }| {
            let name = name
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| format!("program {id}"));
            format!("{name} at {hook} of {place}")
        })
        .collect()
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
    .filter(|name| !attached::is_ours(name))
}
