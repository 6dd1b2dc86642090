//! Values of options: from text, with what is allowed if it is wrong.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use hickory_proto::rr::Name;
use ipnet::IpNet;
use serde::Serialize;

use crate::dns::forward::address;
use crate::model::{exposure::NodePortAddresses, service::Algorithm, validate};

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object in each line.
    Json,
}

/// Whose sockets are translated in their calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketLb {
    /// Those of the agent's own network namespace.
    Host,
    /// Those of every one.
    All,
    /// None.
    Off,
}

/// How translated packets go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// By the node's stack.
    Stack,
    /// Past it where that can be.
    Redirect,
}

/// Which backends on other nodes answer clients from outside themselves, past the node that was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectReturn {
    /// None: the node that was called stands for the client.
    Off,
    /// This node's, for clients that other nodes forward to them.
    Accept,
    /// Other nodes' as well, for clients that call this one.
    On,
}

impl DirectReturn {
    /// As the flag has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Accept => "accept",
            Self::On => "on",
        }
    }
}

/// Which questions to the resolver are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsLog {
    /// None.
    Off,
    /// Those that could not be answered: neither success nor denial.
    Errors,
    /// All.
    All,
}

/// How uplinks are guarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkMode {
    /// By TC.
    Tc,
    /// By TC, and at the driver where it has native XDP that nobody uses.
    Auto,
    /// Not at all.
    Off,
}

/// Where API servers listen that nobody moved.
const API_SERVER_PORT: u16 = 6443;
/// Characters of a device's name, less the ending zero.
const DEVICE_NAME: usize = 15;

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("must be a path".to_owned());
    }
    Ok(text.into())
}

/// An empty path is none.
pub(super) fn path_or_none(text: &str) -> Result<PathBuf, String> {
    optional_path(text).map(Option::unwrap_or_default)
}

pub(super) fn optional_path(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    path(text).map(Some)
}

pub(super) fn optional_class(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    validate::qualified_name(text)?;
    Ok(Some(text.to_owned()))
}

pub(super) fn socket_lb(text: &str) -> Result<SocketLb, String> {
    match text {
        "host" => Ok(SocketLb::Host),
        "all" => Ok(SocketLb::All),
        "off" => Ok(SocketLb::Off),
        _ => Err("must be host, all or off".to_owned()),
    }
}

pub(super) fn forwarding(text: &str) -> Result<Forwarding, String> {
    match text {
        "stack" => Ok(Forwarding::Stack),
        "redirect" => Ok(Forwarding::Redirect),
        _ => Err("must be stack or redirect".to_owned()),
    }
}

pub(super) fn direct_return(text: &str) -> Result<DirectReturn, String> {
    let all = [DirectReturn::Off, DirectReturn::Accept, DirectReturn::On];
    let named = all.into_iter().find(|value| value.name() == text);
    named.ok_or_else(|| "must be off, accept or on".to_owned())
}

pub(super) fn uplink_mode(text: &str) -> Result<UplinkMode, String> {
    match text {
        "tc" => Ok(UplinkMode::Tc),
        "auto" => Ok(UplinkMode::Auto),
        "off" => Ok(UplinkMode::Off),
        _ => Err("must be tc, auto or off".to_owned()),
    }
}

pub(super) fn node_name(text: &str) -> Result<String, String> {
    validate::dns_name(text)?;
    Ok(text.to_owned())
}

/// Names of nodes are written in lower case.
pub(super) fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
        .to_lowercase()
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

pub(super) fn ranges(text: &str) -> Result<Vec<IpNet>, String> {
    items(text)
        .map(|item| validate::cidr(item).map_err(|allowed| format!("{item} {allowed}")))
        .collect()
}

/// Answers must come from the address that was asked, hence none that stands for all.
pub(super) fn dns_listeners(text: &str) -> Result<Vec<SocketAddr>, String> {
    let listener = |item: &str| match item.parse::<SocketAddr>() {
        Ok(address) if !address.ip().is_unspecified() => Ok(address),
        _ => Err(format!(
            "{item} must be ADDR:PORT with an address of this node, such as 169.254.20.10:53 or [fd00::53]:53"
        )),
    };
    let all: Vec<SocketAddr> = items(text).map(listener).collect::<Result<_, String>>()?;
    let mut seen = BTreeSet::new();
    match all.iter().find(|address| !seen.insert(**address)) {
        Some(twice) => Err(format!("{twice} must be there once")),
        None => Ok(all),
    }
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let domain = text.trim_end_matches('.').to_lowercase();
    validate::dns_name(&domain)?;
    Ok(domain)
}

/// None, or what [`one_per_family`] takes.
pub(super) fn pool(text: &str) -> Result<Vec<IpNet>, String> {
    if items(text).next().is_none() {
        return Ok(Vec::new());
    }
    one_per_family(text)
}

pub(super) fn one_per_family(text: &str) -> Result<Vec<IpNet>, String> {
    let ranges = ranges(text)?;
    let families = |is_v4: bool| {
        ranges
            .iter()
            .filter(|r| r.addr().is_ipv4() == is_v4)
            .count()
    };
    if ranges.is_empty() || families(true) > 1 || families(false) > 1 {
        return Err(
            "must be one or two ranges, one of each family, such as 10.96.0.0/16,fd00:10:96::/112"
                .to_owned(),
        );
    }
    Ok(ranges)
}

pub(super) fn globs(text: &str) -> Result<Vec<String>, String> {
    items(text)
        .map(|glob| {
            let is_name = glob.len() <= DEVICE_NAME
                && glob.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
            if is_name {
                Ok(glob.to_owned())
            } else {
                Err(format!(
                    "{glob} must be the name of a device, at most {DEVICE_NAME} characters, in which * stands for any and ? for one"
                ))
            }
        })
        .collect()
}

