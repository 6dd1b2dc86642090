//! From a question to its records: pure, no clock, no socket.

use std::net::IpAddr;

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{Name, Record, RecordType},
};

use super::{
    records::{self, alias},
    reply::Reply,
    reverse,
    state::State,
    zone::Zone,
};
use crate::model::{
    naming::{Member, NamedPort, Naming, undashed},
    object::ObjectName,
    service::{Protocol, ResolvedService},
    snapshot::Snapshot,
};

/// How many external names may lead to one another (J4).
const MAX_ALIASES: usize = 8;

/// What is said to a question.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// All of it.
    Reply(Reply),
    /// The name is somebody else's, or leads to one that is.
    Elsewhere {
        /// How the question's own name leads there.
        aliases: Vec<Record>,
        /// What to ask there.
        question: Query,
    },
}

/// What there is at a name.
pub(super) enum Found {
    /// No such name.
    Nothing,
    /// Data of other kinds only, or names below it.
    Empty,
    /// The name is there, and nobody answers at its address.
    Unanswered,
    /// The top of the zone.
    Apex,
    /// The version of the specification.
    Version,
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// Service ports: number, target, addresses of the target.
    Ports(Vec<(u16, Name, Vec<IpAddr>)>),
    /// Names.
    Pointers(Vec<Name>),
    /// Another name.
    Alias(Name),
}

/// What is said to a question; there is no state before the first complete one (J6).
#[must_use]
pub fn answer(zone: &Zone, state: Option<&State>, query: &Query) -> Answer {
    let name = query.name();
    if zone.below(name).is_some() {
        return match state {
            Some(state) => inside(zone, state, query),
            None => unknown_yet(),
        };
    }
    match reverse::find(zone, state, name) {
        reverse::Reversed::Elsewhere => Answer::Elsewhere {
            aliases: Vec::new(),
            question: query.clone(),
        },
        reverse::Reversed::Own(apex, found) => match state {
            Some(state) => {
                let soa = records::authority(&apex, zone, state.serial);
                Answer::Reply(said(zone, query, found, Vec::new(), soa))
            }
            None => unknown_yet(),
        },
    }
}

const fn unknown_yet() -> Answer {
    Answer::Reply(Reply::empty(ResponseCode::ServFail, false))
}

/// A name of the zone; external names are followed as far as they stay inside.
fn inside(zone: &Zone, state: &State, query: &Query) -> Answer {
    let kind = query.query_type();
    let mut aliases = Vec::new();
    let mut question = query.clone();
    while aliases.len() < MAX_ALIASES {
        let Some(labels) = zone.below(question.name()) else {
            return Answer::Elsewhere { aliases, question };
        };
        match find(zone, state, &labels) {
            Found::Alias(target) => {
                aliases.push(alias(question.name(), target.clone()));
                if matches!(kind, RecordType::CNAME | RecordType::ANY) {
                    return Answer::Reply(Reply {
                        answers: aliases,
                        ..Reply::empty(ResponseCode::NoError, true)
                    });
                }
                question.set_name(target);
            }
            found => {
                let soa = records::authority(&zone.apex, zone, state.serial);
                return Answer::Reply(said(zone, &question, found, aliases, soa));
            }
        }
    }
    // They lead in a circle, or nearly so.
    Answer::Reply(Reply::empty(ResponseCode::ServFail, false))
}

/// The records of what was found; `soa` is told where there is none of the kind that was asked for.
fn said(zone: &Zone, query: &Query, found: Found, aliases: Vec<Record>, soa: Record) -> Reply {
    let owner = query.name();
    let kind = query.query_type();
    let is_asked = |it: RecordType| kind == it || kind == RecordType::ANY;
    let code = match &found {
        Found::Nothing => ResponseCode::NXDomain,
        Found::Unanswered => ResponseCode::ServFail,
        _ => ResponseCode::NoError,
    };
    let mut reply = Reply {
        answers: aliases,
        ..Reply::empty(code, true)
    };
    let before = reply.answers.len();
    match found {
        Found::Nothing | Found::Empty | Found::Alias(_) => {}
        // Without an SOA: a failure is not kept as long as the absence of a name is.
        Found::Unanswered => return Reply::empty(code, false),
        Found::Apex => {
            if is_asked(RecordType::SOA) {
                reply.answers.push(soa.clone());
            }
            if is_asked(RecordType::NS) {
                reply.answers.push(records::name_server(owner, zone));
            }
        }
        Found::Version => {
            if is_asked(RecordType::TXT) {
                reply.answers.push(records::version(owner));
            }
        }
        Found::Addresses(addresses) => {
            let asked = addresses.into_iter().filter(|address| match address {
                IpAddr::V4(_) => is_asked(RecordType::A),
                IpAddr::V6(_) => is_asked(RecordType::AAAA),
            });
            let asked = asked.map(|address| records::address(owner, address));
            reply.answers.extend(asked);
        }
        Found::Ports(ports) => {
            if is_asked(RecordType::SRV) {
                let among = ports.len();
                for (port, target, addresses) in ports {
                    let known = addresses.into_iter();
                    let known = known.map(|address| records::address(&target, address));
                    reply.additionals.extend(known);
                    let record = records::service(owner, port, target, among);
                    reply.answers.push(record);
                }
            }
        }
        Found::Pointers(names) => {
            if is_asked(RecordType::PTR) {
                let pointers = names.into_iter();
                let pointers = pointers.map(|name| records::pointer(owner, name));
                reply.answers.extend(pointers);
            }
        }
    }
    if reply.answers.len() == before {
        reply.authorities.push(soa);
    }
    reply
}

