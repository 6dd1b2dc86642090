//! `get services`, as kubectl has it.

use std::{net::IpAddr, thread, time::Duration};

use super::{
    super::{
        output::{self, Format},
        reach::{about, ask},
        table::{age, aligned, dash, head, short},
    },
    ServicesArgs, ipvs, nothing, show,
};
use crate::view::{
    Traffic,
    endpoints::Endpoints,
    services::{Port, Service, Services},
};

/// Between two looks of `-w`, and of the two that rates are made of.
const PAUSE: Duration = Duration::from_secs(1);

/// A service, and what went through it in the last second.
type Row<'a> = (&'a Service, Option<Traffic>);

pub(super) fn get(args: &ServicesArgs) -> anyhow::Result<()> {
    let selection = args.wanted.selection();
    let question = about("/v1/services", &selection, &[]);
    let reach = &args.asking.reach;
    let look = || ask::<Services>(reach, &question);
    let first = look()?;
    let everywhere = args.wanted.is_everywhere();
    if args.ipvs {
        let question = about("/v1/endpoints", &selection, &[]);
        let endpoints: Endpoints = ask(reach, &question)?;
        return output::print(&ipvs::table(&first, &endpoints));
    }
    let wide = match args.asking.output {
        Format::Table => false,
        Format::Wide => true,
        format @ (Format::Json | Format::Yaml) => return show(&first, format, |_| String::new()),
    };
    if first.services.is_empty() && !args.watch {
        return output::print(&nothing("services", Some(&args.wanted)));
    }
    if !wide && !args.watch {
        return output::print(&table(&rows(None, &first), everywhere, wide));
    }
    let mut before = first;
    let mut shown: Vec<Vec<String>> = Vec::new();
    if !wide {
        shown = cells(&rows(None, &before), everywhere, wide);
        output::print(&aligned(&shown))?;
    }
    loop {
        thread::sleep(PAUSE);
        let now = look()?;
        let all = cells(&rows(Some(&before), &now), everywhere, wide);
        let changed: Vec<Vec<String>> = all
            .iter()
            .filter(|row| !shown.iter().any(|old| is_same(old, row)))
            .cloned()
            .collect();
        if !changed.is_empty() && !output::print_or_stop(&aligned(&changed))? {
            return Ok(());
        }
        if !args.watch {
            return Ok(());
        }
        (before, shown) = (now, all);
    }
}

/// Whether two rows differ in their age alone, which is the last column.
fn is_same(one: &[String], other: &[String]) -> bool {
    let all_but_age = |row: &[String]| row.split_last().map(|(_, rest)| rest.to_vec());
    all_but_age(one) == all_but_age(other)
}

fn rows<'a>(before: Option<&Services>, now: &'a Services) -> Vec<Row<'a>> {
    let rate = |service: &Service| {
        let mut earlier = before?.services.iter();
        let key = |it: &Service| (it.namespace.clone(), it.name.clone());
        let earlier = earlier.find(|it| key(it) == key(service))?;
        Some(service.traffic.since(&earlier.traffic))
    };
    let all = now.services.iter();
    all.map(|service| (service, rate(service))).collect()
}

pub(super) fn table(rows: &[Row<'_>], everywhere: bool, wide: bool) -> String {
    aligned(&cells(rows, everywhere, wide))
}

fn cells(rows: &[Row<'_>], everywhere: bool, wide: bool) -> Vec<Vec<String>> {
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
