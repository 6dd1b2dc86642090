//! Node ports as kube-proxy writes them, beside a few services.

use std::fmt::Write as _;

use anyhow::Result;

use super::stage::TARGETS;
use crate::{
    Outside,
    bench::path::{few_iptables, few_nftables, load},
    namespace::Namespace,
};

pub(super) fn iptables(node: &Namespace) -> Result<()> {
    let base = few_iptables();
    let mut text = base.strip_suffix("COMMIT\n").unwrap_or(&base).to_owned();
    for target in TARGETS {
        let (port, pod) = (target.node_port, target.pod);
        let _ = write!(
            text,
            ":KUBE-EXT-{port} - [0:0]\n:KUBE-SVC-{port} - [0:0]\n:KUBE-SEP-{port} - [0:0]\n\
             -A KUBE-NODEPORTS -m comment --comment n{port} -m udp -p udp --dport {port} -j KUBE-EXT-{port}\n\
             -A KUBE-EXT-{port} -m comment --comment \"masquerade traffic for n{port} external destinations\" -j KUBE-MARK-MASQ\n\
             -A KUBE-EXT-{port} -j KUBE-SVC-{port}\n\
             -A KUBE-SVC-{port} -m comment --comment \"n{port} -> {pod}:5353\" -j KUBE-SEP-{port}\n\
             -A KUBE-SEP-{port} -m comment --comment n{port} -s {pod} -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{port} -m comment --comment n{port} -m udp -p udp -j DNAT --to-destination {pod}:5353\n"
        );
    }
    text.push_str("COMMIT\n");
    load(node, "iptables-restore", &[], &text)
}

pub(super) fn nftables(node: &Namespace) -> Result<()> {
    let mut text = few_nftables();
    let own = Outside::node_addresses(1)[0];
    let _ = writeln!(text, "add element ip kube-proxy nodeport-ips {{ {own} }}");
    for target in TARGETS {
        let (port, pod) = (target.node_port, target.pod);
        let _ = write!(
            text,
            "add chain ip kube-proxy endpoint-n{port}\n\
             add rule ip kube-proxy endpoint-n{port} ip saddr {pod} jump mark-for-masquerade\n\
             add rule ip kube-proxy endpoint-n{port} meta l4proto udp dnat to {pod}:5353\n\
             add chain ip kube-proxy service-n{port}\n\
             add rule ip kube-proxy service-n{port} numgen random mod 1 vmap {{ 0 : goto endpoint-n{port} }}\n\
             add chain ip kube-proxy external-n{port}\n\
             add rule ip kube-proxy external-n{port} jump mark-for-masquerade\n\
             add rule ip kube-proxy external-n{port} goto service-n{port}\n\
             add element ip kube-proxy service-nodeports {{ udp . {port} : goto external-n{port} }}\n"
        );
    }
    load(node, "nft", &["-f", "-"], &text)
}
