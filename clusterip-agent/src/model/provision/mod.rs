//! Addresses of the pool for load balancers of `--load-balancer-class`, where an API server keeps the objects: what each has, what
//! it is to have. The statuses of all Services say who has what (docs/adr/0018-providing-addresses.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

use super::{
    about::ServiceType,
    allocate::{Assigned, place_of},
    facts::{FamilyPolicy, Service, Written},
    object::ObjectName,
    problem::Fault,
    range::ServiceRange,
    service::{Family, parse_address},
    wish::{has_address, texts},
};

/// How long a released address is given to nobody else: nodes hear at different times that it is gone (G4).
const REST: Duration = Duration::from_mins(1);
const NAMED: &str = "spec.loadBalancerIP";
const STATUS: &str = "status.loadBalancer.ingress";

/// What a load balancer has, and what it asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Provision {
    /// The addresses in its status.
    pub has: Vec<IpAddr>,
    /// What it is to have; none if that is somebody else's affair.
    asks: Option<Asks>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Asks {
    created: Option<Timestamp>,
    /// Those of the service's own addresses, the main one first.
    families: Vec<Family>,
    /// Each of them is required (G5).
    requires_all: bool,
    /// `spec.loadBalancerIP`.
    named: Option<Written>,
}

impl Provision {
    /// Of a service that is a load balancer; `class` is the one that is provided for, and no other is.
    #[must_use]
    pub fn of(service: &Service, class: &str) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.service_type != ServiceType::LoadBalancer {
            return None;
        }
        // A hostname, or a load balancer that proxies, is somebody else's word.
        let is_plain = |it: &super::facts::Ingress| it.address.is_some() && !it.is_proxy;
        let is_own = spec.load_balancer_class.as_deref() == Some(class)
            && !service.is_foreign
            && has_address(spec)
            && service.ingress.iter().all(is_plain);
        let own = texts(spec).into_iter();
        let families: Vec<Family> = own
            .filter_map(|(_, text)| parse_address(text).map(Family::of))
            .collect();
        // The server gives it its own addresses first.
        let is_own = is_own && !families.is_empty();
        let asks = is_own.then(|| Asks {
            created: service.created,
            families,
            requires_all: spec.ip_family_policy == Some(FamilyPolicy::Require),
            named: spec.load_balancer_ip.as_deref().map(Written::parse),
        });
        Some(Self {
            has: service.ingress.iter().filter_map(|it| it.address).collect(),
            asks,
        })
    }

    /// One that cannot be read, but for its addresses.
    #[must_use]
    pub const fn unreadable(has: Vec<IpAddr>) -> Self {
        Self { has, asks: None }
    }

    /// Its addresses that are of the pool, if they were given out of it.
    #[must_use]
    pub fn pooled(&self, pool: &[ServiceRange]) -> Vec<Assigned> {
        let own = self.asks.iter().flat_map(|_| &self.has);
        own.filter(|address| fits(pool, **address))
            .map(|address| Assigned {
                address: *address,
                automatic: false,
                provisional: false,
            })
            .collect()
    }

    /// Whether its addresses are given out of the pool.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        self.asks.is_some()
    }
}

/// Addresses that somebody has decided to write into a service's status, whether he did so or not.
pub type Reserved = BTreeMap<ObjectName, BTreeSet<IpAddr>>;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// All addresses of services whose status says something else.
    pub grants: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// What they ask for and cannot have.
    pub faults: BTreeMap<ObjectName, Vec<Fault>>,
}

/// A pool, and which of its addresses were released just now.
#[derive(Clone, Debug)]
pub struct Pool {
    ranges: Vec<ServiceRange>,
    known: BTreeMap<IpAddr, ObjectName>,
    resting: BTreeMap<IpAddr, (ObjectName, Duration)>,
}

impl Pool {
    /// Ranges, one for each family at most.
    #[must_use]
    pub const fn new(ranges: Vec<ServiceRange>) -> Self {
        Self {
            ranges,
            known: BTreeMap::new(),
            resting: BTreeMap::new(),
        }
    }

