//! Which service has which node port (G3). A function of the objects and of who had what before, not of their order.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

use super::{
    about::ServiceType,
    allocate::place_of,
    cluster::Cluster,
    facts::{Service, ServiceSpec, TrafficPolicy},
    object::ObjectName,
    problem::Fault,
    served::{ServedNodePort, owners},
    service::Protocol,
};

/// Which port of a service a node port is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortKey {
    /// The service port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

impl PortKey {
    /// What load balancers ask for the health of a service with a Local policy (E7); it is not for a port of the service.
    pub const HEALTH_CHECK: Self = Self {
        port: 0,
        protocol: Protocol::Tcp,
    };
}

/// A node port that a service has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AssignedPort {
    /// Which port of the service.
    pub key: PortKey,
    /// The number on the nodes.
    pub node_port: u16,
    /// The service did not ask for it by number.
    pub automatic: bool,
    /// Chosen automatically, and not kept on disk yet.
    pub provisional: bool,
}

/// What a service port asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// None: any will do.
    number: Option<u16>,
    /// Which of the ports, for faults; None for the health check.
    index: Option<usize>,
}

type Wish = BTreeMap<PortKey, Asked>;

#[derive(Clone, Copy, Debug)]
struct Held {
    node_port: u16,
    automatic: bool,
    saved: bool,
}

/// Gives services their node ports.
#[derive(Debug)]
pub struct NodePorts {
    range: RangeInclusive<u16>,
    /// Who has a number, and for which service port: one service may use it with several protocols.
    owners: HashMap<u16, (ObjectName, u16)>,
    held: HashMap<ObjectName, BTreeMap<PortKey, Held>>,
    wishes: HashMap<ObjectName, Wish>,
    /// Who asks for a number, with or without success.
    claims: BTreeMap<u16, BTreeSet<ObjectName>>,
    /// Who found the range full.
    waiting: BTreeSet<ObjectName>,
    faults: HashMap<ObjectName, Vec<Fault>>,
    /// Services that may have other numbers than is kept on disk.
    unkept: BTreeSet<ObjectName>,
    /// Whether what was kept has been compared with the objects.
    is_settled: bool,
}

/// Who has which, as it is kept across restarts.
pub type KeptPorts = BTreeMap<ObjectName, BTreeMap<PortKey, u16>>;

impl NodePorts {
    /// An allocator for this range.
    #[must_use]
    pub fn new(range: RangeInclusive<u16>, kept: KeptPorts) -> Self {
        let mut all = Self {
            range,
            owners: HashMap::new(),
            held: HashMap::new(),
            wishes: HashMap::new(),
            claims: BTreeMap::new(),
            waiting: BTreeSet::new(),
            faults: HashMap::new(),
            unkept: BTreeSet::new(),
            is_settled: false,
        };
        for (name, ports) in kept {
            for (key, node_port) in ports {
                if all.may_take(&name, key, node_port) {
                    all.take(&name, key, node_port, (true, true));
                }
            }
        }
        all.unkept.clear();
        all
    }

    /// Where load balancers ask for the health of a service, if they are to (E7).
    #[must_use]
    pub fn health_check(&self, name: &ObjectName) -> Option<u16> {
        let held = self.held.get(name)?.get(&PortKey::HEALTH_CHECK)?;
        Some(held.node_port)
    }

    /// The node ports of a service.
    #[must_use]
    pub fn of(&self, name: &ObjectName) -> Vec<AssignedPort> {
        let held = self.held.get(name).into_iter().flatten();
        let of_ports = held.filter(|(key, _)| **key != PortKey::HEALTH_CHECK);
        of_ports
            .map(|(key, held)| AssignedPort {
                key: *key,
                node_port: held.node_port,
                automatic: held.automatic,
                provisional: held.automatic && !held.saved,
            })
            .collect()
    }

    /// What is wrong with the node ports a service asks for.
    #[must_use]
    pub fn faults(&self, name: &ObjectName) -> &[Fault] {
        self.faults.get(name).map_or(&[], Vec::as_slice)
    }

    /// What changed since [`NodePorts::saved`]: the numbers of those services now.
    #[must_use]
    pub fn changes(&self) -> KeptPorts {
        let numbers = |name: &ObjectName| self.held.get(name).map(numbers).unwrap_or_default();
        let names = self.unkept.iter();
        names.map(|name| (name.clone(), numbers(name))).collect()
    }

    /// Who has which now.
    #[must_use]
    pub fn kept(&self) -> KeptPorts {
        self.held
            .iter()
            .map(|(name, held)| (name.clone(), numbers(held)))
            .collect()
    }

