//! Beside others that handle packets: what kube-proxy left is named and taken away, and nothing else; an nftables policy on a
//! backend's address holds for what comes through its service.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Namespace,
    agent::ask_in,
    lab::{self, Lab},
    manifests, require_root, wait,
};

/// Programs of iptables, and the service address that kube-proxy's rules have there.
const IPTABLES: [(&str, &str); 4] = [
    ("iptables-nft", "10.96.0.10/32"),
    ("iptables-legacy", "10.96.0.10/32"),
    ("ip6tables-nft", "fd00:10:96::a/128"),
    ("ip6tables-legacy", "fd00:10:96::a/128"),
];

/// A CNI's, the kubelet's and an administrator's.
const OTHERS: &str = "*mangle
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
*nat
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment \"flanneld masq, not kubernetes postrouting rules\" -j MASQUERADE
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:cali-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment \"cali:wUHhoiAYhphO9Mso\" -j cali-FORWARD
-A FORWARD -p tcp -m tcp --dport 9999 -j DROP
-A cali-FORWARD -m mark --mark 0x1/0x1 -j ACCEPT
COMMIT
";

/// kube-proxy's in iptables mode, for a service `VIP` whose one endpoint is not there any more, and some of ipvs mode.
const KUBE_PROXY: &str = "*mangle
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:KUBE-EXT-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-ABCDEFGHIJKLMNOP - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-EXT-ABCDEFGHIJKLMNOP -m comment --comment \"masquerade traffic for default/web external destinations\" -j KUBE-MARK-MASQ
-A KUBE-EXT-ABCDEFGHIJKLMNOP -j KUBE-SVC-ABCDEFGHIJKLMNOP
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-NODEPORTS -p tcp -m comment --comment \"default/web\" -m tcp --dport 30080 -j KUBE-EXT-ABCDEFGHIJKLMNOP
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE
-A KUBE-SEP-ABCDEFGHIJKLMNOP -p tcp -m comment --comment \"default/web\" -m tcp -j REDIRECT --to-ports 9
-A KUBE-SERVICES -d VIP -p tcp -m comment --comment \"default/web cluster IP\" -m tcp --dport 80 -j KUBE-SVC-ABCDEFGHIJKLMNOP
-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-ABCDEFGHIJKLMNOP -m comment --comment \"default/web -> 10.244.0.99:8080\" -m statistic --mode random --probability 0.5 -j KUBE-SEP-ABCDEFGHIJKLMNOP
-A KUBE-SVC-ABCDEFGHIJKLMNOP -m comment --comment \"default/web -> 10.244.0.99:8080\" -j KUBE-SEP-ABCDEFGHIJKLMNOP
COMMIT
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-SERVICES -d VIP -p udp -m comment --comment \"default/none has no endpoints\" -m udp --dport 53 -j REJECT
COMMIT
";

/// kube-proxy's tables of nftables mode, in short, and one of somebody else.
const NFTABLES: &str = "
table ip kube-proxy {
  comment \"rules for kube-proxy\"
  set cluster-ips { type ipv4_addr; elements = { 10.96.0.10 }; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain service-ULMVA6XW-default/web/tcp/ {
    meta l4proto tcp dnat to 10.244.0.99:8080
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
  }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat;
    jump services
  }
}
table ip6 kube-proxy {
  chain nat-prerouting {
    type nat hook prerouting priority dstnat;
  }
}
table inet kube-proxy-not {
  chain forward {
    type filter hook forward priority 0;
    tcp dport 9999 drop
  }
}
table ip cni {
  chain kube-proxy {
    tcp dport 9999 drop
  }
}
";

/// Runs a program in a namespace, and returns what it prints.
fn run(node: &Namespace, program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command: Command = node.command(program);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program} (Debian packages iptables, nftables, ipset)"))?;
    child
        .stdin
        .take()
        .context("its input")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn restore(node: &Namespace, program: &str, rules: &str) -> Result<()> {
    run(node, &format!("{program}-restore"), &["--noflush"], rules).map(drop)
}

/// All rules of the node but what changes by itself: times and counters.
fn rules(node: &Namespace) -> Result<String> {
    let mut text = String::new();
    for (program, _) in IPTABLES {
        let saved = run(node, &format!("{program}-save"), &[], "")?;
        let lines = saved.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let line = line.split(" [").next().unwrap_or_default();
            writeln!(text, "{program} {line}")?;
        }
    }
    for (family, table) in [("inet", "kube-proxy-not"), ("ip", "cni")] {
        text.push_str(&run(node, "nft", &["list", "table", family, table], "")?);
    }
    text.push_str(&run(node, "ipset", &["list", "-name"], "")?);
    text.push_str(&run(node, "nft", &["list", "tables"], "")?);
    Ok(text)
}

