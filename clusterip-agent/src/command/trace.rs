//! `clusterip trace`: one made-up packet, through the code and the tables that the kernel uses.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use anyhow::bail;
use clap::{Args, ValueEnum as _};
use clusterip_common::abi::{Range, Settings, maps::capacity};

use super::{
    output,
    reach::{Asking, ask},
    run::range_of,
};
use crate::{
    api::client,
    config::{Config, Flags, PLAN},
    model::{allocate::Allocations, resolver::snapshot_of},
    plan::{Index, Layout, Limits},
    source::manifests,
    trace::{End, Question, Trace, Transport, Via, trace},
};

/// A client's port, where none is named.
const CLIENT_PORT: u16 = 40_000;

/// The packet.
#[derive(Args, Debug)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    pub(super) flags: Flags<PLAN>,
    /// Source of the packet; [ADDR]:PORT for IPv6
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end_of)]
    from: (IpAddr, Option<u16>),
    /// Destination of the packet; a ping has no port
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = end_of)]
    to: (IpAddr, Option<u16>),
    /// Its protocol
    #[arg(long, value_enum, default_value_t)]
    protocol: Transport,
    /// TCP's flags: syn, ack, fin, rst, psh, separated by commas
    #[arg(long = "flags", value_name = "FLAG[,FLAG]", default_value = "syn", value_parser = flags_of)]
    tcp_flags: u8,
    /// Who sends it
    #[arg(long, value_enum, default_value_t)]
    via: Via,
    /// Ask the running agent, over what the kernel holds; so it is without --manifests
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    asking: Asking,
}

fn end_of(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Ok((end.ip().to_canonical(), Some(end.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address: Result<IpAddr, _> = bare.unwrap_or(text).parse();
    address
        .map(|address| (address.to_canonical(), None))
        .map_err(|_error| {
            "must be ADDR or ADDR:PORT, such as 10.96.0.10:80 or [fd00::1]:80".to_owned()
        })
}

/// As they stand in the header.
fn flags_of(text: &str) -> Result<u8, String> {
    let flag = |name: &str| match name.trim() {
        "fin" => Some(1),
        "syn" => Some(2),
        "rst" => Some(4),
        "psh" => Some(8),
        "ack" => Some(16),
        _ => None,
    };
    let flags = text.split(',').filter(|name| !name.trim().is_empty());
    flags
        .map(flag)
        .try_fold(0, |all, flag| Some(all | flag?))
        .ok_or_else(|| "must be syn, ack, fin, rst or psh, or several with commas".to_owned())
}

impl TraceArgs {
    /// The packet that is asked for.
    fn question(&self) -> anyhow::Result<Question> {
        let (source, source_port) = self.from;
        let (destination, port) = self.to;
        if source.is_ipv4() != destination.is_ipv4() {
            bail!("--from {source} and --to {destination} are not of one family");
        }
        let port = match (port, self.protocol) {
            (_, Transport::Icmp) => 0,
            (Some(port), _) => port,
            (None, _) => bail!("--to {destination} has no port: --to ADDR:PORT"),
        };
        Ok(Question {
            from: SocketAddr::new(source, source_port.unwrap_or(CLIENT_PORT)),
            to: SocketAddr::new(destination, port),
            protocol: self.protocol,
            flags: self.tcp_flags,
            via: self.via,
        })
    }
}

impl TraceArgs {
    /// Whether the agent is asked, rather than manifests read.
    pub(super) fn is_live(&self) -> bool {
        let given = self.flags.has("manifests") || self.flags.has("config");
        let variables = ["CLUSTERIP_MANIFESTS", "CLUSTERIP_CONFIG"];
        let set = variables.iter().any(|it| super::variable(it).is_some());
        self.live || !given && !set
    }
}

/// Has the agent follow the packet over what the kernel holds.
pub(super) fn live(args: &TraceArgs) -> anyhow::Result<()> {
    let Question {
        from,
        to,
        protocol,
        flags,
        via,
    } = args.question()?;
    let word = |value: &dyn fmt::Display| value.to_string().to_lowercase();
    let via = via
        .to_possible_value()
        .map_or_else(String::new, |it| it.get_name().to_owned());
    let values = [
        ("from", from.to_string()),
        ("to", to.to_string()),
        ("protocol", word(&protocol)),
        ("flags", flags.to_string()),
        ("via", via),
    ];
    let values = values
        .each_ref()
        .map(|(key, text)| (*key, Some(text.as_str())));
    let trace: Trace = ask(&args.asking.reach, &client::question("/v1/trace", &values))?;
    show(args, &trace)
}

fn show(args: &TraceArgs, trace: &Trace) -> anyhow::Result<()> {
    let text = match args.asking.output.encode(trace)? {
        Some(text) => text,
        None => table(trace),
    };
    output::print(&text)
}

/// Follows the packet over what `plan` would program.
pub(super) fn offline(args: &TraceArgs, config: &Config) -> anyhow::Result<()> {
    let question = args.question()?;
    let events = manifests::once(&config.manifests, super::rules(config))?;
    let snapshot = snapshot_of(super::resolver(config, Allocations::default()), events);
    let mut layout = Layout::new(Limits {
        services: capacity::SERVICES,
        backends: capacity::BACKENDS,
        slots: 2 * capacity::BACKENDS,
    });
    layout.set_inside(&snapshot.inside);
    let mut index = Index::default();
    for (name, service) in &snapshot.services {
        if let Err(full) = layout.place(service) {
            for reason in full {
                log::warn!(service:% = name, reason:%; "service does not fit");
            }
        }
        index.update(name, &layout);
    }
    let range = |is_v4: bool| {
        let mut nets = config.service_cidrs.iter();
        let net = nets.find(|net| net.addr().is_ipv4() == is_v4);
        net.map_or(Range::EMPTY, range_of)
    };
    let settings = Settings {
        service_v4: range(true),
        service_v6: range(false),
        // As on a kernel that lets a call be refused by name.
        socket_refuses: 1,
        ..Settings::DEFAULT
    };
    let trace = trace(&question, layout.tables().clone(), settings, &index);
    show(args, &trace)
}

fn table(trace: &Trace) -> String {
    let mut text = String::new();
    for (number, step) in trace.steps.iter().enumerate() {
        let line = format!("{:>2}  {step}\n", number + 1);
        text.push_str(&line);
    }
    let ends = |ends: &[End]| -> String {
        let texts: Vec<String> = ends
            .iter()
            .map(|it| SocketAddr::new(it.address, it.port).to_string())
            .collect();
        texts.join(" ")
    };
    if !trace.backends.is_empty() {
        let line = format!("could be chosen: {}\n", ends(&trace.backends));
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_flags_are_read() {
        for (text, wanted) in [
            ("10.0.0.1", Some(("10.0.0.1", None))),
            ("10.0.0.1:80", Some(("10.0.0.1", Some(80)))),
            ("fd00::1", Some(("fd00::1", None))),
            ("[fd00::1]", Some(("fd00::1", None))),
            ("[fd00::1]:80", Some(("fd00::1", Some(80)))),
            ("::ffff:10.0.0.1", Some(("10.0.0.1", None))),
            ("web", None),
        ] {
            let wanted = wanted.map(|(address, port)| (address.parse().expect(text), port));
            assert_eq!(end_of(text).ok(), wanted, "{text}");
        }
        assert_eq!(flags_of("syn"), Ok(2));
        assert_eq!(flags_of("fin,ack"), Ok(17));
        assert!(flags_of("xmas").is_err());
    }
}
