//! `get flows`, as conntrack -L lists them.

use super::{
    super::{
        output::Format,
        reach::{about, ask},
        table::{age, aligned, dash, head},
    },
    FlowsArgs, nothing, show,
};
use crate::view::{
    Selection,
    flows::{FlowView, Flows},
};

pub(super) fn get(args: &FlowsArgs) -> anyhow::Result<()> {
    let limit = (args.limit > 0).then(|| args.limit.to_string());
    let more = [("limit", limit.as_deref())];
    let question = about("/v1/flows", &selection(args), &more);
    let flows: Flows = ask(&args.asking.reach, &question)?;
    let format = args.asking.output;
    show(&flows, format, |flows| table(flows, format == Format::Wide))
}

fn selection(args: &FlowsArgs) -> Selection {
    let namespace = args.namespace.clone();
    match args.service.as_deref() {
        None => Selection {
            namespace,
            name: None,
        },
        Some(service) => match service.split_once('/') {
            Some((namespace, name)) => Selection {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
            },
            None => Selection {
                namespace: if args.all_namespaces {
                    None
                } else {
                    Some(namespace.unwrap_or_else(|| "default".to_owned()))
                },
                name: Some(service.to_owned()),
            },
        },
    }
}

pub(super) fn table(flows: &Flows, wide: bool) -> String {
    let Flows {
        version: _,
        total,
        flows,
    } = flows;
    if flows.is_empty() {
        return nothing("flows", None);
    }
    let mut words = vec![
        "PROTO", "STATE", "IDLE", "CLIENT", "SERVICE", "FRONTEND", "BACKEND",
    ];
    if wide {
        words.extend(["CLIENT-POD", "BACKEND-POD", "CLIENT-PORT", "ANSWERED"]);
    }
    let mut rows = vec![head(&words)];
    rows.extend(flows.iter().map(|flow| row(flow, wide)));
    let mut text = aligned(&rows);
    if flows.len() < *total {
        let listed = flows.len();
        let more = format!("{listed} of {total} flows; --limit 0 lists all\n");
        text.push_str(&more);
    }
    text
}

fn row(flow: &FlowView, wide: bool) -> Vec<String> {
    let service = match (flow.service.as_str(), flow.port_name.as_str()) {
        ("", _) => "-".to_owned(),
        (service, "") => format!("{}/{service}", flow.namespace),
        (service, port) => format!("{}/{service}:{port}", flow.namespace),
    };
    let named = |address: String, pod: &str| {
        if wide || pod.is_empty() {
            address
        } else {
            format!("{address} ({pod})")
        }
    };
    let mut row = vec![
        flow.protocol.clone(),
        flow.state.clone(),
        age(flow.idle_seconds),
        named(flow.client.to_string(), &flow.client_pod),
        service,
        flow.frontend.to_string(),
        named(flow.backend.to_string(), &flow.backend_pod),
    ];
    if wide {
        row.extend([
            dash(&flow.client_pod),
            dash(&flow.backend_pod),
            flow.client_port.to_string(),
            if flow.answered { "yes" } else { "no" }.to_owned(),
        ]);
    }
    row
}
