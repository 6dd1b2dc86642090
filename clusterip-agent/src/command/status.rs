//! `clusterip status`: how the agent is, on one page or in one line.

use super::{
    output,
    reach::{self, Asking},
    table::{age, aligned, short},
};
use crate::view::{
    interfaces::InterfaceView,
    status::{LostView, MapView, OutcomeView, SourceView, Status},
};

/// Prints it; true if all is well.
pub(super) fn status(asking: &Asking, brief: bool) -> anyhow::Result<bool> {
    let status: Status = reach::ask(&asking.reach, "/v1/status")?;
    let text = match asking.output.encode(&status)? {
        Some(text) => text,
        None if brief => line(&status),
        None => page(&status),
    };
    output::print(&text)?;
    Ok(status.healthy)
}

/// Why it is not healthy; empty if it is.
fn complaints(status: &Status) -> Vec<String> {
    let mut all = Vec::new();
    if !status.source.synced {
        let why = status.source.lost.as_ref();
        let why = why.map_or_else(String::new, |lost| format!(": {}", lost.reason));
        all.push(format!("the source has not been read to its end yet{why}"));
    } else if !status.dataplane.programmed {
        all.push("the maps do not follow: see the agent's log".to_owned());
    }
    match status.dataplane.waiting {
        0 => {}
        1 => all.push("1 service does not fit into the maps".to_owned()),
        n => all.push(format!("{n} services do not fit into the maps")),
    }
    if status.interfaces.is_none() {
        all.push("the devices were not looked at yet".to_owned());
    }
    all
}

fn counts(status: &Status) -> String {
    format!(
        "{} services, {} frontends, {} backends, {} interfaces, {} problems",
        status.source.services,
        status.dataplane.frontends,
        status.dataplane.backends,
        status.interfaces.as_ref().map_or(0, Vec::len),
        status.problems.len()
    )
}

fn line(status: &Status) -> String {
    if status.healthy {
        format!("healthy: {}\n", counts(status))
    } else {
        format!(
            "not healthy: {}; {}\n",
            complaints(status).join("; "),
            counts(status)
        )
    }
}

fn page(status: &Status) -> String {
    let Status {
        version: _,
        healthy,
        agent,
        source,
        dataplane,
        maps,
        interfaces,
        uplinks,
        outcomes,
        problems,
    } = status;
    let health = if *healthy {
        "healthy".to_owned()
    } else {
        format!("not healthy: {}", complaints(status).join("; "))
    };
    let facts = [
        ("status", health),
        (
            "agent",
            format!(
                "clusterip {} (ABI {}), process {}, up {}, node {}, kernel {}",
                agent.version,
                agent.abi,
                agent.pid,
                age(agent.age_seconds),
                agent.node,
                agent.kernel
            ),
        ),
        (
            "source",
            format!(
                "{} {}: {}, {} services, {} pod addresses",
                source.kind,
                source.place,
                if source.synced {
                    "read"
                } else {
                    "not read to its end yet"
                },
                source.services,
                source.pod_addresses
            ),
        ),
        ("API server", server(source)),
        (
            "dataplane",
            format!(
                "{}, {} frontends, {} backends{}; {}, sockets {}, forwarding {}{}, pinned below {}",
                if dataplane.programmed {
                    "follows"
                } else {
                    "does not follow"
                },
                dataplane.frontends,
                dataplane.backends,
                match dataplane.unserved {
                    0 => String::new(),
                    n => format!(
                        ", {n} services with node ports that are not served: the node's addresses are not known"
                    ),
                },
                agent.mode,
                agent.socket_lb,
                agent.forwarding,
                match agent.direct_return.as_str() {
                    "" | "off" => String::new(),
                    how => format!(", direct server return {how}"),
                },
                agent.bpffs
            ),
        ),
        ("interfaces", devices(interfaces.as_deref())),
        ("uplinks", each(uplinks)),
    ];
    let mut rows: Vec<Vec<String>> = facts
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(word, text)| vec![word.to_owned(), text])
        .collect();
    if problems.is_empty() {
        rows.push(vec!["problems".to_owned(), "none".to_owned()]);
    }
    let mut text = aligned(&rows);
    text.push_str("maps\n");
    text.push_str(&indented(&maps.iter().filter_map(map).collect::<Vec<_>>()));
    text.push_str("outcomes\n");
    text.push_str(&indented(&outcomes.iter().map(outcome).collect::<Vec<_>>()));
    if !problems.is_empty() {
        text.push_str("problems\n");
        for problem in problems {
            text.push_str("  ");
            text.push_str(&problem.to_string());
            text.push('\n');
        }
    }
    text
}

