//! `clusterip version`: of this program, of the pinned layout, of the kernel; and of the agent that runs.

use std::path::Path;

use clusterip_common::abi;
use nix::sys::utsname::uname;
use serde::Serialize;

use super::{
    output::{self, Format},
    reach,
};
use crate::{api::client, view::status::AgentFacts};

/// `version -o json`
#[derive(Serialize)]
struct Versions {
    version: u32,
    client: AgentFacts,
    /// None if no agent answers.
    agent: Option<AgentFacts>,
}

/// What this program is, and what it runs on.
pub(super) fn facts() -> AgentFacts {
    let kernel = uname().map(|name| name.release().to_string_lossy().into_owned());
    AgentFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi: abi::VERSION,
        kernel: kernel.unwrap_or_default(),
        ..AgentFacts::default()
    }
}

/// Tells the versions. That no agent answers is no error.
pub(super) fn version(socket: &Path, format: Format) -> anyhow::Result<()> {
    let agent = reach::run(client::ask::<AgentFacts>(socket, "/v1/version"))?.ok();
    let versions = Versions {
        version: crate::view::VERSION,
        client: facts(),
        agent,
    };
    let text = match format.encode(&versions)? {
        Some(text) => text,
        None => text(&versions),
    };
    output::print(&text)
}

fn text(versions: &Versions) -> String {
    let AgentFacts {
        version,
        abi,
        kernel,
        ..
    } = &versions.client;
    let mut text = format!("clusterip {version}\nABI       {abi}\nkernel    {kernel}\n");
    if let Some(agent) = &versions.agent {
        let AgentFacts {
            version, abi, pid, ..
        } = agent;
        let more = format!("agent     {version} (ABI {abi}, process {pid})\n");
        text.push_str(&more);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_told_of_if_it_answers() {
        let client = AgentFacts {
            version: "1.2.3".into(),
            abi: 7,
            kernel: "6.1.0".into(),
            ..AgentFacts::default()
        };
        let mut versions = Versions {
            version: 1,
            client: client.clone(),
            agent: None,
        };
        let alone = "clusterip 1.2.3\nABI       7\nkernel    6.1.0\n";
        assert_eq!(text(&versions), alone);
        versions.agent = Some(AgentFacts { pid: 42, ..client });
        let both = format!("{alone}agent     1.2.3 (ABI 7, process 42)\n");
        assert_eq!(text(&versions), both);
    }
}