    /// Takes note of who has what at a moment: what is no longer there rests. `now` is a time that only grows.
    pub fn see(&mut self, all: &BTreeMap<ObjectName, Provision>, now: Duration) {
        let mut seen = BTreeMap::new();
        for (name, provision) in all {
            let own = provision.has.iter().filter(|it| fits(&self.ranges, **it));
            seen.extend(own.map(|address| (*address, name.clone())));
        }
        for (address, name) in std::mem::take(&mut self.known) {
            if !seen.contains_key(&address) {
                self.resting.insert(address, (name, now + REST));
            }
        }
        self.resting
            .retain(|address, (_, until)| *until > now && !seen.contains_key(address));
        self.known = seen;
    }

    /// When the next address has rested.
    #[must_use]
    pub fn rested(&self) -> Option<Duration> {
        self.resting.values().map(|(_, until)| *until).min()
    }

    /// What is to be written into which status. An address that is there stays; then those asked for by name, older services
    /// first; then any (G4: none twice, whoever has it, and whatever is reserved).
    #[must_use]
    pub fn assign(&self, all: &BTreeMap<ObjectName, Provision>, reserved: &Reserved) -> Outcome {
        let mut round = Round {
            pool: self,
            owners: BTreeMap::new(),
            reserved,
            faults: BTreeMap::new(),
        };
        for (name, provision) in all {
            for address in &provision.has {
                round.own(*address, name);
            }
        }
        for (name, addresses) in reserved {
            for address in addresses {
                round.own(*address, name);
            }
        }
        let mut own: Vec<(&ObjectName, &[IpAddr], &Asks)> = all
            .iter()
            .filter_map(|(name, it)| Some((name, it.has.as_slice(), it.asks.as_ref()?)))
            .collect();
        own.sort_by_key(|(name, _, asks)| (asks.created.is_none(), asks.created, *name));
        let named: Vec<Named> = own
            .iter()
            .map(|(name, has, asks)| round.named(name, has, asks))
            .collect();
        let mut grants = BTreeMap::new();
        for ((name, has, asks), named) in own.into_iter().zip(named) {
            let wanted = round.wanted(name, has, asks, named);
            let is_there = wanted.len() == has.len() && wanted.iter().all(|it| has.contains(it));
            if !is_there {
                grants.insert(name.clone(), wanted);
            }
        }
        Outcome {
            grants,
            faults: round.faults,
        }
    }
}

/// What becomes of an address that is asked for by name.
#[derive(Clone, Copy)]
enum Named {
    Nothing,
    Granted(IpAddr),
    /// Of a family, or of none: what is there stays, and nothing else is given.
    Refused(Option<Family>),
}

struct Round<'a> {
    pool: &'a Pool,
    owners: BTreeMap<IpAddr, BTreeSet<&'a ObjectName>>,
    reserved: &'a Reserved,
    faults: BTreeMap<ObjectName, Vec<Fault>>,
}

impl<'a> Round<'a> {
    fn own(&mut self, address: IpAddr, name: &'a ObjectName) {
        self.owners.entry(address).or_default().insert(name);
    }

