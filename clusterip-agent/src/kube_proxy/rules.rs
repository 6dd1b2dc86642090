//! What of an `iptables-save` is kube-proxy's, and the input of `iptables-restore` that takes just that away.

use std::collections::{BTreeMap, BTreeSet};

/// kube-proxy's chains by table, of its iptables mode and its ipvs mode. The kubelet's chains beside them (`KUBE-FIREWALL` of the
/// filter table, `KUBE-MARK-DROP`, `KUBE-KUBELET-CANARY`, `KUBE-IPTABLES-HINT`) are not among them.
const CHAINS: [(&str, &[&str]); 3] = [
    (
        "nat",
        &[
            "KUBE-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-POSTROUTING",
            "KUBE-MARK-MASQ",
            "KUBE-PROXY-CANARY",
            "KUBE-NODE-PORT",
            "KUBE-LOAD-BALANCER",
            // In this table it is ipvs mode's, of before 1.26.
            "KUBE-FIREWALL",
        ],
    ),
    (
        "filter",
        &[
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-FORWARD",
            "KUBE-PROXY-FIREWALL",
            "KUBE-PROXY-CANARY",
            "KUBE-NODE-PORT",
            "KUBE-SOURCE-RANGES-FIREWALL",
            "KUBE-IPVS-FILTER",
            "KUBE-IPVS-OUT-FILTER",
        ],
    ),
    ("mangle", &["KUBE-PROXY-CANARY"]),
];

/// One chain for each service, each endpoint and the like, in the nat table: a hash of 16 letters and digits follows.
const NUMBERED: [&str; 6] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
    "KUBE-XLB-",
];
const HASH: usize = 16;

/// What the rules that lead to its chains are commented with.
const COMMENTS: [&str; 2] = ["kubernetes ", "kube-proxy "];

/// What is kube-proxy's in one table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TableRules {
    /// `nat`
    pub(crate) table: String,
    /// Chains to be taken away.
    pub(crate) chains: BTreeSet<String>,
    /// How many rules are in them.
    pub(crate) rules: usize,
    /// Rules of the kernel's own chains that lead there, each as it was saved without `-A`.
    pub(crate) jumps: Vec<String>,
    /// Chains that stay, since somebody else's rule leads there: by that rule.
    pub(crate) kept: BTreeMap<String, String>,
}

/// What is kube-proxy's in the output of `iptables-save`, by table; tables without anything are left out.
pub(crate) fn of_kube_proxy(saved: &str) -> Vec<TableRules> {
    let tables = saved.split("\n*").map(|part| part.trim_start_matches('*'));
    tables.filter_map(table).collect()
}

/// `text` begins with the table's name.
fn table(text: &str) -> Option<TableRules> {
    let lines = text.lines().skip_while(|line| line.starts_with('#'));
    let mut lines = lines.skip_while(|line| line.is_empty());
    let name = lines.next()?.trim_start_matches('*').trim();
    let mut found = TableRules {
        table: name.to_owned(),
        ..TableRules::default()
    };
    let mut built_in = BTreeSet::new();
    let mut rules: Vec<Rule<'_>> = Vec::new();
    for line in lines {
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let (chain, policy) = (words.next()?, words.next()?);
            if is_of_kube_proxy(name, chain) {
                found.chains.insert(chain.to_owned());
            } else if policy != "-" {
                built_in.insert(chain);
            }
        }
        rules.extend(Rule::read(line));
    }
    let mut held = Vec::new();
    for rule in &rules {
        if found.chains.contains(rule.chain) {
            found.rules += 1;
            continue;
        }
        let Some(target) = rule.target.filter(|it| found.chains.contains(*it)) else {
            continue;
        };
        if built_in.contains(rule.chain) && rule.is_commented() {
            found.jumps.push(rule.text.to_owned());
        } else {
            held.push((target, rule.text));
        }
    }
    // What stays goes on working: with it stays what it leads to, and the chain that acts upon its mark.
    while let Some((chain, reason)) = held.pop() {
        if found.chains.remove(chain) {
            found.kept.insert(chain.to_owned(), reason.to_owned());
            let inside = rules.iter().filter(|rule| rule.chain == chain);
            found.rules -= inside.clone().count();
            held.extend(inside.filter_map(|rule| Some((rule.target?, reason))));
            if chain == "KUBE-MARK-MASQ" {
                held.push(("KUBE-POSTROUTING", reason));
            }
        }
    }
    found.jumps.retain(|jump| {
        let target = Rule::parse(jump).and_then(|rule| rule.target);
        target.is_none_or(|target| !found.kept.contains_key(target))
    });
    let is_any = !(found.chains.is_empty() && found.kept.is_empty());
    is_any.then_some(found)
}

/// Whether a chain of this name in this table is kube-proxy's.
pub(super) fn is_of_kube_proxy(table: &str, chain: &str) -> bool {
    let mut own = CHAINS.iter().filter(|(name, _)| *name == table);
    let is_named = own.any(|(_, chains)| chains.contains(&chain));
    let is_numbered = NUMBERED.iter().any(|prefix| {
        let hash = chain.strip_prefix(prefix);
        hash.is_some_and(|it| it.len() == HASH && it.bytes().all(|b| b.is_ascii_alphanumeric()))
    });
    is_named || table == "nat" && is_numbered
}