pub(super) fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::parse(text).ok_or_else(|| format!("must be {}", Algorithm::NAMES))
}

pub(super) fn listener(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_error: std::net::AddrParseError| {
            "must be ADDR:PORT, such as 127.0.0.1:10249 or [::1]:10249, or empty for nowhere"
                .to_owned()
        })
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from {least} to {most}")),
    }
}

pub(super) fn services(text: &str) -> Result<u32, String> {
    number(text, 1, 1 << 20)
}

/// Slots are twice the backends.
pub(super) fn backends(text: &str) -> Result<u32, String> {
    number(text, 1, 1 << 22)
}

/// A flow takes two entries.
pub(super) fn flows(text: &str) -> Result<u32, String> {
    number(text, 2, 1 << 26)
}

pub(super) fn node_port_addresses(text: &str) -> Result<NodePortAddresses, String> {
    if text == "primary" {
        return Ok(NodePortAddresses::Primary);
    }
    match ranges(text)? {
        ranges if ranges.is_empty() => {
            Err("must be primary, or ranges such as 192.0.2.0/24".to_owned())
        }
        ranges => Ok(NodePortAddresses::Within(ranges)),
    }
}

pub(super) fn node_port_addresses_text(addresses: &NodePortAddresses) -> String {
    match addresses {
        NodePortAddresses::Primary => "primary".to_owned(),
        NodePortAddresses::Within(ranges) => {
            let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            texts.join(",")
        }
    }
}

pub(super) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let bounds = text.split_once('-').and_then(|(first, last)| {
        let first: u16 = first.trim().parse().ok()?;
        let last: u16 = last.trim().parse().ok()?;
        (0 < first && first <= last).then_some(first..=last)
    });
    bounds.ok_or_else(|| "must be FIRST-LAST, such as 30000-32767".to_owned())
}

pub(super) fn port_range_text(range: &RangeInclusive<u16>) -> String {
    format!("{}-{}", range.start(), range.end())
}

/// One address of each family, none of which a packet could have for another reason.
pub(super) fn hairpin(text: &str) -> Result<Vec<IpAddr>, String> {
    let addresses: Result<Vec<IpAddr>, _> = items(text).map(str::parse).collect();
    let addresses = addresses.map_err(|_error| "must be an IPv4 and an IPv6 address".to_owned())?;
    let is_pair = matches!(addresses.as_slice(), [a, b] if a.is_ipv4() != b.is_ipv4());
    if !is_pair
        || addresses
            .iter()
            .any(|it| it.is_unspecified() || it.is_multicast() || it.is_loopback())
    {
        return Err(
            "must be an IPv4 and an IPv6 address that nobody has, no loopback and no multicast one"
                .to_owned(),
        );
    }
    Ok(addresses)
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the table hands every value over in the same way"
)]
pub(super) const fn switch_text(is_on: &bool) -> &'static str {
    if *is_on { "on" } else { "off" }
}

pub(super) fn upstreams(text: &str) -> Result<Vec<SocketAddr>, String> {
    items(text).map(address::upstream).collect()
}

/// `https://` and its port where they are left out: of a server that is named by nothing but its address.
pub(super) fn api_servers(text: &str) -> Result<Vec<String>, String> {
    items(text).map(api_server).collect()
}

fn api_server(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{text} must be a URL such as https://192.0.2.1:6443, or ADDR[:PORT] for https and port {API_SERVER_PORT}"
        )
    };
    if text.contains("://") {
        let url: hyper::Uri = text.parse().map_err(|_error| wrong())?;
        let is_http = matches!(url.scheme_str(), Some("https" | "http"));
        let has_more = url.query().is_some() || url.host().is_none_or(str::is_empty);
        return if is_http && !has_more {
            Ok(text.trim_end_matches('/').to_owned())
        } else {
            Err(wrong())
        };
    }
    let url = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{API_SERVER_PORT}"),
        Ok(IpAddr::V4(address)) => format!("https://{address}:{API_SERVER_PORT}"),
        Err(_)
            if text
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok()) =>
        {
            format!("https://{text}")
        }
        Err(_) => format!("https://{text}:{API_SERVER_PORT}"),
    };
    let parsed: hyper::Uri = url.parse().map_err(|_error| wrong())?;
    let has_path = parsed.path() != "/" || parsed.query().is_some();
    if has_path || text.contains('@') {
        return Err(wrong());
    }
    Ok(url)
}

pub(super) fn stubs(text: &str) -> Result<Vec<(Name, SocketAddr)>, String> {
    items(text).map(address::stub).collect()
}

pub(super) fn stub_texts(stubs: &[(Name, SocketAddr)]) -> Vec<String> {
    let texts = stubs
        .iter()
        .map(|(zone, address)| format!("{zone}={address}"));
    texts.collect()
}

/// At most a tenth of a terabyte, so that bytes fit everywhere.
pub(super) fn mebibytes(text: &str) -> Result<u32, String> {
    number(text, 0, 100_000)
}

pub(super) fn dns_log(text: &str) -> Result<DnsLog, String> {
    match text {
        "off" => Ok(DnsLog::Off),
        "errors" => Ok(DnsLog::Errors),
        "all" => Ok(DnsLog::All),
        _ => Err("must be off, errors or all".to_owned()),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json".to_owned()),
    }
}

pub(super) fn verbosity(text: &str) -> Result<u8, String> {
    text.parse()
        .map_err(|_error: std::num::ParseIntError| "must be 0, 1 or 2".to_owned())
}
