//! Looking for what kube-proxy left. Nothing is changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use nix::net::if_::if_nametoindex;
use serde_json::Value;

use super::{DEVICE, Leftovers, ProgramError, Programs, RuleSet, VirtualService, rules};

/// Programs of iptables of each family, by back end; the last is whichever the machine has chosen, for where there are no others.
const IPTABLES: [[&str; 3]; 2] = [
    ["iptables-nft", "iptables-legacy", "iptables"],
    ["ip6tables-nft", "ip6tables-legacy", "ip6tables"],
];

/// Its sets, without the `KUBE-` or, for IPv6, `KUBE-6-` before each.
const SETS: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];

/// The name of its process.
const PROCESS: &str = "kube-proxy";

/// Looks at the calling thread's network namespace.
#[must_use]
pub fn find(programs: &impl Programs) -> Leftovers {
    let mut found = Leftovers::default();
    for family in IPTABLES {
        rule_sets(programs, &family, &mut found);
    }
    tables(programs, &mut found);
    if !found.unseen.is_empty() {
        listed(programs, &mut found);
    }
    sets(programs, &mut found);
    found.device = if_nametoindex(DEVICE).is_ok();
    if found.device || !found.sets.is_empty() {
        virtual_services(programs, &mut found);
    }
    found
}

fn rule_sets(programs: &impl Programs, [nft, legacy, chosen]: &[&str; 3], found: &mut Leftovers) {
    let mut look = |program: &str| match programs.run(&format!("{program}-save"), &[], "") {
        Ok(saved) => {
            let tables = rules::of_kube_proxy(&saved);
            if !tables.is_empty() {
                let program = program.to_owned();
                found.rule_sets.push(RuleSet { program, tables });
            }
            None
        }
        Err(error) => Some(error),
    };
    let errors = [look(nft), look(legacy)];
    let errors = match errors {
        [
            Some(ProgramError::Missing(_)),
            Some(ProgramError::Missing(_)),
        ] => [look(chosen), None],
        _ => errors,
    };
    for error in errors.into_iter().flatten() {
        let is_optional = matches!(&error, ProgramError::Missing(program) if program != &format!("{chosen}-save"));
        if !is_optional {
            found.unseen.push(format!("rules of {chosen}: {error}"));
        }
    }
}

fn tables(programs: &impl Programs, found: &mut Leftovers) {
    for family in ["ip", "ip6"] {
        match table(programs, family) {
            Ok(rules) => found
                .tables
                .extend(rules.map(|rules| (family.to_owned(), rules))),
            Err(error) => {
                found.unseen.push(format!("tables of nftables: {error}"));
                return;
            }
        }
    }
}

/// What the kernel lists of that of which no program has told.
fn listed(programs: &impl Programs, found: &mut Leftovers) {
    let told: Vec<String> = found
        .rule_sets
        .iter()
        .flat_map(|set| {
            let family = if set.program.starts_with("ip6") {
                "ip6"
            } else {
                "ip"
            };
            set.tables
                .iter()
                .map(move |it| format!("{family} {}", it.table))
        })
        .chain(
            found
                .tables
                .iter()
                .map(|(family, _)| format!("{family} {PROCESS}")),
        )
        .collect();
    let chains = match programs.chains() {
        Ok(chains) => chains,
        Err(error) => {
            found
                .unseen
                .push(format!("chains that the kernel lists: {error}"));
            return;
        }
    };
    let mut tables: BTreeMap<String, usize> = BTreeMap::new();
    for chain in chains {
        let is_own = chain.table == PROCESS || rules::is_of_kube_proxy(&chain.table, &chain.name);
        if is_own && matches!(chain.family, "ip" | "ip6") {
            *tables
                .entry(format!("{} {}", chain.family, chain.table))
                .or_default() += 1;
        }
    }
    tables.retain(|table, _| !told.contains(table));
    found.listed = tables.into_iter().collect();
}

/// The number of rules in its table of a family, if there is one.
fn table(programs: &impl Programs, family: &str) -> Result<Option<usize>, ProgramError> {
    let listed = objects(programs, &["-j", "list", "tables", family])?;
    let is_there = listed.iter().any(|object| {
        object.get("table").is_some_and(|table| {
            let has = |key: &str, value: &str| table.get(key).is_some_and(|it| it == value);
            has("family", family) && has("name", PROCESS)
        })
    });
    if !is_there {
        return Ok(None);
    }
    // Without the elements of maps, which are many.
    let inside = objects(programs, &["-j", "-t", "list", "table", family, PROCESS])?;
    let rules = inside.iter().filter(|object| object.get("rule").is_some());
    Ok(Some(rules.count()))
}

