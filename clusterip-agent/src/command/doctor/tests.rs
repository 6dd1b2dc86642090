//! On machines made of files.

use std::{fs, path::Path};

use super::{devices, lines, machine, machine::Machine, netdev::NetDevice, others, programs, *};
use crate::kube_proxy::Leftovers;

fn marks(findings: &[Finding]) -> Vec<(&str, bool)> {
    findings.iter().map(|it| (it.check, it.good)).collect()
}

fn device(name: &str, mtu: u32) -> NetDevice {
    NetDevice {
        name: name.to_owned(),
        mtu,
        ..NetDevice::default()
    }
}

#[test]
fn kernels_capabilities_and_pins() {
    assert!(machine::kernel("6.12.1-amd64").found.contains("TCX links"));
    assert!(machine::kernel("5.15.0").good);
    assert!(!machine::kernel("5.10.0-30").good && !machine::kernel("").good);
    for (bits, missing) in [
        ("000001ffffffffff", ""),
        ("000000c000001000", ""),
        ("0000000000201000", ""),
        ("0000000000200000", "CAP_NET_ADMIN"),
        ("0000000000001000", "CAP_PERFMON, CAP_BPF"),
        ("0000000000000000", "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"),
    ] {
        let found = machine::capabilities(&format!("Name:\tx\nCapEff:\t{bits}\n"), false);
        assert_eq!(found.good, missing.is_empty(), "{bits}");
        assert!(found.found.ends_with(missing) || found.good, "{found:?}");
    }
    // A pool is announced by sockets that see all of a link.
    for (bits, missing) in [
        ("000001ffffffffff", ""),
        ("000000c000003000", ""),
        ("000000c000001000", "CAP_NET_RAW"),
        ("0000000000201000", "CAP_NET_RAW"),
    ] {
        let found = machine::capabilities(&format!("CapEff:\t{bits}\n"), true);
        assert_eq!(found.good, missing.is_empty(), "{bits}");
        assert!(found.found.ends_with(missing) || found.good, "{found:?}");
    }
    let bpffs = Path::new("/sys/fs/bpf/clusterip");
    let own = format!("v{}", clusterip_common::abi::VERSION);
    assert!(machine::pins(&[], bpffs).good);
    assert!(machine::pins(std::slice::from_ref(&own), bpffs).good);
    let mixed = machine::pins(&["v0".to_owned(), own], bpffs);
    assert!(
        !mixed.good && mixed.found.contains("other layouts: v0"),
        "{mixed:?}"
    );
}

#[test]
fn devices_are_looked_at_one_by_one() {
    let root = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("proc/sys/net/ipv4/ip_forward", "1\n");
    write("proc/sys/net/ipv4/conf/all/rp_filter", "0\n");
    write("proc/sys/net/ipv4/conf/vethA/rp_filter", "1\n");
    let machine = Machine::of_files(
        root.path(),
        &[
            device("vethA", 1500),
            device("vethB", 1500),
            device("eth0", 9000),
        ],
    );
    let globs = ["veth*".to_owned()];
    let good = devices::findings(&machine, &globs);
    assert_eq!(
        marks(&good),
        [
            ("network plugin", true),
            ("interfaces", true),
            ("forwarding", true),
            ("rp_filter", true),
            ("mtu", true)
        ]
    );
    assert!(
        good.iter().any(|it| it.found.starts_with("strict on 1")),
        "{good:?}"
    );
    let uneven = [device("vethA", 1500), device("vethB", 1400)];
    let machine = Machine::of_files(root.path(), &uneven);
    write("proc/sys/net/ipv4/ip_forward", "0\n");
    write("proc/sys/net/ipv6/conf/all/forwarding", "1\n");
    let globs = ["veth*".to_owned(), "eni*".to_owned()];
    let bad = devices::findings(&machine, &globs);
    assert_eq!(
        marks(&bad),
        [
            ("network plugin", true),
            ("interfaces", false),
            ("forwarding", false),
            ("forwarding v6", true),
            ("rp_filter", true),
            ("mtu", false)
        ]
    );
    let text = lines(&bad, false).expect("a text");
    assert!(
        text.contains("✗ interfaces      nothing matches eni*\n"),
        "{text}"
    );
    assert!(
        text.contains("→ sysctl -w net.ipv4.ip_forward=1\n"),
        "{text}"
    );
    assert!(
        text.contains("✗ mtu             1400 at vethB, 1500 at vethA\n"),
        "{text}"
    );
    assert!(text.ends_with("3 things need a look\n"), "{text}");
}

#[test]
fn programs_and_rules_of_others_are_found_in_what_the_tools_print() {
    let filters = "filter protocol all pref 193 bpf chain 0 \n\
                   filter protocol all pref 193 bpf chain 0 handle 0x1 cip_from_pod direct-action not_in_hw id 1\n\
                   filter protocol all pref 1 bpf chain 0 handle 0x1 cil_from_container direct-action not_in_hw id 5\n";
    let found: Vec<&str> = programs::foreign_filters(filters).collect();
    assert_eq!(found, ["cil_from_container"]);
}

#[test]
fn kube_proxy_is_named_where_it_runs_and_what_it_left_where_it_ran() {
    let none = Leftovers::default();
    let good = others::kube_proxy(&[], &none);
    assert!(
        good.good && good.found == "it left nothing here",
        "{good:?}"
    );
    let blind = Leftovers {
        unseen: vec!["tables of nftables: nft is not installed here".into()],
        ..Leftovers::default()
    };
    let found = others::kube_proxy(&[], &blind);
    assert!(
        found.good && found.found.ends_with("nft is not installed here"),
        "{found:?}"
    );
    let left = Leftovers {
        tables: vec![("ip".into(), 12)],
        ..Leftovers::default()
    };
    let found = others::kube_proxy(&[], &left);
    assert_eq!(
        found.found,
        "it left the nftables table ip kube-proxy with 12 rules"
    );
    assert!(!found.good && found.hint.contains("cleanup --kube-proxy --dry-run"));
    let found = others::kube_proxy(&[7, 8], &none);
    assert_eq!(found.found, "it runs (process 7, 8), with nothing");
    assert!(!found.good);
}