    /// All is kept on disk now; adds those to `touched` that have a number which was provisional until now.
    pub fn saved(&mut self, touched: &mut BTreeSet<ObjectName>) {
        for name in std::mem::take(&mut self.unkept) {
            let mut is_kept = false;
            for held in self
                .held
                .get_mut(&name)
                .into_iter()
                .flat_map(BTreeMap::values_mut)
            {
                is_kept |= !std::mem::replace(&mut held.saved, true) && held.automatic;
            }
            if is_kept {
                touched.insert(name);
            }
        }
    }

    /// Gives the touched services what they ask for, and takes back what they no longer do. Services that this
    /// concerns too are added to `touched`. Who has a number keeps it; else explicit requests come before automatic
    /// ones, older ones before younger ones, then by name.
    pub fn settle(&mut self, cluster: &Cluster, touched: &mut BTreeSet<ObjectName>) {
        let mut stale = touched.clone();
        if !std::mem::replace(&mut self.is_settled, true) {
            stale.extend(self.held.keys().cloned());
        }
        let mut released = BTreeSet::new();
        for name in &stale {
            let wish = cluster
                .service(name)
                .map(|(_, service)| wish_of(service))
                .unwrap_or_default();
            self.replace_wish(name, wish, &mut released);
        }
        for number in &released {
            touched.extend(self.claims.get(number).into_iter().flatten().cloned());
        }
        if !released.is_empty() {
            touched.append(&mut self.waiting);
        }
        let mut by_age: Vec<&ObjectName> = touched.iter().collect();
        by_age.sort_by_cached_key(|name| cluster.age(name));
        for name in &by_age {
            self.waiting.remove(name);
            self.faults.remove(name);
            self.grant_explicit(name);
        }
        for name in touched.iter() {
            self.grant_automatic(name);
        }
    }

    /// Once, before the first `settle`: a node port that is served and that nothing was kept of goes back to the service port
    /// that it is served for, if that still asks for any.
    pub fn remember(&mut self, served: &[ServedNodePort], cluster: &Cluster) {
        let is_new = |it: &&ServedNodePort| {
            it.owner.is_known()
                && self.range.contains(&it.node_port)
                && !self.owners.contains_key(&it.node_port)
        };
        let unknown: Vec<ServedNodePort> = served.iter().filter(is_new).copied().collect();
        if unknown.is_empty() {
            return;
        }
        let names = owners(cluster);
        for ServedNodePort {
            owner,
            key,
            node_port,
        } in unknown
        {
            let Some((name, (_, service))) = names
                .get(&owner)
                .and_then(|name| Some((*name, cluster.service(name)?)))
            else {
                continue;
            };
            let asked = wish_of(service).get(&key).copied();
            let is_asked = asked.is_some_and(|asked| asked.number.is_none());
            if is_asked && !self.has(name, key) && self.may_take(name, key, node_port) {
                self.take(name, key, node_port, (true, false));
            }
        }
    }

    fn replace_wish(&mut self, name: &ObjectName, wish: Wish, released: &mut BTreeSet<u16>) {
        for asked in self.wishes.remove(name).unwrap_or_default().into_values() {
            if let Some(number) = asked.number
                && let Some(names) = self.claims.get_mut(&number)
            {
                names.remove(name);
                if names.is_empty() {
                    self.claims.remove(&number);
                }
            }
        }
        let mut held = self.held.remove(name).unwrap_or_default();
        let before: BTreeSet<u16> = held.values().map(|held| held.node_port).collect();
        let count = held.len();
        held.retain(|key, held| {
            let is_wanted = wish.get(key).is_some_and(|asked| {
                held.automatic = asked.number.is_none();
                asked.number.is_none_or(|number| number == held.node_port)
            });
            is_wanted && self.range.contains(&held.node_port)
        });
        if held.len() < count {
            self.unkept.insert(name.clone());
        }
        for number in before {
            if held.values().all(|held| held.node_port != number) {
                self.owners.remove(&number);
                released.insert(number);
            }
        }
        if !held.is_empty() {
            self.held.insert(name.clone(), held);
        }
        for asked in wish.values() {
            if let Some(number) = asked.number {
                self.claims.entry(number).or_default().insert(name.clone());
            }
        }
        if !wish.is_empty() {
            self.wishes.insert(name.clone(), wish);
        }
    }

    fn grant_explicit(&mut self, name: &ObjectName) {
        for (key, Asked { number, index }) in self.wishes.get(name).cloned().unwrap_or_default() {
            let Some(number) = number.filter(|_| !self.has(name, key)) else {
                continue;
            };
            let message = if !self.range.contains(&number) {
                format!(
                    "is outside the range of node ports, {} to {} (--nodeport-range)",
                    self.range.start(),
                    self.range.end()
                )
            } else if self.may_take(name, key, number) {
                self.take(name, key, number, (false, false));
                continue;
            } else {
                match self.owners.get(&number) {
                    Some((owner, _)) if owner != name => {
                        format!("is taken by Service {owner}: choose another number")
                    }
                    _ => "is taken by another port of this service: only the same port may use it with another protocol".to_owned(),
                }
            };
            self.fault(name, index, number.to_string(), message);
        }
    }

