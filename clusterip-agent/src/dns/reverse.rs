//! From addresses back to names.

use std::net::IpAddr;

use hickory_proto::rr::Name;
use ipnet::IpNet;

use super::{answer::Found, state::State, zone::Zone};
use crate::model::{
    inside::Inside, naming::Naming, object::ObjectName, service::ResolvedService,
    snapshot::Snapshot,
};

/// Labels of `in-addr.arpa` and `ip6.arpa`.
const SUFFIX: usize = 2;

/// Whose a name is, and what there is at it.
pub(super) enum Reversed {
    /// Somebody else's, or no reverse name.
    Elsewhere,
    /// The agent's: the top of the reverse zone it belongs to, and what there is.
    Own(Name, Found),
}

/// What there is at a reverse name. Those inside the ranges of services and pods are the agent's own, and so are those
/// of endpoints with a hostname, wherever they are (J3).
pub(super) fn find(zone: &Zone, state: Option<&State>, name: &Name) -> Reversed {
    let snapshot = state.map(|state| &*state.snapshot);
    let Ok(net) = name.parse_arpa_name() else {
        return odd(zone, snapshot, name);
    };
    let names = match snapshot {
        Some(snapshot) if net.prefix_len() == net.max_prefix_len() => {
            names(zone, snapshot, net.addr().to_canonical())
        }
        _ => Vec::new(),
    };
    let Some(range) = own_range(zone, snapshot, net) else {
        if names.is_empty() {
            return Reversed::Elsewhere;
        }
        return Reversed::Own(name.clone(), Found::Pointers(names));
    };
    let apex = name.trim_to(depth(&range));
    let found = if !names.is_empty() {
        Found::Pointers(names)
    } else if apex.num_labels() == name.num_labels() {
        Found::Apex
    } else if net.prefix_len() < net.max_prefix_len() {
        // Names below it: there may be some, and nobody walks them all to know.
        Found::Empty
    } else {
        Found::Nothing
    };
    Reversed::Own(apex, found)
}

/// A name that stands for no address, and may be below one that does.
fn odd(zone: &Zone, snapshot: Option<&Snapshot>, name: &Name) -> Reversed {
    if !name
        .iter()
        .next_back()
        .is_some_and(|it| it.eq_ignore_ascii_case(b"arpa"))
    {
        return Reversed::Elsewhere;
    }
    let mut above = name.base_name();
    while !above.is_root() {
        if let Ok(net) = above.parse_arpa_name() {
            return own_range(zone, snapshot, net).map_or(Reversed::Elsewhere, |range| {
                Reversed::Own(name.trim_to(depth(&range)), Found::Nothing)
            });
        }
        above = above.base_name();
    }
    Reversed::Elsewhere
}

/// The range of services or pods that a reverse name is inside of.
fn own_range(zone: &Zone, snapshot: Option<&Snapshot>, net: IpNet) -> Option<IpNet> {
    let services = zone.ranges.iter().find(|range| range.contains(&net));
    let pods = || {
        let mut around = snapshot?.ranges_around(net);
        let found = around.find(|(_, whose)| matches!(whose, Inside::Pods | Inside::OwnPods));
        found.map(|(range, _)| range)
    };
    services.copied().or_else(pods)
}

/// How many labels the top of a range's reverse zone has: the first that is wholly inside.
fn depth(range: &IpNet) -> usize {
    let bits = match range {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 4,
    };
    SUFFIX + usize::from(range.prefix_len().div_ceil(bits))
}

fn names(zone: &Zone, snapshot: &Snapshot, address: IpAddr) -> Vec<Name> {
    let services = snapshot.named_by(address);
    services
        .flat_map(|service| of_service(zone, service, address))
        .collect()
}

fn of_service(zone: &Zone, service: &ResolvedService, address: IpAddr) -> Vec<Name> {
    let ObjectName { namespace, name } = &service.name;
    match &service.naming {
        Naming::Own { .. } => zone.name(&[name, namespace, "svc"]).into_iter().collect(),
        Naming::Members(members) => {
            let here = members
                .iter()
                .filter(|member| member.has_hostname && member.address == address);
            here.filter_map(|it| zone.name(&[&it.label, name, namespace, "svc"]))
                .collect()
        }
        Naming::Alias(_) => Vec::new(),
    }
}