/// What there is at a name, by its labels below the domain.
fn find(zone: &Zone, state: &State, labels: &[&[u8]]) -> Found {
    let Some((tree, labels)) = labels.split_last() else {
        return Found::Apex;
    };
    // A name that is no text is nobody's.
    let Some(labels) = labels
        .iter()
        .map(|label| text(label))
        .collect::<Option<Vec<_>>>()
    else {
        return Found::Nothing;
    };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let snapshot = &state.snapshot;
    if tree.eq_ignore_ascii_case(b"svc") {
        match labels.as_slice() {
            [] => Found::Empty,
            [namespace] => existing(snapshot.has_namespace(namespace)),
            [.., name, namespace] => {
                let name = ObjectName::new(namespace, name);
                let Some(service) = snapshot.service(&name) else {
                    return Found::Nothing;
                };
                if state.unanswered.contains(&name) {
                    return Found::Unanswered;
                }
                let below = labels.get(..labels.len() - 2).unwrap_or_default();
                of_service(zone, service, below)
            }
        }
    } else if tree.eq_ignore_ascii_case(b"pod") && zone.pod_records {
        match labels.as_slice() {
            [] => Found::Empty,
            [namespace] => existing(snapshot.has_namespace(namespace)),
            [label, namespace] => of_pod(snapshot, label, namespace),
            _ => Found::Nothing,
        }
    } else if tree.eq_ignore_ascii_case(b"dns-version") && labels.is_empty() {
        Found::Version
    } else {
        Found::Nothing
    }
}

const fn existing(is_there: bool) -> Found {
    if is_there {
        Found::Empty
    } else {
        Found::Nothing
    }
}

/// A label as objects write it: in lower case.
fn text(label: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(label).ok()?;
    text.is_ascii().then(|| text.to_ascii_lowercase())
}

/// What there is at the name of a service, or below it.
fn of_service(zone: &Zone, service: &ResolvedService, below: &[&str]) -> Found {
    let ObjectName { namespace, name } = &service.name;
    match &service.naming {
        Naming::Alias(target) => {
            if !below.is_empty() {
                return Found::Nothing;
            }
            let Ok(mut target) = Name::from_ascii(&**target) else {
                return Found::Unanswered;
            };
            target.set_fqdn(true);
            Found::Alias(target)
        }
        Naming::Own { addresses, ports } => match below {
            [] => Found::Addresses(addresses.clone()),
            [protocol] => existing(has_protocol(ports, protocol)),
            [port, protocol] => {
                let Some(port) = ports.iter().find(|it| is_port(it, port, protocol)) else {
                    return Found::Nothing;
                };
                let target = zone.name(&[name, namespace, "svc"]);
                let target = target.map(|target| (port.port, target, addresses.clone()));
                Found::Ports(target.into_iter().collect())
            }
            _ => Found::Nothing,
        },
        Naming::Members(members) => match below {
            // No endpoint is ready: there is no such name (J3).
            _ if members.is_empty() => Found::Nothing,
            [] => Found::Addresses(addresses(members)),
            [label] => match service.naming.labelled(label) {
                [] => {
                    let mut all = members.iter();
                    existing(all.any(|member| has_protocol(&member.ports, label)))
                }
                labelled => Found::Addresses(addresses(labelled)),
            },
            [port, protocol] => {
                let found = ports(zone, service, members, port, protocol);
                if found.is_empty() {
                    Found::Nothing
                } else {
                    Found::Ports(found)
                }
            }
            _ => Found::Nothing,
        },
    }
}

/// The addresses of endpoints, each once.
fn addresses(members: &[Member]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = members.iter().map(|member| member.address).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The endpoints of a headless service that have a port: each label and number once.
fn ports(
    zone: &Zone,
    service: &ResolvedService,
    members: &[Member],
    port: &str,
    protocol: &str,
) -> Vec<(u16, Name, Vec<IpAddr>)> {
    let ObjectName { namespace, name } = &service.name;
    let mut found: Vec<(u16, Name, Vec<IpAddr>)> = Vec::new();
    // Members of one label stand beside one another.
    for alike in members.chunk_by(|one, other| one.label == other.label) {
        let Some(label) = alike.first().map(|member| &member.label) else {
            continue;
        };
        let Some(target) = zone.name(&[label, name, namespace, "svc"]) else {
            continue;
        };
        let start = found.len();
        for member in alike {
            let numbers = member.ports.iter().filter(|it| is_port(it, port, protocol));
            for NamedPort { port, .. } in numbers {
                let mut known = found.iter_mut().skip(start);
                match known.find(|(number, ..)| number == port) {
                    Some((.., addresses)) => addresses.push(member.address),
                    None => found.push((*port, target.clone(), vec![member.address])),
                }
            }
        }
    }
    found
}

/// `_tcp`
fn has_protocol(ports: &[NamedPort], label: &str) -> bool {
    ports.iter().any(|port| is_protocol(port.protocol, label))
}

/// `_http`, `_tcp`
fn is_port(port: &NamedPort, name: &str, protocol: &str) -> bool {
    name.strip_prefix('_') == Some(&*port.name) && is_protocol(port.protocol, protocol)
}

fn is_protocol(protocol: Protocol, label: &str) -> bool {
    let name = label.strip_prefix('_');
    name.is_some_and(|name| name.eq_ignore_ascii_case(protocol.name()))
}

/// A name made of a pod's address.
fn of_pod(snapshot: &Snapshot, label: &str, namespace: &str) -> Found {
    let Some(address) = undashed(label) else {
        return Found::Nothing;
    };
    let mut pods = snapshot.pods_at(address);
    if pods.any(|pod| &*pod.namespace == namespace) {
        Found::Addresses(vec![address])
    } else {
        Found::Nothing
    }
}
