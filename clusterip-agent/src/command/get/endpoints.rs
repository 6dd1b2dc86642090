//! `get endpoints`

use super::{
    super::{
        output::Format,
        reach::{about, ask},
        table::{dash, head, short},
    },
    EndpointsArgs, nothing,
    watch::{Rows, Show},
};
use crate::view::endpoints::{EndpointView, Endpoints, ProbeView};

pub(super) fn get(args: &EndpointsArgs) -> anyhow::Result<()> {
    let question = about("/v1/endpoints", &args.wanted.selection(), &[]);
    let everywhere = args.wanted.is_everywhere();
    let format = args.asking.output;
    let show = Show {
        format,
        watch: args.watch,
        fleeting: &[],
        nothing: &|| nothing(&args.asking.reach, "endpoints", &args.wanted),
    };
    show.run(
        || ask::<Endpoints>(&args.asking.reach, &question),
        |endpoints| cells(endpoints, everywhere, format == Format::Wide),
    )
}

#[cfg(test)]
pub(super) fn table(endpoints: &Endpoints, everywhere: bool, wide: bool) -> String {
    super::super::table::aligned(&cells(endpoints, everywhere, wide))
}

fn cells(endpoints: &Endpoints, everywhere: bool, wide: bool) -> Rows {
    let mut words = vec![
        "SERVICE", "PORT", "ADDRESS", "STATE", "PROBES", "WEIGHT", "ACTIVE", "INACTIVE", "PACKETS",
        "BYTES",
    ];
    if everywhere {
        words.insert(0, "NAMESPACE");
    }
    if wide {
        words.extend(["FLOWS", "POD", "NODE", "ZONE", "REASON"]);
    }
    let mut all = vec![head(&words)];
    let rows = endpoints.endpoints.iter();
    all.extend(rows.map(|endpoint| row(endpoint, everywhere, wide)));
    all
}

fn row(endpoint: &EndpointView, everywhere: bool, wide: bool) -> Vec<String> {
    let mut row = Vec::new();
    if everywhere {
        row.push(endpoint.namespace.clone());
    }
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), short);
    row.extend([
        endpoint.service.clone(),
        match endpoint.port_name.as_str() {
            "" => endpoint.protocol.clone(),
            name => format!("{name}/{}", endpoint.protocol),
        },
        endpoint.address.to_string(),
        endpoint.state.clone(),
        probes(&endpoint.probes),
        endpoint.weight.to_string(),
        count(endpoint.active_flows),
        count(endpoint.inactive_flows),
        short(endpoint.traffic.packets()),
        short(endpoint.traffic.bytes()),
    ]);
    if wide {
        row.extend([
            short(endpoint.traffic.flows),
            dash(&endpoint.pod),
            dash(&endpoint.node),
            dash(&endpoint.zone),
            dash(&reasons(&endpoint.probes)),
        ]);
    }
    row
}

/// `readiness:passes`; the container too if there are several.
fn probes(probes: &[ProbeView]) -> String {
    let first = probes.first().map(|probe| &probe.container);
    let is_one = probes.iter().all(|probe| Some(&probe.container) == first);
    let all: Vec<String> = probes
        .iter()
        .map(|probe| {
            let of = if is_one {
                String::new()
            } else {
                format!("{}.", probe.container)
            };
            format!("{of}{}:{}", probe.probe, probe.state)
        })
        .collect();
    dash(&all.join(","))
}

fn reasons(probes: &[ProbeView]) -> String {
    let reasons = probes.iter().map(|probe| probe.reason.as_str());
    let reasons: Vec<&str> = reasons.filter(|reason| !reason.is_empty()).collect();
    reasons.join("; ")
}
