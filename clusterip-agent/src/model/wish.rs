//! Which addresses a service asks for.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{
    problem::Fault,
    range::ServiceRange,
    service::{Family, parse_address},
};

/// An address asked for by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) address: IpAddr,
    /// Where it says so.
    pub(super) field: String,
}

/// Which addresses a service asks for (G5).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Wish {
    pub(super) explicit: Vec<Asked>,
    /// Families in which any address will do.
    pub(super) automatic: Vec<Family>,
    pub(super) faults: Vec<Fault>,
    /// The first family is that of the service's main address.
    order: Vec<Family>,
}

impl Wish {
    /// What a service asks for.
    pub(super) fn of(service: &Service, ranges: &[ServiceRange]) -> Self {
        let mut wish = Self::default();
        let Some(spec) = service.spec.as_ref().filter(|spec| has_address(spec)) else {
            return wish;
        };
        for (field, text) in texts(spec) {
            match parse_address(text) {
                Some(address) if !wish.names(address) => {
                    wish.explicit.push(Asked { address, field });
                }
                Some(_) => {}
                None => wish.faults.push(Fault {
                    field,
                    value: text.to_owned(),
                    message: "is not an IP address without leading zeros".to_owned(),
                }),
            }
        }
        let named: Vec<Family> = wish
            .explicit
            .iter()
            .map(|asked| Family::of(asked.address))
            .collect();
        wish.order = families(spec);
        if wish.order.is_empty() {
            wish.order.clone_from(&named);
        }
        if wish.order.is_empty() {
            wish.order.extend(ranges.first().map(ServiceRange::family));
        }
        let Some(first) = wish.order.first().copied() else {
            return wish;
        };
        let second = first.other();
        let has_second = ranges.iter().any(|range| range.family() == second);
        match spec.ip_family_policy.as_deref() {
            Some("RequireDualStack") => wish.order = vec![first, second],
            Some("PreferDualStack") if has_second => wish.order = vec![first, second],
            _ => wish.order.truncate(named.len().max(1)),
        }
        // An address that is no address is not replaced by one nobody asked for.
        let is_single = spec.ip_family_policy.as_deref().unwrap_or("SingleStack") == "SingleStack";
        if (named.is_empty() && wish.faults.is_empty()) || !is_single {
            wish.automatic = wish
                .order
                .iter()
                .filter(|family| !named.contains(family))
                .copied()
                .collect();
        }
        wish
    }

    /// Whether it asks for this address by name.
    pub(super) fn names(&self, address: IpAddr) -> bool {
        self.explicit.iter().any(|asked| asked.address == address)
    }

    /// Where the address stands among those of the service.
    pub(super) fn rank(&self, address: IpAddr) -> usize {
        let family = Family::of(address);
        let place = self.order.iter().position(|other| *other == family);
        place.unwrap_or(usize::MAX)
    }
}

/// Whether a service has an address of its own at all: headless and external names have none (A13).
pub(super) fn has_address(spec: &ServiceSpec) -> bool {
    let is_headless = spec.cluster_ip.as_deref() == Some("None")
        || spec
            .cluster_ips
            .as_ref()
            .is_some_and(|all| all.iter().any(|text| text == "None"));
    spec.type_.as_deref() != Some("ExternalName") && !is_headless
}

fn texts(spec: &ServiceSpec) -> Vec<(String, &str)> {
    let all: Vec<(String, &str)> = spec
        .cluster_ips
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, text)| (format!("spec.clusterIPs[{index}]"), text.as_str()))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    if !all.is_empty() {
        return all;
    }
    let single = spec.cluster_ip.as_deref().filter(|text| !text.is_empty());
    single
        .map(|text| ("spec.clusterIP".to_owned(), text))
        .into_iter()
        .collect()
}

fn families(spec: &ServiceSpec) -> Vec<Family> {
    spec.ip_families
        .iter()
        .flatten()
        .filter_map(|text| match text.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        })
        .collect()
}
