//! On a machine whose programs print what was written down before.

use std::{cell::RefCell, collections::BTreeMap, io};

use super::{
    Chain, Leftovers, ProgramError, Programs, RuleSet, VirtualService, find, remove, rules, steps,
};

/// Programs by the line one types, with what they print.
#[derive(Default)]
struct Scripted {
    prints: BTreeMap<&'static str, &'static str>,
    chains: Vec<Chain>,
    calls: RefCell<Vec<String>>,
}

impl Programs for Scripted {
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ProgramError> {
        let line = [&[program], arguments].concat().join(" ");
        self.calls.borrow_mut().push(format!("{line}{input}"));
        match self.prints.get(line.as_str()) {
            Some(text) => Ok((*text).to_owned()),
            None => Err(ProgramError::Missing(program.to_owned())),
        }
    }

    fn chains(&self) -> io::Result<Vec<Chain>> {
        Ok(self.chains.clone())
    }
}

fn machine(prints: &[(&'static str, &'static str)]) -> Scripted {
    Scripted {
        prints: prints.iter().copied().collect(),
        chains: Vec::new(),
        calls: RefCell::default(),
    }
}

#[test]
fn a_machine_without_the_programs_says_what_was_not_seen() {
    let found = find(&machine(&[]));
    assert!(found.is_empty());
    assert_eq!(
        found.unseen,
        [
            "rules of iptables: iptables-save is not installed here",
            "rules of ip6tables: ip6tables-save is not installed here",
            "tables of nftables: nft is not installed here",
        ]
    );
    assert_eq!(found.to_string(), "nothing");
}

#[test]
fn where_no_program_is_the_kernel_lists_the_chains() {
    let chain = |family, table: &str, name: &str| Chain {
        family,
        table: table.to_owned(),
        name: name.to_owned(),
    };
    let mut machine = machine(&[]);
    machine.chains = vec![
        chain("ip", "nat", "KUBE-SERVICES"),
        chain("ip", "nat", "KUBE-SVC-ABCDEFGHIJKLMNOP"),
        chain("ip", "nat", "KUBE-MARK-DROP"),
        chain("ip6", "kube-proxy", "services"),
        chain("other", "kube-proxy", "services"),
    ];
    let found = find(&machine);
    assert_eq!(
        found.to_string(),
        "2 chains in the kernel's table ip nat, 1 chains in the kernel's table ip6 kube-proxy"
    );
    assert!(!found.is_empty() && steps(&found).is_empty());
    // What a program tells of is told by it.
    let saved = "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n";
    machine.prints.insert("iptables-nft-save", saved);
    assert_eq!(find(&machine).listed, [("ip6 kube-proxy".to_owned(), 1)]);
}

#[test]
fn the_chosen_back_end_stands_in_where_there_are_no_others() {
    let own = "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n";
    let found = find(&machine(&[
        ("iptables-save", own),
        ("ip6tables-nft-save", ""),
    ]));
    let programs: Vec<&str> = found.rule_sets.iter().map(|it| &*it.program).collect();
    assert_eq!(programs, ["iptables"]);
    assert_eq!(found.unseen.len(), 1, "{:?}", found.unseen);
    let both = [
        ("iptables-nft-save", own),
        ("iptables-legacy-save", own),
        ("iptables-save", own),
    ];
    let found = find(&machine(&both));
    let programs: Vec<&str> = found.rule_sets.iter().map(|it| &*it.program).collect();
    assert_eq!(programs, ["iptables-nft", "iptables-legacy"]);
}