    fn other_owner(&self, address: IpAddr, name: &ObjectName) -> Option<&'a ObjectName> {
        let owners = self.owners.get(&address).into_iter().flatten();
        owners.copied().find(|owner| *owner != name)
    }

    fn named(&mut self, name: &'a ObjectName, has: &[IpAddr], asks: &Asks) -> Named {
        let address = match &asks.named {
            None => return Named::Nothing,
            Some(Written::Address(address)) => *address,
            Some(Written::Other(text)) => {
                let message = "is not an IP address without leading zeros";
                self.fault(name, NAMED, text.to_string(), message.to_owned());
                return Named::Refused(None);
            }
        };
        let family = Family::of(address);
        let refusal = if has.contains(&address) {
            None
        } else if !asks.families.contains(&family) {
            Some(format!("is {family}, of which the service has no address"))
        } else if !fits(&self.pool.ranges, address) {
            Some("is no usable address of --load-balancer-pool".to_owned())
        } else {
            let owner = self.other_owner(address, name);
            owner.map(|owner| format!("is taken by Service {owner}: choose another address"))
        };
        if let Some(message) = refusal {
            self.fault(name, NAMED, address.to_string(), message);
            // Who has no such family gets nothing that nobody asked for.
            return Named::Refused(asks.families.contains(&family).then_some(family));
        }
        self.own(address, name);
        Named::Granted(address)
    }

    /// All addresses that a service is to have.
    fn wanted(
        &mut self,
        name: &'a ObjectName,
        has: &[IpAddr],
        asks: &Asks,
        named: Named,
    ) -> Vec<IpAddr> {
        let mut wanted = Vec::new();
        let mut lacking = Vec::new();
        for family in &asks.families {
            let mut there = has
                .iter()
                .filter(|it| Family::of(**it) == *family)
                .peekable();
            match named {
                Named::Granted(address) if Family::of(address) == *family => {
                    wanted.push(address);
                    continue;
                }
                _ if there.peek().is_some() => {
                    for address in there {
                        self.look(name, *address);
                        wanted.push(*address);
                    }
                    continue;
                }
                Named::Refused(of) if of.is_none_or(|of| of == *family) => continue,
                Named::Nothing | Named::Granted(_) | Named::Refused(_) => {}
            }
            let Some(range) = self.range(*family) else {
                lacking.push(*family);
                continue;
            };
            if let Some(address) = self.any(name, &range) {
                self.own(address, name);
                wanted.push(address);
            } else {
                let message = format!(
                    "the pool of load balancers {range} is full, all {} addresses are taken: remove a service or enlarge \
                     --load-balancer-pool",
                    range.usable()
                );
                self.fault(name, NAMED, String::new(), message);
            }
        }
        if asks.requires_all || lacking.len() == asks.families.len() {
            for family in lacking {
                let message = format!(
                    "there is no {family} pool of load balancers: add one to --load-balancer-pool"
                );
                self.fault(name, "spec.ipFamilies", family.to_string(), message);
            }
        }
        wanted
    }

    /// Says what is wrong with an address that stays.
    fn look(&mut self, name: &ObjectName, address: IpAddr) {
        let message = if !fits(&self.pool.ranges, address) {
            "is no usable address of --load-balancer-pool: it stays, and is not announced; spec.loadBalancerIP may name another one"
                .to_owned()
        } else if let Some(other) = self.other_owner(address, name) {
            format!("is that of Service {other} too: let spec.loadBalancerIP name another one")
        } else {
            return;
        };
        self.fault(name, STATUS, address.to_string(), message);
    }

    fn range(&self, family: Family) -> Option<ServiceRange> {
        let mut ranges = self.pool.ranges.iter();
        ranges.find(|range| range.family() == family).copied()
    }

    /// What is reserved for it, else the first one that is free, from a place on that its name gives.
    fn any(&self, name: &ObjectName, range: &ServiceRange) -> Option<IpAddr> {
        let mut reserved = self.reserved.get(name).into_iter().flatten();
        let own =
            reserved.find(|it| range.check(**it).is_ok() && self.other_owner(**it, name).is_none());
        own.copied().or_else(|| {
            let mut all = range.candidates(place_of(&name.to_string()));
            all.find(|address| {
                let resting = self.pool.resting.get(address);
                !self.owners.contains_key(address) && resting.is_none_or(|(owner, _)| owner == name)
            })
        })
    }

    fn fault(&mut self, name: &ObjectName, field: &str, value: String, message: String) {
        self.faults.entry(name.clone()).or_default().push(Fault {
            field: field.to_owned(),
            value,
            message,
        });
    }
}

fn fits(pool: &[ServiceRange], address: IpAddr) -> bool {
    pool.iter().any(|range| range.check(address).is_ok())
}

#[cfg(test)]
mod tests;