fn objects(programs: &impl Programs, arguments: &[&str]) -> Result<Vec<Value>, ProgramError> {
    let text = programs.run("nft", arguments, "")?;
    let parsed: Result<Value, _> = serde_json::from_str(&text);
    let parsed = parsed.map_err(|source| ProgramError::Output {
        program: "nft".to_owned(),
        source,
    })?;
    match parsed {
        Value::Object(mut all) => match all.remove("nftables") {
            Some(Value::Array(objects)) => Ok(objects),
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

fn sets(programs: &impl Programs, found: &mut Leftovers) {
    // Only ipvs mode has sets: a machine without the program has none.
    let Ok(names) = programs.run("ipset", &["list", "-name"], "") else {
        return;
    };
    let own = names.lines().filter(|name| is_set(name));
    found.sets = own.map(str::to_owned).collect();
}

fn is_set(name: &str) -> bool {
    let name = name.strip_prefix("KUBE-").unwrap_or_default();
    SETS.contains(&name.strip_prefix("6-").unwrap_or(name))
}

fn virtual_services(programs: &impl Programs, found: &mut Leftovers) {
    let saved = match programs.run("ipvsadm", &["-Sn"], "") {
        Ok(saved) => saved,
        Err(error) => {
            found.unseen.push(format!("services of ipvs: {error}"));
            return;
        }
    };
    let shown = programs.run("ip", &["-o", "addr", "show", "dev", DEVICE], "");
    let addresses = addresses(&shown.unwrap_or_default());
    let ports = node_ports(programs, &found.sets);
    found.virtual_services = saved
        .lines()
        .filter_map(|line| service(line, &addresses, &ports))
        .collect();
}

/// Of the output of `ip -o addr`.
fn addresses(shown: &str) -> BTreeSet<IpAddr> {
    let words = shown.split_whitespace();
    words
        .filter_map(|word| word.split('/').next()?.parse().ok())
        .collect()
}

/// Node ports are at the node's own addresses, which are not at the device; but they are in sets.
fn node_ports(programs: &impl Programs, sets: &[String]) -> BTreeSet<u16> {
    let of_ports = sets.iter().filter(|name| name.contains("NODE-PORT"));
    let mut ports = BTreeSet::new();
    for name in of_ports {
        let listed = programs.run("ipset", &["save", name], "");
        let listed = listed.unwrap_or_default();
        // `add KUBE-NODE-PORT-TCP 30080`, `add KUBE-NODE-PORT-SCTP-HASH 192.0.2.1,sctp:30080`
        let added = listed.lines().filter(|line| line.starts_with("add "));
        ports.extend(added.filter_map(|line| {
            let entry = line.split_whitespace().nth(2)?;
            entry.rsplit([',', ':']).next()?.parse::<u16>().ok()
        }));
    }
    ports
}

/// `-A -t 10.96.0.1:443 -s rr`
fn service(
    line: &str,
    addresses: &BTreeSet<IpAddr>,
    ports: &BTreeSet<u16>,
) -> Option<VirtualService> {
    let mut words = line.split_whitespace();
    let (verb, flag, text) = (words.next()?, words.next()?, words.next()?);
    let address: SocketAddr = text.parse().ok()?;
    let is_own = addresses.contains(&address.ip()) || ports.contains(&address.port());
    (verb == "-A" && is_own).then(|| VirtualService {
        flag: flag.to_owned(),
        address: text.to_owned(),
    })
}

/// Numbers of kube-proxy's processes in this network namespace, as far as they can be seen.
#[must_use]
pub fn running() -> Vec<u32> {
    // The thread's own: another thread of this process may be elsewhere.
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let Some(own) = namespace("thread-self") else {
        return Vec::new();
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().into_string().ok());
    processes
        .filter(|process| {
            let name = fs::read_to_string(Path::new("/proc").join(process).join("comm"));
            name.is_ok_and(|name| name.trim_end() == PROCESS)
                && namespace(process).as_ref() == Some(&own)
        })
        .filter_map(|process| process.parse().ok())
        .collect()
}
