//! The pods' devices, and whether the node forwards between them.

use super::{Finding, cni, machine::Machine, netdev::NetDevice};
use crate::config::POD_INTERFACES;

pub(super) fn findings(machine: &Machine, globs: &[String]) -> Vec<Finding> {
    let devices = machine.devices(globs);
    let mut findings = vec![
        cni::finding(machine, globs),
        interfaces(machine, globs, &devices),
        forwarding(
            machine,
            "forwarding",
            "ipv4/ip_forward",
            "net.ipv4.ip_forward",
        ),
    ];
    // A kernel without IPv6 has no such directory.
    if !machine.list("/proc/sys/net/ipv6/conf").is_empty() {
        findings.push(forwarding(
            machine,
            "forwarding v6",
            "ipv6/conf/all/forwarding",
            "net.ipv6.conf.all.forwarding",
        ));
    }
    findings.push(rp_filter(machine, &devices));
    findings.push(mtu(&devices));
    findings
}

/// Each glob by itself: one that matches nothing may be a slip. The default has one for each of several plugins.
fn interfaces(machine: &Machine, globs: &[String], devices: &[&NetDevice]) -> Finding {
    if globs.join(",") == POD_INTERFACES && !devices.is_empty() {
        return Finding::good("interfaces", format!("{} match", devices.len()));
    }
    let idle: Vec<&str> = globs
        .iter()
        .filter(|glob| machine.devices(std::slice::from_ref(glob)).is_empty())
        .map(String::as_str)
        .collect();
    if idle.is_empty() {
        return Finding::good("interfaces", format!("{} match", devices.len()));
    }
    Finding::bad(
        "interfaces",
        format!("nothing matches {}", idle.join(", ")),
        "no pod runs here yet, or its devices have other names: see `ip link` and --pod-interfaces",
    )
}

fn forwarding(machine: &Machine, check: &'static str, file: &str, name: &str) -> Finding {
    match machine.read(&format!("/proc/sys/net/{file}")).as_deref() {
        Some("1" | "2") => Finding::good(check, format!("{name} is on")),
        _ => Finding::bad(
            check,
            format!("{name} is off: nothing goes from one pod to another"),
            format!("sysctl -w {name}=1"),
        ),
    }
}

/// Replies get their service address back at the client's device, behind every filter: any setting will do, but one that
/// refuses the pods' own addresses.
fn rp_filter(machine: &Machine, devices: &[&NetDevice]) -> Finding {
    let read = |device: &str| -> u32 {
        let text = machine.read(&format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"));
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let all = read("all");
    let strict = devices
        .iter()
        .filter(|device| all.max(read(&device.name)) == 1);
    match strict.count() {
        0 => Finding::good("rp_filter", "not strict on the pods' devices"),
        n => Finding::good(
            "rp_filter",
            format!(
                "strict on {n} of the pods' devices: fine while each pod's route leads to its own device"
            ),
        ),
    }
}

fn mtu(devices: &[&NetDevice]) -> Finding {
    let least = devices.iter().min_by_key(|device| device.mtu);
    let most = devices.iter().max_by_key(|device| device.mtu);
    match (least, most) {
        (Some(least), Some(most)) if least.mtu != most.mtu => Finding::bad(
            "mtu",
            format!(
                "{} at {}, {} at {}",
                least.mtu, least.name, most.mtu, most.name
            ),
            "large packets between them are cut or dropped: give all pods' devices one MTU",
        ),
        (Some(device), _) => {
            Finding::good("mtu", format!("{} at all of the pods' devices", device.mtu))
        }
        _ => Finding::good("mtu", "no device to look at"),
    }
}