    fn grant_automatic(&mut self, name: &ObjectName) {
        for (key, Asked { number, index }) in self.wishes.get(name).cloned().unwrap_or_default() {
            if number.is_some() || self.has(name, key) {
                continue;
            }
            let shared = self.held.get(name).into_iter().flatten();
            let shared: Vec<u16> = shared
                .filter(|(other, _)| other.port == key.port)
                .map(|(_, held)| held.node_port)
                .collect();
            let place = place_of(&format!("{name}:{}", key.port));
            let mut numbers = shared.into_iter().chain(candidates(&self.range, place));
            if let Some(number) = numbers.find(|number| self.may_take(name, key, *number)) {
                self.take(name, key, number, (true, false));
            } else {
                self.waiting.insert(name.clone());
                let message = format!(
                    "the range of node ports is full, {} to {}: remove a service or enlarge --nodeport-range",
                    self.range.start(),
                    self.range.end()
                );
                self.fault(name, index, String::new(), message);
            }
        }
    }

    fn has(&self, name: &ObjectName, key: PortKey) -> bool {
        let held = self.held.get(name);
        held.is_some_and(|held| held.contains_key(&key))
    }

    /// A number is free, or the same service port has it with another protocol.
    fn may_take(&self, name: &ObjectName, key: PortKey, number: u16) -> bool {
        let Some((owner, port)) = self.owners.get(&number) else {
            return true;
        };
        let is_own = owner == name && *port == key.port;
        let mut held = self.held.get(name).into_iter().flatten();
        is_own && !held.any(|(k, h)| k.protocol == key.protocol && h.node_port == number)
    }

    fn take(
        &mut self,
        name: &ObjectName,
        key: PortKey,
        node_port: u16,
        (automatic, saved): (bool, bool),
    ) {
        self.unkept.insert(name.clone());
        self.owners.insert(node_port, (name.clone(), key.port));
        let held = Held {
            node_port,
            automatic,
            saved,
        };
        self.held.entry(name.clone()).or_default().insert(key, held);
    }

    fn fault(&mut self, name: &ObjectName, index: Option<usize>, value: String, message: String) {
        self.faults.entry(name.clone()).or_default().push(Fault {
            field: index.map_or_else(
                || "spec.healthCheckNodePort".to_owned(),
                |index| format!("spec.ports[{index}].nodePort"),
            ),
            value,
            message,
        });
    }
}

/// The numbers in the order in which an automatic request tries them: from a place in the upper part that the seed
/// gives, all around; then the lower band the same way (G3).
fn candidates(range: &RangeInclusive<u16>, seed: u64) -> impl Iterator<Item = u16> + use<> {
    let first = u64::from(*range.start());
    let size = u64::from(*range.end()).saturating_sub(first) + 1;
    let band = if size <= 16 {
        0
    } else {
        (size / 32).clamp(16, 128).min(size)
    };
    let around = move |from: u64, count: u64| {
        let start = seed.checked_rem(count).unwrap_or_default();
        let places = (start..count).chain(0..start);
        places.map(move |place| first + from + place)
    };
    around(band, size - band)
        .chain(around(0, band))
        .filter_map(|number| u16::try_from(number).ok())
}

fn numbers(held: &BTreeMap<PortKey, Held>) -> BTreeMap<PortKey, u16> {
    let all = held.iter().map(|(key, held)| (*key, held.node_port));
    all.collect()
}

fn wish_of(service: &Service) -> Wish {
    let Some(spec) = service.spec.as_ref() else {
        return Wish::new();
    };
    let ports = spec.ports.iter().enumerate();
    let health_check = needs_health_check(spec).then(|| {
        let number = spec.health_check_node_port;
        let asked = Asked {
            number,
            index: None,
        };
        (PortKey::HEALTH_CHECK, asked)
    });
    ports
        .filter_map(|(index, port)| {
            let of_service = port.spec.as_ref()?;
            let key = PortKey {
                port: of_service.port,
                protocol: of_service.protocol,
            };
            let number = port.node_port;
            let is_wanted = has_node_ports(spec, number.is_some());
            let index = Some(index);
            is_wanted.then_some((key, Asked { number, index }))
        })
        .chain(health_check)
        .collect()
}

/// A load balancer asks which nodes have an endpoint of their own only where that matters.
fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.service_type == ServiceType::LoadBalancer && spec.external_policy == TrafficPolicy::Local
}

/// A load balancer may do without, unless a number is asked for.
const fn has_node_ports(spec: &ServiceSpec, is_asked: bool) -> bool {
    match spec.service_type {
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => is_asked || spec.allocates_node_ports,
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    }
}