/// Compares line by line, in any order: back ends list their tables in the order in which these were first used.
fn assert_same(before: &str, after: &str, what: &str) {
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (before, after) = (lines(before), lines(after));
    let missing: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
    let more: Vec<_> = after.iter().filter(|it| !before.contains(it)).collect();
    assert_eq!(
        before, after,
        "{what}: missing {missing:#?}, more {more:#?}"
    );
}

/// Everything that kube-proxy may have left. The device is a bridge here, as not every kernel has dummies.
fn leave(node: &Namespace) -> Result<()> {
    for (program, vip) in IPTABLES {
        restore(node, program, &KUBE_PROXY.replace("VIP", vip))?;
    }
    let own = NFTABLES.split("table inet").next().unwrap_or_default();
    run(node, "nft", &["-f", "-"], own)?;
    let sets = "create KUBE-CLUSTER-IP hash:ip,port\ncreate KUBE-6-CLUSTER-IP hash:ip,port family inet6\n\
                create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30080\n";
    run(node, "ipset", &["restore"], sets)?;
    // A set that is looked into can only be destroyed after the rule.
    restore(
        node,
        "iptables-nft",
        "*nat\n-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT\n",
    )?;
    node.ip(
        "link add kube-ipvs0 type veth peer name other\naddr add 10.96.0.77/32 dev kube-ipvs0\n",
    )
}

/// Rules of the node are for what takes its stack (docs/forwarding.md).
const BY_STACK: [&str; 4] = ["--node-name", manifests::NODE, "--forwarding", "stack"];

fn others(node: &Namespace) -> Result<()> {
    for (program, _) in IPTABLES {
        restore(node, program, OTHERS)?;
    }
    let theirs = NFTABLES.find("table inet").map(|at| &NFTABLES[at..]);
    run(node, "nft", &["-f", "-"], theirs.unwrap_or_default())?;
    run(node, "ipset", &["create", "cali40s:mine", "hash:ip"], "")?;
    run(node, "ipset", &["create", "KUBE-NWPLCY-1", "hash:ip"], "").map(drop)
}

