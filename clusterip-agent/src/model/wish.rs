//! Which addresses a service asks for.

use std::{net::IpAddr, sync::Arc};

use super::{
    about::ServiceType,
    facts::{FamilyPolicy, Service, ServiceSpec},
    problem::Fault,
    range::ServiceRange,
    service::{Family, parse_address},
};

/// What addresses are for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Purpose {
    /// A service's own.
    #[default]
    Service,
    /// The same where somebody else gave it already.
    Given,
    /// Those of load balancers; the family of a service that says none, and the class that is the agent's own
    /// (`--load-balancer-class`), if there is one.
    Balancer(Option<Family>, Option<Arc<str>>),
}

impl Purpose {
    pub(super) fn wish(&self, service: &Service, ranges: &[ServiceRange]) -> Wish {
        match self {
            Self::Service => Wish::of(service, ranges),
            Self::Given => Wish {
                automatic: Vec::new(),
                ..Wish::of(service, ranges)
            },
            Self::Balancer(default, class) => {
                Wish::of_balancer(service, ranges, (*default, class.as_deref()))
            }
        }
    }

    /// What the range is called.
    pub(super) const fn range(&self) -> &'static str {
        match self {
            Self::Service | Self::Given => "service range",
            Self::Balancer(..) => "pool of load balancers",
        }
    }

    /// The option that says it.
    pub(super) const fn flag(&self) -> &'static str {
        match self {
            Self::Service | Self::Given => "--service-cidr",
            Self::Balancer(..) => "--load-balancer-pool",
        }
    }

    /// Where an address would stand if it were named.
    pub(super) const fn field(&self) -> &'static str {
        match self {
            Self::Service | Self::Given => "spec.clusterIP",
            Self::Balancer(..) => "spec.loadBalancerIP",
        }
    }
}

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
    /// What a service asks for as its own addresses.
    fn of(service: &Service, ranges: &[ServiceRange]) -> Self {
        let spec = service.spec.as_ref().filter(|spec| has_address(spec));
        spec.map_or_else(Self::default, |spec| {
            Self::among(spec, texts(spec), ranges, &[])
        })
    }

    /// What a load balancer asks of a pool: an address of each family of the service, unless somebody else gave it some,
    /// or shall do so.
    fn of_balancer(
        service: &Service,
        pool: &[ServiceRange],
        (default, own_class): (Option<Family>, Option<&str>),
    ) -> Self {
        let is_balancer = |spec: &&ServiceSpec| {
            let class = spec.load_balancer_class.as_deref();
            spec.service_type == ServiceType::LoadBalancer
                && (class.is_none() || class == own_class)
        };
        let Some(spec) = service.spec.as_ref().filter(is_balancer) else {
            return Self::default();
        };
        if pool.is_empty() || !service.ingress.is_empty() {
            return Self::default();
        }
        let own = texts(spec).into_iter();
        let mut families: Vec<Family> = own
            .filter_map(|(_, text)| parse_address(text).map(Family::of))
            .collect();
        if families.is_empty() {
            families.extend(default);
        }
        let named = spec.load_balancer_ip.as_deref();
        let named = named.map(|text| ("spec.loadBalancerIP".to_owned(), text));
        Self::among(spec, named.into_iter().collect(), pool, &families)
    }

    /// `texts` are the addresses it names, `known` the families it has if it does not say so itself.
    fn among(
        spec: &ServiceSpec,
        texts: Vec<(String, &str)>,
        ranges: &[ServiceRange],
        known: &[Family],
    ) -> Self {
        let mut wish = Self::default();
        for (field, text) in texts {
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
        wish.order = spec.ip_families.to_vec();
        if wish.order.is_empty() {
            wish.order.extend_from_slice(known);
        }
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
        let policy = spec.ip_family_policy.unwrap_or(FamilyPolicy::Single);
        match policy {
            FamilyPolicy::Require => wish.order = vec![first, second],
            FamilyPolicy::Prefer if has_second => wish.order = vec![first, second],
            FamilyPolicy::Single | FamilyPolicy::Prefer => {
                wish.order.truncate(named.len().max(1));
            }
        }
        // An address that is no address is not replaced by one nobody asked for.
        if (named.is_empty() && wish.faults.is_empty()) || policy != FamilyPolicy::Single {
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
    let mut texts = spec.cluster_ip.iter().chain(&spec.cluster_ips);
    let is_headless = texts.any(|text| **text == *"None");
    spec.service_type != ServiceType::ExternalName && !is_headless
}

/// The families of a service that has no address of its own.
pub(super) fn families_without_address(spec: &ServiceSpec, ranges: &[ServiceRange]) -> Vec<Family> {
    Wish::among(spec, Vec::new(), ranges, &[]).order
}

pub(super) fn texts(spec: &ServiceSpec) -> Vec<(String, &str)> {
    let all: Vec<(String, &str)> = spec
        .cluster_ips
        .iter()
        .enumerate()
        .map(|(index, text)| (format!("spec.clusterIPs[{index}]"), &**text))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    if !all.is_empty() {
        return all;
    }
    let single = spec.cluster_ip.as_deref();
    single
        .map(|text| ("spec.clusterIP".to_owned(), text))
        .into_iter()
        .collect()
}
