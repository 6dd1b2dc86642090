//! The content of the maps, wanted or actual: one type for both sides.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use clusterip_common::{
    abi::{
        Algorithm, Backend, BackendId, BackendState, Inside, InsideKey, NodePlace, Scope, Service,
        ServiceFlags, ServiceKey, SlotIndex, Sources, SourcesKey,
    },
    wire::Addr,
};

use super::Op;

/// The content of the maps that the agent writes. A free backend is listed while its
/// generation is above 0: whoever gets the id next must go on from there. A slot is listed
/// while a head leads to it: what stands in the others means nothing.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tables {
    /// Backends by id.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Slots.
    pub slots: BTreeMap<SlotIndex, BackendId>,
    /// Frontends, and for each `ClusterIP` an entry of its own, [`ServiceKey::address`].
    pub services: BTreeMap<ServiceKey, Service>,
    /// Ranges of addresses inside the cluster (E1).
    pub inside: BTreeMap<InsideKey, Inside>,
    /// Who may call guarded services (E4).
    pub sources: BTreeMap<SourcesKey, Sources>,
    /// The node's addresses for clients from outside (E2); one that is not known is not listed.
    pub node: BTreeMap<NodePlace, Addr>,
}

/// The slots a head leads to.
pub fn slots_of(head: &Service) -> impl Iterator<Item = SlotIndex> + use<> {
    let first = head.first_slot.0;
    (first..first.saturating_add(head.slot_count)).map(SlotIndex)
}

/// What a free id looks like: only its generation is left.
#[must_use]
pub fn free_backend(generation: u32) -> Backend {
    Backend {
        generation,
        ..Backend::default()
    }
}

impl Tables {
    /// The frontends, without the entries of their addresses.
    pub fn frontends(&self) -> impl Iterator<Item = (&ServiceKey, &Service)> {
        self.services.iter().filter(|(key, _)| !key.is_address())
    }

    /// Carries out one operation. Slots are written and never taken away; see [`Tables::prune`].
    pub fn apply(&mut self, op: Op) {
        match op {
            Op::ClearService(_) | Op::ClearBackend(_) => {}
            Op::PutBackend(id, backend) => {
                self.backends.insert(id, backend);
            }
            Op::PutSlot(slot, backend) => {
                self.slots.insert(slot, backend);
            }
            Op::PutService(key, head) => {
                self.services.insert(key, head);
            }
            Op::RemoveService(key) => {
                self.services.remove(&key);
            }
            Op::RemoveAddress(address) => {
                self.services.remove(&ServiceKey::address(address));
            }
            Op::FreeBackend(id, generation) => {
                self.backends.insert(id, free_backend(generation));
            }
            Op::PutInside(range, whose) => {
                self.inside.insert(range, whose);
            }
            Op::RemoveInside(range) => {
                self.inside.remove(&range);
            }
            Op::PutSources(range, sources) => {
                self.sources.insert(range, sources);
            }
            Op::RemoveSources(range) => {
                self.sources.remove(&range);
            }
            Op::PutNode(place, Addr::UNSPECIFIED) => {
                self.node.remove(&place);
            }
            Op::PutNode(place, address) => {
                self.node.insert(place, address);
            }
        }
    }

    /// Forgets the slots that no head leads to.
    pub fn prune(&mut self) {
        let used: BTreeSet<SlotIndex> = self.services.values().flat_map(slots_of).collect();
        self.slots.retain(|slot, _| used.contains(slot));
    }

    /// What the packet program relies on: each slot that a head leads to is there and leads to a backend of that
    /// very service (F2); each `ClusterIP` has an entry of its own (B9).
    ///
    /// # Errors
    /// The first thing that is wrong, as text for a test's message.
    pub fn soundness(&self) -> Result<(), String> {
        for (key, head) in self.frontends() {
            if key.scope == Scope::CLUSTER
                && !self
                    .services
                    .contains_key(&ServiceKey::address(key.address))
            {
                return Err(format!("{key}: its address has no entry"));
            }
            for slot in slots_of(head) {
                let Some(id) = self.slots.get(&slot) else {
                    return Err(format!("{key}: slot {} is missing", slot.0));
                };
                let Some(backend) = self.backends.get(id) else {
                    return Err(format!("{key}: backend {} is missing", id.0));
                };
                if backend.state == BackendState::FREE {
                    return Err(format!("{key}: backend {} is free", id.0));
                }
                if backend.service != head.id {
                    return Err(format!(
                        "{key}: backend {} belongs to service {}, not to {}",
                        id.0, backend.service.0, head.id.0
                    ));
                }
            }
        }
        Ok(())
    }
}

/// One line for each entry, sorted; what scenarios expect and what a failing test prints.
impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in self.services.keys().filter(|key| key.is_address()) {
            writeln!(f, "ADDRESS {}", key.address)?;
        }
        for (key, head) in self.frontends() {
            let Service {
                id,
                first_slot,
                slot_count,
                algorithm,
                flags,
                affinity,
            } = head;
            let algorithm = match *algorithm {
                Algorithm::ROUND_ROBIN => "round-robin",
                Algorithm::RANDOM => "random",
                Algorithm::MAGLEV => "maglev",
                Algorithm::LEAST_CONNECTIONS => "least-connections",
                _ => "unknown",
            };
            write!(
                f,
                "SERVICE {key} id={} slots={}+{slot_count} {algorithm}",
                id.0, first_slot.0
            )?;
            if *affinity > 0 {
                write!(f, " affinity={affinity}")?;
            }
            for (flag, name) in [
                (ServiceFlags::LOCAL, "local"),
                (ServiceFlags::MASQUERADE, "masquerade"),
                (ServiceFlags::GUARDED, "guarded"),
            ] {
                if flags.has(flag) {
                    write!(f, " {name}")?;
                }
            }
            writeln!(f)?;
        }
        for (key, head) in self.frontends() {
            for (index, slot) in slots_of(head).enumerate() {
                match self.slots.get(&slot) {
                    Some(id) => match self.backends.get(id) {
                        Some(backend) => writeln!(f, "SLOT    {key}#{index} -> {backend}")?,
                        None => writeln!(f, "SLOT    {key}#{index} -> missing backend {}", id.0)?,
                    },
                    None => writeln!(f, "SLOT    {key}#{index} missing")?,
                }
            }
        }
        for (id, backend) in &self.backends {
            if backend.state == BackendState::FREE {
                writeln!(f, "BACKEND {} free generation={}", id.0, backend.generation)?;
            } else {
                writeln!(f, "BACKEND {} {backend:?}", id.0)?;
            }
        }
        for (range, whose) in &self.inside {
            let whose = match *whose {
                Inside::PODS => "pods",
                Inside::NODE => "node",
                Inside::OWN => "own",
                _ => "unknown",
            };
            writeln!(f, "INSIDE  {range} {whose}")?;
        }
        for range in self.sources.keys() {
            writeln!(f, "SOURCES {range}")?;
        }
        for address in self.node.values() {
            writeln!(f, "NODE    {address}")?;
        }
        Ok(())
    }
}
