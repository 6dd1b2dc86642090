//! `get services`, as kubectl has it.

use std::{cell::RefCell, collections::HashMap, net::IpAddr, thread, time::Duration};

use super::{
    super::{
        output::{self, Format},
        reach::{about, ask},
        table::{age, dash, head, short},
    },
    ServicesArgs, ipvs, nothing,
    watch::{Rows, Show},
};
use crate::view::{
    Traffic,
    endpoints::Endpoints,
    services::{Port, Service, Services},
};

/// Between the two looks that rates are made of.
const PAUSE: Duration = Duration::from_secs(1);

/// A service, and what went through it in the last second.
type Row<'a> = (&'a Service, Option<Traffic>);

pub(super) fn get(args: &ServicesArgs) -> anyhow::Result<()> {
    let selection = args.wanted.selection();
    let question = about("/v1/services", &selection, &[]);
    let reach = &args.asking.reach;
    let look = || ask::<Services>(reach, &question);
    let everywhere = args.wanted.is_everywhere();
    if args.ipvs {
        let (first, question) = (look()?, about("/v1/endpoints", &selection, &[]));
        let endpoints: Endpoints = ask(reach, &question)?;
        return output::print(&ipvs::table(&first, &endpoints));
    }
    let format = args.asking.output;
    let before = RefCell::new(None);
    if format == Format::Wide {
        // Rates are made of two looks.
        before.replace(Some(look()?));
        thread::sleep(PAUSE);
    }
    let show = Show {
        format,
        watch: args.watch,
        fleeting: &["AGE"],
        nothing: &|| nothing(reach, "services", &args.wanted),
    };
    show.run(look, |now| {
        let all = rows(before.borrow().as_ref(), now);
        let cells = cells(&all, everywhere, format == Format::Wide);
        if format == Format::Wide {
            before.replace(Some(now.clone()));
        }
        cells
    })
}

fn rows<'a>(before: Option<&Services>, now: &'a Services) -> Vec<Row<'a>> {
    let before = before.into_iter().flat_map(|all| &all.services);
    let before: HashMap<(&str, &str), &Traffic> = before
        .map(|it| ((it.namespace.as_str(), it.name.as_str()), &it.traffic))
        .collect();
    let rate = |service: &Service| {
        let earlier = before.get(&(service.namespace.as_str(), service.name.as_str()))?;
        Some(service.traffic.since(earlier))
    };
    let all = now.services.iter();
    all.map(|service| (service, rate(service))).collect()
}

#[cfg(test)]
pub(super) fn table(rows: &[Row<'_>], everywhere: bool, wide: bool) -> String {
    super::super::table::aligned(&cells(rows, everywhere, wide))
}

fn cells(rows: &[Row<'_>], everywhere: bool, wide: bool) -> Rows {
    let mut words = vec!["NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "ENDPOINTS"];
    if everywhere {
        words.insert(0, "NAMESPACE");
    }
    if wide {
        words.extend([
            "ALGORITHM",
            "AFFINITY",
            "POLICY",
            "FLOWS",
            "FLOWS/S",
            "PACKETS/S",
            "BYTES/S",
        ]);
    }
    words.push("AGE");
    let mut all = vec![head(&words)];
    all.extend(rows.iter().map(|row| cell(row, everywhere, wide)));
    all
}

fn cell((service, rate): &Row<'_>, everywhere: bool, wide: bool) -> Vec<String> {
    let mut row = Vec::new();
    if everywhere {
        row.push(service.namespace.clone());
    }
    row.push(service.name.clone());
    row.push(service.service_type.clone());
    row.push(addresses(service));
    row.push(dash(&ports(&service.ports)));
    row.push(format!(
        "{}/{}",
        service.endpoints_chosen, service.endpoints_listed
    ));
    if wide {
        row.push(service.algorithm.clone());
        row.push(match service.affinity_seconds {
            0 => "-".to_owned(),
            seconds => format!("{seconds}s"),
        });
        row.push(service.internal_traffic_policy.clone());
        row.push(short(service.traffic.flows));
        let figure = |of: fn(&Traffic) -> u64| {
            let rate = rate.as_ref().map(|rate| short(of(rate)));
            rate.unwrap_or_else(|| "-".to_owned())
        };
        row.push(figure(|rate| rate.flows));
        row.push(figure(Traffic::packets));
        row.push(figure(Traffic::bytes));
    }
    row.push(age(service.age_seconds));
    row
}

fn addresses(service: &Service) -> String {
    if service.service_type == "ExternalName" {
        return dash(&service.external_name);
    }
    let all: Vec<String> = service.cluster_ips.iter().map(IpAddr::to_string).collect();
    if all.is_empty() {
        "None".to_owned()
    } else {
        all.join(",")
    }
}

fn ports(ports: &[Port]) -> String {
    let all: Vec<String> = ports
        .iter()
        .map(|port| match port.node_port {
            Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
            None => format!("{}/{}", port.port, port.protocol),
        })
        .collect();
    all.join(",")
}
