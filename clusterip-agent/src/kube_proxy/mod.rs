//! What kube-proxy leaves in the kernel of a node: rules of iptables and nftables, ipvs with its sets and its device. It would
//! translate what the agent passes on, so it is named where the agent starts, and can be taken away.

mod chains;
mod find;
mod programs;
mod remove;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

pub use chains::Chain;
pub use find::{find, running};
pub use programs::{Installed, ProgramError, Programs};
pub use remove::{Step, remove, steps};

use self::rules::TableRules;

/// The device that has the service addresses in ipvs mode.
pub(crate) const DEVICE: &str = "kube-ipvs0";

/// Rules of one back end of iptables and one address family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleSet {
    /// `iptables-nft`: with `-save` and `-restore` it is the two programs.
    pub program: String,
    tables: Vec<TableRules>,
}

impl RuleSet {
    /// How many rules go away, those that lead to its chains among them.
    #[must_use]
    pub fn rules(&self) -> usize {
        let of_tables = self.tables.iter().map(|it| it.rules + it.jumps.len());
        of_tables.sum()
    }

    /// How many chains go away.
    #[must_use]
    pub fn chains(&self) -> usize {
        self.tables.iter().map(|it| it.chains.len()).sum()
    }

    /// Chains that stay since somebody else's rule leads there, as table, chain and that rule.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.tables.iter().flat_map(|it| {
            let kept = it.kept.iter();
            kept.map(|(chain, rule)| (it.table.as_str(), chain.as_str(), rule.as_str()))
        })
    }

    fn is_all_kept(&self) -> bool {
        self.chains() == 0
    }
}

/// A service of ipvs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VirtualService {
    /// `-t`, `-u` or `--sctp-service`
    pub flag: String,
    /// `10.96.0.1:443`
    pub address: String,
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leftovers {
    /// Of iptables.
    pub rule_sets: Vec<RuleSet>,
    /// Families of its tables of nftables, `ip` or `ip6`, with the number of rules in each.
    pub tables: Vec<(String, usize)>,
    /// Services of ipvs.
    pub virtual_services: Vec<VirtualService>,
    /// Names of sets of ipset.
    pub sets: Vec<String>,
    /// Whether there is its device.
    pub device: bool,
    /// Chains that the kernel lists where no program could be asked, as family and table with their number. They cannot be taken away
    /// from here.
    pub listed: Vec<(String, usize)>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

impl Leftovers {
    /// Whether nothing was found, as far as could be seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            rule_sets,
            tables,
            virtual_services,
            sets,
            device,
            listed,
            unseen: _,
        } = self;
        rule_sets.iter().all(RuleSet::is_all_kept)
            && tables.is_empty()
            && virtual_services.is_empty()
            && sets.is_empty()
            && !device
            && listed.is_empty()
    }
}

/// What was found, in half a sentence.
impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule_sets,
            tables,
            virtual_services,
            sets,
            device,
            listed,
            unseen: _,
        } = self;
        let mut parts: Vec<String> = Vec::new();
        for set in rule_sets.iter().filter(|set| !set.is_all_kept()) {
            let (rules, chains) = (set.rules(), set.chains());
            parts.push(format!(
                "{rules} rules and {chains} chains of {}",
                set.program
            ));
        }
        for (family, rules) in tables {
            parts.push(format!(
                "the nftables table {family} kube-proxy with {rules} rules"
            ));
        }
        if !virtual_services.is_empty() {
            parts.push(format!("{} services of ipvs", virtual_services.len()));
        }
        if !sets.is_empty() {
            parts.push(format!("{} sets of ipset", sets.len()));
        }
        for (table, chains) in listed {
            parts.push(format!("{chains} chains in the kernel's table {table}"));
        }
        if *device {
            parts.push(format!("the device {DEVICE}"));
        }
        if parts.is_empty() {
            parts.push("nothing".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}