#[test]
fn cleanup_takes_what_kube_proxy_left_and_nothing_else() -> Result<()> {
    require_root!();
    let lab = Lab::new()?;
    let node = lab.node.namespace();
    others(node)?;
    let before = rules(node)?;
    leave(node)?;
    let with = rules(node)?;
    assert!(with.matches("KUBE-SVC-").count() > 8, "{with}");

    let said = ask_in(node, &["cleanup", "--kube-proxy", "--dry-run"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in [
        "25 rules and 16 chains of iptables-nft",
        "24 rules and 16 chains of ip6tables-legacy",
        "the nftables table ip kube-proxy with 3 rules",
        "3 sets of ipset",
        "the device kube-ipvs0",
        "would run: iptables-legacy-restore --noflush --wait 5\n    *",
        "would run: nft delete table ip6 kube-proxy\n",
    ] {
        assert!(said.out.contains(part), "{part} is not in\n{}", said.out);
    }
    assert_same(&with, &rules(node)?, "a dry run changes nothing");

    let said = ask_in(node, &["cleanup", "--kube-proxy"])?;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{}", said.out);
    assert!(said.out.ends_with("\nremoved\n"), "{}", said.out);
    assert_same(&before, &rules(node)?, "what is others' is as it was");
    let again = ask_in(node, &["cleanup", "--kube-proxy"])?;
    assert!(
        again.out.starts_with("kube-proxy left nothing\n"),
        "{again:?}"
    );
    assert_eq!(again.code, Some(0));
    Ok(())
}

#[test]
fn cleanup_keeps_a_chain_that_somebody_elses_rule_leads_to() -> Result<()> {
    require_root!();
    let lab = Lab::new()?;
    let node = lab.node.namespace();
    others(node)?;
    leave(node)?;
    let theirs = "*nat\n-A CNI-HOSTPORT-DNAT -s 10.244.0.0/16 -j KUBE-MARK-MASQ\nCOMMIT\n";
    restore(node, "iptables-nft", theirs)?;
    let said = ask_in(node, &["cleanup", "--kube-proxy"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.out
            .contains("stays: chain KUBE-MARK-MASQ of iptables-nft (table nat)")
    );
    let left = run(node, "iptables-nft-save", &[], "")?;
    for rule in [
        "-A CNI-HOSTPORT-DNAT -s 10.244.0.0/16 -j KUBE-MARK-MASQ\n",
        "-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n",
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE\n",
    ] {
        assert!(left.contains(rule), "{rule} is not in\n{left}");
    }
    assert!(!left.contains("KUBE-S"), "{left}");
    Ok(())
}

#[test]
fn where_no_program_can_be_asked_the_kernel_is() -> Result<()> {
    require_root!();
    let lab = Lab::new()?;
    let node = lab.node.namespace();
    others(node)?;
    leave(node)?;
    // As in the image: nothing but the program itself. Its folder is the root, of which the kernel's files are a part.
    let root = tempfile::tempdir()?;
    std::fs::create_dir(root.path().join("proc"))?;
    let empty = root.path().display().to_string();
    let bare = ask_in(node, &["cleanup", "--kube-proxy", "--root", &empty])?;
    assert_eq!(bare.code, Some(1), "{bare:?}");
    for part in [
        "9 chains in the kernel's table ip nat",
        "the kernel's table ip6 kube-proxy",
        "the device kube-ipvs0",
        "not seen: rules of iptables: iptables-save is not installed here",
    ] {
        assert!(bare.out.contains(part), "{part} is not in\n{}", bare.out);
    }
    assert!(
        bare.error
            .contains("--root names the file system of the node"),
        "{bare:?}"
    );
    // And as `kubectl debug node` mounts the node's own.
    let said = ask_in(node, &["cleanup", "--kube-proxy", "--root", "/"])?;
    assert_eq!((said.code, &*said.error), (Some(0), ""), "{}", said.out);
    Ok(())
}

#[test]
fn the_agent_warns_of_kube_proxys_rules_and_serves_before_them() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    others(lab.node.namespace())?;
    leave(lab.node.namespace())?;
    lab.start_with(&BY_STACK)?;
    let said = wait::until("the agent warns", || {
        let log = lab.agent.as_ref()?.log();
        log.contains("kube-proxy left rules on this node")
            .then_some(log)
    })?;
    let line = said.lines().find(|line| line.contains("left rules"));
    let line = line.context("the line")?;
    assert!(
        line.contains("ERROR") && line.contains("cleanup --kube-proxy"),
        "{line}"
    );
    assert!(
        line.contains("rules and 16 chains of iptables-legacy"),
        "{line}"
    );
    // Their only endpoint is a port where nobody listens.
    for to in lab::tcp(10) {
        assert_eq!(lab.client.get(to)?.pod, "web-11");
    }
    let said = ask_in(lab.node.namespace(), &["doctor"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.out.contains("✗ kube-proxy      it left 25 rules"),
        "{}",
        said.out
    );
    Ok(())
}

#[test]
fn a_policy_of_nftables_on_the_backends_address_holds_for_its_service() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start_with(&BY_STACK)?;
    for to in lab::tcp(10) {
        assert_eq!(lab.client.get(to)?.pod, "web-11");
    }
    // As a CNI has it: nobody but 10.244.0.9 may reach the pods of app web, at the port of the pod.
    let policy = "table inet cni-policy {
      chain forward {
        type filter hook forward priority 0; policy accept;
        ct state established,related accept
        ip saddr 10.244.0.9 ip daddr 10.244.0.11 tcp dport 8080 accept
        ip daddr 10.244.0.11 counter reject with icmp type admin-prohibited
        ip6 daddr fd00:10:244::b counter reject with icmpv6 type admin-prohibited
      }
    }";
    let node = lab.node.namespace();
    run(node, "nft", &["-f", "-"], policy)?;
    for to in lab::tcp(10) {
        let error = lab.client.get(to).expect_err("the policy forbids it");
        assert!(is_prohibited(&error), "{to}: {error:?}");
    }
    let allowed = lab.node.pod(&lab::spec("allowed", 9))?;
    let [v4, v6]: [SocketAddr; 2] = lab::tcp(10);
    let got = wait::until("the new pod has its programs", || allowed.get(v4).ok())?;
    assert_eq!(got.pod, "web-11");
    assert!(is_prohibited(
        &allowed.get(v6).expect_err("by IPv6 it is not allowed")
    ));
    run(node, "nft", &["delete", "table", "inet", "cni-policy"], "")?;
    for to in lab::tcp(10) {
        assert_eq!(lab.client.get(to)?.pod, "web-11");
    }
    Ok(())
}

/// The policy's answer, and no time-out.
fn is_prohibited(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::PermissionDenied
    )
}
