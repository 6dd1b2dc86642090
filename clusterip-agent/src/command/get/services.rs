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
    listing::{Listed, Listing},
    services::{Service, Services},
};

/// Between the two looks that rates are made of.
const PAUSE: Duration = Duration::from_secs(1);

/// A service, and what went through it in the last second.
type Row<'a> = (&'a Service, Option<Traffic>);
/// Its columns that are always there: those before, and those after what only wide tables have.
type Common = (Vec<String>, String);

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
    let show = Show {
        format,
        watch: args.watch,
        fleeting: &["AGE"],
        nothing: &|| nothing(reach, "services", &args.wanted),
    };
    if format == Format::Table {
        let question = about("/v1/services/listing", &selection, &[]);
        return show.run(
            || ask::<Listing>(reach, &question),
            |now| narrow(&now.services, everywhere),
        );
    }
    let before = RefCell::new(None);
    if format == Format::Wide {
        // Rates are made of two looks.
        before.replace(Some(look()?));
        thread::sleep(PAUSE);
    }
    show.run(look, |now| {
        let cells = wide(&rows(before.borrow().as_ref(), now), everywhere);
        before.replace(Some(now.clone()));
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

pub(super) fn narrow(services: &[Listed], everywhere: bool) -> Rows {
    let row = |service| {
        let (mut row, age) = common(service, everywhere);
        row.push(age);
        row
    };
    let all = services.iter().map(row);
    std::iter::once(words(everywhere, &[])).chain(all).collect()
}

pub(super) fn wide(rows: &[Row<'_>], everywhere: bool) -> Rows {
    let more = [
        "ALGORITHM",
        "AFFINITY",
        "POLICY",
        "EXTERNAL-IP",
        "ANNOUNCED-BY",
        "FLOWS",
        "FLOWS/S",
        "PACKETS/S",
        "BYTES/S",
    ];
    let all = rows.iter().map(|row| wide_row(row, everywhere));
    std::iter::once(words(everywhere, &more))
        .chain(all)
        .collect()
}

fn words(everywhere: bool, more: &[&str]) -> Vec<String> {
    let namespace: &[&str] = if everywhere { &["NAMESPACE"] } else { &[] };
    let first = ["NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "ENDPOINTS"];
    head(&[namespace, &first, more, &["AGE"]].concat())
}

fn common(service: &Listed, everywhere: bool) -> Common {
    let mut row = Vec::with_capacity(7);
    if everywhere {
        row.push(service.namespace.clone());
    }
    row.extend([
        service.name.clone(),
        service.service_type.clone(),
        dash(&service.cluster_ip),
        dash(&service.ports),
        format!("{}/{}", service.endpoints_chosen, service.endpoints_listed),
    ]);
    (row, age(service.age_seconds))
}

fn wide_row((service, rate): &Row<'_>, everywhere: bool) -> Vec<String> {
    let (mut row, age) = common(&Listed::from(*service), everywhere);
    let figure = |of: fn(&Traffic) -> u64| {
        let rate = rate.as_ref().map(|rate| short(of(rate)));
        rate.unwrap_or_else(|| "-".to_owned())
    };
    row.extend([
        service.algorithm.clone(),
        match service.affinity_seconds {
            0 => "-".to_owned(),
            seconds => format!("{seconds}s"),
        },
        service.internal_traffic_policy.clone(),
        joined(service.external_ips.iter().map(IpAddr::to_string)),
        joined(service.announced.iter().map(|it| {
            let node = it.node.clone();
            node.unwrap_or_else(|| "nobody".to_owned())
        })),
        short(service.traffic.flows),
        figure(|rate| rate.flows),
        figure(Traffic::packets),
        figure(Traffic::bytes),
        age,
    ]);
    row
}

/// One after the other, as the addresses are; those of both families may have the same node.
fn joined(texts: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = texts.collect();
    all.dedup();
    dash(&all.join(","))
}
