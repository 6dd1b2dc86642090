//! The ways of a packet from pod to pod that are compared.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::agent;

/// Who translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Nobody: the pod's own address is called.
    Direct,
    /// Nobody, though a service is called.
    Nobody,
    /// Rules of iptables.
    Iptables,
    /// Rules of nftables.
    Nftables,
    /// The agent's programs at the pods' devices, with this value of `--forwarding`.
    Packets(&'static str),
    /// The agent's programs at the sockets of the client's cgroup.
    Sockets,
}

/// One way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    /// As the table has it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// With more services it is not measured.
    pub(super) most: u32,
}

/// All, the one that the others are compared with first.
pub(super) const WAYS: [Way; 6] = [
    Way {
        name: "pod address, direct",
        kind: Kind::Direct,
        most: u32::MAX,
    },
    Way {
        name: "kube-proxy's iptables",
        kind: Kind::Iptables,
        // A list that each new connection goes through, and minutes to load.
        most: 10_000,
    },
    Way {
        name: "kube-proxy's nftables",
        kind: Kind::Nftables,
        most: u32::MAX,
    },
    Way {
        name: "clusterip, stack",
        kind: Kind::Packets("stack"),
        most: u32::MAX,
    },
    Way {
        name: "clusterip, redirect",
        kind: Kind::Packets("redirect"),
        most: u32::MAX,
    },
    Way {
        name: "clusterip, sockets",
        kind: Kind::Sockets,
        most: u32::MAX,
    },
];

/// What the others differ from: a service that nobody translates.
pub(super) const NOBODY: Way = Way {
    name: "nobody",
    kind: Kind::Nobody,
    most: u32::MAX,
};

/// The flag of the agent that says how packets are forwarded.
const FORWARDING: &str = "--forwarding";

/// What the agent can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Abilities {
    has_forwarding: bool,
}

impl Abilities {
    /// Asks the agent.
    pub(super) fn of_agent() -> Result<Self> {
        let help = Command::new(agent::binary()?)
            .args(["run", "--help"])
            .output()
            .context("run clusterip")?;
        ensure!(help.status.success(), "clusterip run --help failed");
        let text = String::from_utf8_lossy(&help.stdout);
        Ok(Self {
            has_forwarding: text.contains(FORWARDING),
        })
    }

    /// Whether a way can be had.
    pub(super) fn can(self, way: &Way) -> bool {
        self.has_forwarding || way.kind != Kind::Packets("redirect")
    }

    /// Arguments of the agent.
    pub(super) fn arguments(self, kind: Kind) -> Vec<&'static str> {
        match kind {
            Kind::Packets(forwarding) if self.has_forwarding => vec![FORWARDING, forwarding],
            _ => Vec::new(),
        }
    }
}

/// What loads the rules, for the table.
pub(in crate::bench) fn versions() -> String {
    let said = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().map(|line| line.trim().to_owned())
    };
    let versions: Vec<String> = ["iptables", "nft"].into_iter().filter_map(said).collect();
    format!(
        "kube-proxy's rules, made by the bench, are loaded by {}.",
        versions.join(" and ")
    )
}
