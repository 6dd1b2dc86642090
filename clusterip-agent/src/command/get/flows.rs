//! `get flows`, as conntrack -L lists them.

use std::{cell::Cell, io::Write as _};

use super::{
    super::{
        output::Format,
        reach::{about, ask},
        table::{age, dash, head},
    },
    FlowsArgs,
    watch::{Rows, Show},
};
use crate::view::{
    Selection,
    flows::{FlowView, Flows},
};

pub(super) fn get(args: &FlowsArgs) -> anyhow::Result<()> {
    let number = |number: usize| (number > 0).then(|| number.to_string());
    let (limit, offset) = (number(args.limit), number(args.offset));
    let more = [("limit", limit.as_deref()), ("offset", offset.as_deref())];
    let question = about("/v1/flows", &selection(args), &more);
    let format = args.asking.output;
    let rest = Cell::new(0);
    let show = Show {
        format,
        watch: args.watch,
        fleeting: &["IDLE"],
        nothing: &|| "no flows\n".to_owned(),
    };
    show.run(
        || ask::<Flows>(&args.asking.reach, &question),
        |flows| {
            rest.set(flows.total.saturating_sub(args.offset + flows.flows.len()));
            cells(flows, format == Format::Wide)
        },
    )?;
    if rest.get() > 0 {
        // Not on standard output: scripts read one flow a line there.
        let next = args.offset + args.limit;
        let text = format!(
            "{} more flows: --offset {next} goes on, --limit 0 lists all",
            rest.get()
        );
        drop(writeln!(std::io::stderr(), "{text}"));
    }
    Ok(())
}

fn selection(args: &FlowsArgs) -> Selection {
    let namespace = args.namespace.clone();
    match args.service.as_deref().or(args.name.as_deref()) {
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

#[cfg(test)]
pub(super) fn table(flows: &Flows, wide: bool) -> String {
    super::super::table::aligned(&cells(flows, wide))
}

fn cells(flows: &Flows, wide: bool) -> Rows {
    let mut words = vec![
        "PROTO", "STATE", "IDLE", "CLIENT", "SERVICE", "FRONTEND", "BACKEND",
    ];
    if wide {
        words.extend(["CLIENT-POD", "BACKEND-POD", "CLIENT-PORT", "ANSWERED"]);
    }
    let mut rows = vec![head(&words)];
    rows.extend(flows.flows.iter().map(|flow| row(flow, wide)));
    rows
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
