//! Names for what the maps hold: ids and addresses.

use std::{collections::HashMap, net::IpAddr};

use clusterip_common::abi::{BackendId, ServiceId};

use super::Selection;
use crate::{model::object::ObjectName, plan::Placement, reconcile::Published};

/// Names of one moment; made anew for each question that needs them.
#[derive(Debug)]
pub struct Names<'a> {
    published: &'a Published,
    backends: HashMap<BackendId, (&'a ObjectName, &'a Placement)>,
    services: HashMap<ServiceId, (&'a ObjectName, &'a Placement)>,
}

impl<'a> Names<'a> {
    /// The names of the services of a selection, and of all pods.
    #[must_use]
    pub fn of(published: &'a Published, selection: &Selection) -> Self {
        let mut names = Self {
            published,
            backends: HashMap::new(),
            services: HashMap::new(),
        };
        for (name, place) in selection.places(published) {
            names.services.insert(place.id, (name, place));
            let ids = place.backends.iter().map(|(id, _)| (*id, (name, place)));
            names.backends.extend(ids);
        }
        names
    }

    /// Whose backend this is; None if it is no one's, or of a service that is not of the selection.
    #[must_use]
    pub fn backend(&self, id: BackendId) -> Option<(&'a ObjectName, &'a Placement)> {
        self.backends.get(&id).copied()
    }

    /// Whose balancer this is; None as for backends.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<(&'a ObjectName, &'a Placement)> {
        self.services.get(&id).copied()
    }

    /// The ids of the balancers of a selection.
    pub fn ids(&self, selection: &Selection) -> impl Iterator<Item = ServiceId> {
        let all = self.services.iter();
        all.filter(|(_, (name, _))| selection.has(name))
            .map(|(id, _)| *id)
    }

    /// The service that has an address, whichever ports it has there.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&'a ObjectName> {
        let mut services = self.published.snapshot.named_by(address);
        services.next().map(|service| &service.name)
    }

    /// The pod with that address, as `namespace/name`; empty if there is none.
    #[must_use]
    pub fn pod(&self, address: IpAddr) -> String {
        pod_at(self.published, address)
    }
}

/// The pod with that address, as `namespace/name`; empty if there is none.
pub(super) fn pod_at(published: &Published, address: IpAddr) -> String {
    let pod = published.snapshot.pods_at(address).next();
    pod.map(ToString::to_string).unwrap_or_default()
}