/// How many devices have hooks, and which.
fn devices(names: Option<&[String]>) -> String {
    match names {
        None => "not looked at yet".to_owned(),
        Some([]) => "none; --pod-interfaces says which may have hooks".to_owned(),
        Some(names) => format!("{}: {}", names.len(), names.join(" ")),
    }
}

/// How each uplink has its hooks.
fn each(uplinks: &[InterfaceView]) -> String {
    let each = uplinks.iter().map(|it| {
        let InterfaceView {
            name, mode, driver, ..
        } = it;
        format!("{name} {mode}, at the driver {driver}")
    });
    each.collect::<Vec<_>>().join("; ")
}

/// How the API server is reached; empty if there is none.
fn server(source: &SourceView) -> String {
    match &source.lost {
        Some(LostView { since, reason }) => {
            format!(
                "{} lost since {since:.0}: {reason}; what it said before stays in force",
                source.server
            )
        }
        None => source.server.clone(),
    }
}

/// Maps whose use means something; the rest are counters and arrays.
fn map(map: &MapView) -> Option<Vec<String>> {
    let (entries, percent) = (map.entries?, map.percent?);
    Some(vec![
        map.name.clone(),
        format!("{entries}/{}", map.capacity),
        format!("{percent}%"),
        map.help.clone(),
    ])
}

fn outcome(outcome: &OutcomeView) -> Vec<String> {
    vec![
        outcome.outcome.clone(),
        short(outcome.packets),
        outcome.help.clone(),
    ]
}

fn indented(rows: &[Vec<String>]) -> String {
    let text = aligned(rows);
    let lines = text.lines().map(|line| format!("  {line}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(change: impl FnOnce(&mut Value)) -> Status {
        let mut document = json!({
            "version": 1, "healthy": true,
            "agent": {
                "version": "1.2.3", "abi": 7, "kernel": "6.12.1", "node": "node-a", "pid": 42, "ageSeconds": 300,
                "mode": "tcx", "socketLb": "host", "forwarding": "stack", "bpffs": "/sys/fs/bpf/clusterip",
            },
            "source": {"kind": "manifests", "place": "/m", "synced": true, "services": 1, "podAddresses": 4},
            "dataplane": {"programmed": true, "waiting": 0, "frontends": 4, "backends": 8},
            "maps": [
                {"name": "FLOWS", "help": "5-tuple -> translation", "entries": 66, "capacity": 100, "percent": 66},
                {"name": "CURSORS", "help": "x", "entries": null, "capacity": 5, "percent": null},
            ],
            "interfaces": ["veth1", "veth2"],
            "outcomes": [{"outcome": "new-flow", "help": "A flow chose a backend.", "packets": 12_345, "bytes": 1}],
            "problems": [],
        });
        change(&mut document);
        serde_json::from_value(document).expect("a document")
    }

    #[test]
    fn a_page_tells_everything() {
        assert_eq!(
            page(&status(|_| {})),
            "\
status      healthy
agent       clusterip 1.2.3 (ABI 7), process 42, up 5m, node node-a, kernel 6.12.1
source      manifests /m: read, 1 services, 4 pod addresses
dataplane   follows, 4 frontends, 8 backends; tcx, sockets host, forwarding stack, pinned below /sys/fs/bpf/clusterip
interfaces  2: veth1 veth2
problems    none
maps
  FLOWS  66/100  66%  5-tuple -> translation
outcomes
  new-flow  12.3k  A flow chose a backend.
"
        );
    }

    #[test]
    fn a_line_says_why_it_is_not_healthy() {
        assert_eq!(
            line(&status(|_| {})),
            "healthy: 1 services, 4 frontends, 8 backends, 2 interfaces, 0 problems\n"
        );
        let sick = status(|document| {
            document["healthy"] = json!(false);
            document["dataplane"]["programmed"] = json!(false);
            document["dataplane"]["waiting"] = json!(2);
            document["interfaces"] = Value::Null;
        });
        assert_eq!(
            line(&sick),
            "not healthy: the maps do not follow: see the agent's log; 2 services do not fit into the maps; the devices \
             were not looked at yet; 1 services, 4 frontends, 8 backends, 0 interfaces, 0 problems\n"
        );
    }
}