/// The input of `iptables-restore --noflush` that takes away what was found, one table at a stroke.
pub(crate) fn removal(tables: &[TableRules]) -> String {
    let mut text = String::new();
    for table in tables {
        let TableRules {
            table,
            chains,
            rules: _,
            jumps,
            kept: _,
        } = table;
        if chains.is_empty() && jumps.is_empty() {
            continue;
        }
        // Declaring a chain anew empties it: then nothing leads from one to another, and any order will do.
        let emptied = chains.iter().map(|chain| format!(":{chain} - [0:0]"));
        let unlinked = jumps.iter().map(|jump| format!("-D {jump}"));
        let removed = chains.iter().map(|chain| format!("-X {chain}"));
        let lines = emptied.chain(unlinked).chain(removed);
        for line in [format!("*{table}")].into_iter().chain(lines) {
            text.push_str(&line);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// A line `-A CHAIN ...`.
struct Rule<'a> {
    chain: &'a str,
    target: Option<&'a str>,
    /// All but the `-A`.
    text: &'a str,
}

impl<'a> Rule<'a> {
    fn read(line: &'a str) -> Option<Self> {
        Self::parse(line.strip_prefix("-A ")?)
    }

    fn parse(text: &'a str) -> Option<Self> {
        // A comment may have any word in it, and comes before the target.
        let behind = text.rsplit_once('"').map_or(text, |(_, behind)| behind);
        let mut words = behind.split_whitespace();
        let target = words
            .by_ref()
            .find(|word| matches!(*word, "-j" | "-g"))
            .and_then(|_| words.next());
        Some(Self {
            chain: text.split_whitespace().next()?,
            target,
            text,
        })
    }

    fn is_commented(&self) -> bool {
        let comment = self.text.split("--comment \"").nth(1);
        comment.is_some_and(|it| COMMENTS.iter().any(|begin| it.starts_with(begin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iptables mode writes it, beside the kubelet's and a CNI's.
    const SAVED: &str = "# Generated by iptables-save v1.8.9 (nf_tables)
*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-MARK-DROP - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SVC-MINE - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A POSTROUTING -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment \"flanneld masq -j KUBE-SERVICES\" -j MASQUERADE
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment \"default/kubernetes:https\" -m tcp -j DNAT --to-destination 192.0.2.1:6443
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SVC-NPX46M4PTMTKRN6Y -m comment --comment \"default/kubernetes:https -> 192.0.2.1:6443\" -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
# Completed
";

    #[test]
    fn only_kube_proxys_chains_and_the_rules_that_lead_there_are_taken() {
        let found = of_kube_proxy(SAVED);
        let tables: Vec<&str> = found.iter().map(|it| it.table.as_str()).collect();
        assert_eq!(tables, ["mangle", "nat", "filter"]);
        assert_eq!(
            removal(&found),
            "*mangle
:KUBE-PROXY-CANARY - [0:0]
-X KUBE-PROXY-CANARY
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-D OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-D POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-X KUBE-MARK-MASQ
-X KUBE-POSTROUTING
-X KUBE-SEP-AAAAAAAAAAAAAAAA
-X KUBE-SERVICES
-X KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-D FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-X KUBE-FORWARD
COMMIT
"
        );
        let nat = &found[1];
        assert_eq!((nat.rules, nat.jumps.len(), nat.kept.len()), (5, 3, 0));
    }

    #[test]
    fn a_chain_that_others_lead_to_stays_with_what_it_needs() {
        let rule = "CNI-HOSTPORT-DNAT -s 10.244.0.0/16 -j KUBE-MARK-MASQ";
        let others = SAVED.replace(
            "-A KUBE-MARK-DROP",
            &format!("-A {rule}\n-A KUBE-MARK-DROP"),
        );
        let found = of_kube_proxy(&others);
        let nat = &found[1];
        let kept: Vec<(&str, &str)> = nat.kept.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(kept, [("KUBE-MARK-MASQ", rule), ("KUBE-POSTROUTING", rule)]);
        let removal = removal(&found);
        assert!(!removal.contains("POSTROUTING"), "{removal}");
        assert!(!removal.contains("MASQ") && removal.contains("-X KUBE-SERVICES"));
        assert_eq!((nat.rules, nat.jumps.len()), (3, 2));
        // A rule into a service's chain keeps that chain, its endpoints', and no other.
        let mine = "-A PREROUTING -p tcp -j KUBE-SVC-NPX46M4PTMTKRN6Y\n-A KUBE-MARK-DROP";
        let found = of_kube_proxy(&SAVED.replace("-A KUBE-MARK-DROP", mine));
        let kept: Vec<&String> = found[1].kept.keys().collect();
        assert_eq!(
            kept,
            ["KUBE-SEP-AAAAAAAAAAAAAAAA", "KUBE-SVC-NPX46M4PTMTKRN6Y"]
        );
        assert!(found[1].chains.contains("KUBE-SERVICES"));
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let kubelet = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-MARK-DROP - [0:0]\nCOMMIT\n";
        for text in [
            "",
            "# Table `kube-proxy' is incompatible, use 'nft' tool.\n",
            kubelet,
        ] {
            assert_eq!(of_kube_proxy(text), []);
        }
        assert_eq!(removal(&[]), "");
    }
}