#[test]
fn tables_of_nftables_are_known_by_family_and_name() {
    let ip = r#"{"nftables": [{"metainfo": {}}, {"table": {"family": "ip", "name": "kube-proxy"}},
                 {"table": {"family": "ip", "name": "filter"}}]}"#;
    let ip6 = r#"{"nftables": [{"table": {"family": "ip6", "name": "kube-proxy-2"}}]}"#;
    let inside = r#"{"nftables": [{"table": {}}, {"chain": {}}, {"rule": {}}, {"rule": {}}]}"#;
    let found = find(&machine(&[
        ("nft -j list tables ip", ip),
        ("nft -j list tables ip6", ip6),
        ("nft -j -t list table ip kube-proxy", inside),
    ]));
    assert_eq!(found.tables, [("ip".to_owned(), 2)]);
    let broken = find(&machine(&[("nft -j list tables ip", "no json")]));
    assert!(
        broken
            .unseen
            .iter()
            .any(|it| it.contains("read what nft prints"))
    );
}

#[test]
fn services_of_ipvs_are_kube_proxys_by_its_device_and_its_sets() {
    let saved = "-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 192.0.2.1:6443 -m -w 1\n\
                 -A -t 192.0.2.9:30080 -s rr\n-A -t 192.0.2.9:80 -s wlc\n-A -u [fd00:10:96::a]:53 -s rr\n-A -f 7 -s rr\n";
    let shown = "9: kube-ipvs0    inet 10.96.0.1/32 scope global kube-ipvs0\n\
                 9: kube-ipvs0    inet6 fd00:10:96::a/128 scope global\n";
    let found = find(&machine(&[
        (
            "ipset list -name",
            "KUBE-NODE-PORT-TCP\nKUBE-6-CLUSTER-IP\ncali40s:x\nKUBE-NWPLCY-1\nKUBE-6-\n",
        ),
        (
            "ipset save KUBE-NODE-PORT-TCP",
            "create KUBE-NODE-PORT-TCP bitmap:port range 0-65535\nadd KUBE-NODE-PORT-TCP 30080\n",
        ),
        ("ipvsadm -Sn", saved),
        ("ip -o addr show dev kube-ipvs0", shown),
    ]));
    assert_eq!(found.sets, ["KUBE-NODE-PORT-TCP", "KUBE-6-CLUSTER-IP"]);
    let services: Vec<&str> = found
        .virtual_services
        .iter()
        .map(|it| &*it.address)
        .collect();
    assert_eq!(
        services,
        ["10.96.0.1:443", "192.0.2.9:30080", "[fd00:10:96::a]:53"]
    );
    assert_eq!(found.virtual_services[2].flag, "-u");
}

#[test]
fn each_thing_is_one_call_and_a_failure_does_not_stop_the_others() {
    let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
                 -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\nCOMMIT\n";
    let found = Leftovers {
        rule_sets: vec![RuleSet {
            program: "iptables-nft".to_owned(),
            tables: rules::of_kube_proxy(saved),
        }],
        tables: vec![("ip6".to_owned(), 3)],
        virtual_services: vec![VirtualService {
            flag: "-t".to_owned(),
            address: "10.96.0.1:443".to_owned(),
        }],
        sets: vec!["KUBE-CLUSTER-IP".to_owned()],
        device: true,
        listed: Vec::new(),
        unseen: Vec::new(),
    };
    assert_eq!(
        found.to_string(),
        "1 rules and 1 chains of iptables-nft, the nftables table ip6 kube-proxy with 3 rules, 1 services of ipvs, \
         1 sets of ipset, the device kube-ipvs0"
    );
    let steps = steps(&found);
    let machine = machine(&[("nft delete table ip6 kube-proxy", "")]);
    let errors = remove(&machine, &steps);
    assert_eq!(errors.len(), 4);
    assert_eq!(
        *machine.calls.borrow(),
        [
            "iptables-nft-restore --noflush --wait 5*nat\n:KUBE-SERVICES - [0:0]\n-D PREROUTING -m comment --comment \
             \"kubernetes service portals\" -j KUBE-SERVICES\n-X KUBE-SERVICES\nCOMMIT\n",
            "nft delete table ip6 kube-proxy",
            "ipvsadm -D -t 10.96.0.1:443",
            "ipset destroy KUBE-CLUSTER-IP",
            "ip link delete dev kube-ipvs0",
        ]
    );
}
