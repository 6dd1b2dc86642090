//! Rules as kube-proxy writes them (v1.33), for services of one endpoint each.
//!
//! One endpoint is the cheapest case for them: neither choice by chance nor affinity. The order of iptables' list is that of the
//! services; kube-proxy's is any.

use std::fmt::Write as _;

use super::services::{POD, POD_CIDR, Services, TCP_PORT, TCP_TARGET, UDP_PORT, UDP_TARGET};

/// Ports of a service: protocol, port, target.
fn ports(services: Services, index: u32) -> Vec<(&'static str, u16, u16)> {
    let mut ports = vec![("tcp", TCP_PORT, TCP_TARGET)];
    if index == services.middle() {
        ports.push(("udp", UDP_PORT, UDP_TARGET));
    }
    ports
}

/// The part of a chain's name that kube-proxy makes of a hash.
fn hash(protocol: &str, index: u32) -> String {
    let letter = protocol.chars().next().unwrap_or('X').to_ascii_uppercase();
    format!("{letter}{index:015}")
}

const IPTABLES_FILTER: &str = "*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";

const IPTABLES_NAT: &str = "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
";

/// For `iptables-restore`.
pub(super) fn iptables(services: Services) -> String {
    let mut chains = String::from(
        "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n",
    );
    let mut rules = String::new();
    for index in 0..services.0 {
        let vip = Services::vip(index);
        for (protocol, port, target) in ports(services, index) {
            let (hash, name) = (
                hash(protocol, index),
                format!("default/s{index}:{protocol}"),
            );
            let _ = writeln!(chains, ":KUBE-SVC-{hash} - [0:0]\n:KUBE-SEP-{hash} - [0:0]");
            let _ = write!(
                rules,
                "-A KUBE-SERVICES -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} -d {vip} --dport \
                 {port} -j KUBE-SVC-{hash}\n\
                 -A KUBE-SVC-{hash} -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} -d {vip} \
                 --dport {port} ! -s {POD_CIDR} -j KUBE-MARK-MASQ\n\
                 -A KUBE-SVC-{hash} -m comment --comment \"{name} -> {POD}:{target}\" -j KUBE-SEP-{hash}\n\
                 -A KUBE-SEP-{hash} -m comment --comment {name} -s {POD} -j KUBE-MARK-MASQ\n\
                 -A KUBE-SEP-{hash} -m comment --comment {name} -m {protocol} -p {protocol} -j DNAT --to-destination \
                 {POD}:{target}\n",
            );
        }
    }
    let last = "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in \
                this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n";
    [IPTABLES_FILTER, &chains, IPTABLES_NAT, rules.as_str(), last].concat()
}

const NFTABLES: &str = "table ip kube-proxy {
  comment \"rules for kube-proxy\"
  set cluster-ips { type ipv4_addr; }
  set nodeport-ips { type ipv4_addr; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  chain reject-chain { reject; }
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain masquerading {
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain cluster-ips-check {
    ip daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"
    ip daddr 10.96.0.0/16 drop comment \"Drop traffic to unallocated ClusterIPs\"
  }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain nodeport-endpoints-check { ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain filter-prerouting {
    type filter hook prerouting priority -110; policy accept;
    ct state new jump firewall-check
  }
  chain filter-input {
    type filter hook input priority -110; policy accept;
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-forward {
    type filter hook forward priority -110; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority -110; policy accept;
    ct state new jump service-endpoints-check
    ct state new jump firewall-check
  }
  chain filter-output-post-dnat {
    type filter hook output priority -90; policy accept;
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
";

/// For `nft -f`.
///
/// Services that are called have the choice by chance that kube-proxy writes. It is an anonymous map, for whose name the kernel
/// searches all others: 5,000 take half a minute to load, and the time goes up with the square of their number. The chains of the
/// other services go to the endpoint at once; no packet meets them.
pub(super) fn nftables(services: Services) -> String {
    let mut chains = String::from(NFTABLES);
    let mut elements = String::new();
    for index in 0..services.0 {
        let vip = Services::vip(index);
        let _ = writeln!(
            elements,
            "add element ip kube-proxy cluster-ips {{ {vip} }}"
        );
        for (protocol, port, target) in ports(services, index) {
            let hash = &hash(protocol, index)[..8];
            let name = format!("{hash}{index}-default/s{index}/{protocol}/{protocol}");
            let endpoint = format!("endpoint-{name}__{POD}/{target}");
            let lead = if services.is_called(index) {
                format!("numgen random mod 1 vmap {{ 0 : goto {endpoint} }}")
            } else {
                format!("goto {endpoint}")
            };
            let _ = write!(
                chains,
                "  chain {endpoint} {{\n    ip saddr {POD} jump mark-for-masquerade\n    meta l4proto {protocol} dnat to \
                 {POD}:{target}\n  }}\n  chain service-{name} {{\n    ip daddr {vip} {protocol} dport {port} ip saddr != \
                 {POD_CIDR} jump mark-for-masquerade\n    {lead}\n  }}\n",
            );
            let _ = writeln!(
                elements,
                "add element ip kube-proxy service-ips {{ {vip} . {protocol} . {port} : goto service-{name} }}"
            );
        }
    }
    chains.push_str("}\n");
    chains.push_str(&elements);
    chains
}
