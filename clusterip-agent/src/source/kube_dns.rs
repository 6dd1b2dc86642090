//! The agent's own resolver as a service: `kube-dns` in `kube-system`, unless the manifests say otherwise.
//!
//! It comes in among the objects of the source, as events like theirs: everything after this treats it as any other.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use tokio::sync::mpsc;

use crate::model::{
    cluster::SERVICE_NAME_LABEL,
    event::Event,
    object::{Kind, Object, ObjectKey, ObjectName, Spec},
    problem::Origin,
    range::ServiceRange,
    service::Family,
};

/// Namespace and name.
pub const NAME: (&str, &str) = ("kube-system", "kube-dns");
/// Its place in each range, counted from the range's own address.
const PLACE: u128 = 10;
const PORT: u16 = 53;
const METRICS_PORT: i32 = 9153;
/// Where its objects come from, for problems with them.
const ORIGIN: &str = "--dns-listen";

/// Adds the service and its endpoints to the events of a source.
#[derive(Debug)]
pub struct KubeDns {
    service: Object,
    slices: Vec<Object>,
    /// The service as the source has it: whether it selects pods.
    given: Option<bool>,
    /// Slices that the source has for it.
    given_slices: BTreeSet<ObjectName>,
    /// A listing is going on.
    is_listing: bool,
    /// What was said of the own objects.
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Told {
    service: bool,
    slices: bool,
}

impl KubeDns {
    /// The service of a resolver that listens on `listeners`; none if no pod can reach any of them. `metrics` is where the
    /// agent's figures are.
    #[must_use]
    pub fn new(
        listeners: &[SocketAddr],
        metrics: Option<SocketAddr>,
        ranges: &[ServiceRange],
    ) -> Option<Self> {
        // What is sent to a loopback address never leaves a pod.
        let reachable: Vec<SocketAddr> = listeners
            .iter()
            .copied()
            .filter(|it| !it.ip().is_loopback())
            .collect();
        let has = |family| reachable.iter().any(|it| Family::of(it.ip()) == family);
        let ranges: Vec<&ServiceRange> = ranges.iter().filter(|it| has(it.family())).collect();
        if ranges.is_empty() {
            return None;
        }
        let slices = reachable.iter().enumerate();
        Some(Self {
            service: object(Kind::Service, NAME.1, service(&ranges).into()),
            slices: slices
                .map(|(index, listener)| {
                    let name = format!("{}-agent-{index}", NAME.1);
                    let slice = slice(&name, *listener, metrics);
                    object(Kind::EndpointSlice, &name, slice.into())
                })
                .collect(),
            given: None,
            given_slices: BTreeSet::new(),
            is_listing: false,
            told: Told::default(),
        })
    }

    /// The events of the source, with those of the own objects among them.
    pub fn follow(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut all = Vec::with_capacity(events.len());
        for event in events {
            match &event {
                Event::Reset => {
                    self.given = None;
                    self.given_slices.clear();
                    self.is_listing = true;
                    self.told = Told::default();
                }
                Event::Put(object) => self.see(object),
                Event::Remove(key) => self.forget(key),
                Event::Synced => {
                    self.is_listing = false;
                    self.tell(&mut all);
                }
                Event::Problems(_)
                | Event::Changed(_)
                | Event::Machine(_)
                | Event::Conflicts(_)
                | Event::Unprovided(_) => {}
            }
            all.push(event);
        }
        if !self.is_listing {
            self.tell(&mut all);
        }
        all
    }

    fn see(&mut self, object: &Object) {
        match &object.spec {
            Spec::Service(service) if is_it(&object.key.name) => {
                let spec = service.spec.as_ref();
                self.given = Some(spec.is_some_and(|spec| !spec.selector.is_empty()));
            }
            Spec::EndpointSlice(slice) => {
                let service = slice.service.as_deref();
                if *object.key.name.namespace == *NAME.0 && service == Some(NAME.1) {
                    self.given_slices.insert(object.key.name.clone());
                } else {
                    self.given_slices.remove(&object.key.name);
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        match key.kind {
            Kind::Service if is_it(&key.name) => {
                self.given = None;
                // The source's removal takes away what has the own one's name.
                self.told.service = false;
            }
            Kind::EndpointSlice => {
                self.given_slices.remove(&key.name);
            }
            _ => {}
        }
    }

    /// Says what is not yet as it should be.
    fn tell(&mut self, all: &mut Vec<Event>) {
        let wanted = Told {
            service: self.given.is_none(),
            slices: self.given != Some(true) && self.given_slices.is_empty(),
        };
        if wanted.service && !self.told.service {
            all.push(Event::Put(Box::new(self.service.clone())));
        }
        if wanted.slices != self.told.slices {
            all.extend(self.slices.iter().map(|slice| {
                if wanted.slices {
                    Event::Put(Box::new(slice.clone()))
                } else {
                    Event::Remove(slice.key.clone())
                }
            }));
        }
        self.told = wanted;
    }
}

/// Hands events on, those of the own objects among them, until there are no more.
pub async fn run(
    mut kube_dns: Option<KubeDns>,
    mut events: mpsc::Receiver<Vec<Event>>,
    to: mpsc::Sender<Vec<Event>>,
) {
    while let Some(batch) = events.recv().await {
        let batch = match &mut kube_dns {
            Some(kube_dns) => kube_dns.follow(batch),
            None => batch,
        };
        if to.send(batch).await.is_err() {
            return;
        }
    }
}

fn is_it(name: &ObjectName) -> bool {
    (&*name.namespace, &*name.name) == NAME
}

fn object(kind: Kind, name: &str, spec: Spec) -> Object {
    let origin = Origin {
        file: ORIGIN.into(),
        ..Origin::default()
    };
    Object {
        key: ObjectKey {
            kind,
            name: ObjectName::new(NAME.0, name),
        },
        spec,
        origin: Arc::new(origin),
    }
}

fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(NAME.0.to_owned()),
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

/// Where such a service answers DNS unless a manifest says otherwise.
pub fn addresses(ranges: &[ServiceRange]) -> impl Iterator<Item = SocketAddr> {
    let addresses = ranges.iter().filter_map(|range| range.address(PLACE));
    addresses.map(|address| SocketAddr::new(address, PORT))
}

fn service(ranges: &[&ServiceRange]) -> Service {
    let addresses = ranges.iter().map(|range| range.address(PLACE));
    // In a range that is so small any address will do.
    let addresses: Option<Vec<String>> = addresses
        .map(|address| address.map(|it| it.to_string()))
        .collect();
    let families = ranges.iter().map(|range| range.family().name().to_owned());
    let port = |name: &str, protocol: &str, port: i32| ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    };
    let policy = if ranges.len() > 1 {
        "RequireDualStack"
    } else {
        "SingleStack"
    };
    Service {
        metadata: metadata(NAME.1),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: addresses.as_ref().and_then(|all| all.first().cloned()),
            cluster_ips: addresses,
            ip_families: Some(families.collect()),
            ip_family_policy: Some(policy.to_owned()),
            ports: Some(vec![
                port("dns", "UDP", PORT.into()),
                port("dns-tcp", "TCP", PORT.into()),
                port("metrics", "TCP", METRICS_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn slice(name: &str, listener: SocketAddr, metrics: Option<SocketAddr>) -> EndpointSlice {
    let port = |name: &str, protocol: &str, port: u16| EndpointPort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: Some(port.into()),
        ..EndpointPort::default()
    };
    // The figures are at the same address only if they are everywhere, or just there.
    let metrics = metrics.filter(|it| it.ip().is_unspecified() || it.ip() == listener.ip());
    let mut ports = vec![
        port("dns", "UDP", listener.port()),
        port("dns-tcp", "TCP", listener.port()),
    ];
    ports.extend(metrics.map(|it| port("metrics", "TCP", it.port())));
    let mut metadata = metadata(name);
    let label = (SERVICE_NAME_LABEL.to_owned(), NAME.1.to_owned());
    metadata.labels = Some([label].into());
    EndpointSlice {
        metadata,
        address_type: Family::of(listener.ip()).name().to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![listener.ip().to_string()],
            ..Endpoint::default()
        }]),
        ports: Some(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        facts::Names,
        labels::Labels,
        objects_for_tests::{app, listing, put, remove},
        resolver::{Resolver, snapshot_of},
        service::Algorithm,
        snapshot::Snapshot,
    };

    fn ranges() -> Vec<ServiceRange> {
        let nets = ["10.96.0.0/16", "fd00:10:96::/112"];
        nets.map(|net| ServiceRange::new(net.parse().unwrap()))
            .to_vec()
    }

    fn kube_dns(listeners: &[&str]) -> Option<KubeDns> {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|it| it.parse().unwrap()).collect();
        KubeDns::new(&listeners, "0.0.0.0:10249".parse().ok(), &ranges())
    }

    fn resolved(batches: Vec<Vec<Event>>) -> Arc<Snapshot> {
        let mut kube_dns = kube_dns(&["169.254.20.10:53"]).unwrap();
        let events = batches.into_iter().flat_map(|batch| kube_dns.follow(batch));
        let events = events.collect();
        let resolver = Resolver::new(
            "node-a",
            Algorithm::default(),
            ranges(),
            crate::model::allocate::Allocations::new(),
        );
        snapshot_of(resolver, events)
    }

    /// Each frontend and where it leads.
    fn shown(snapshot: &Snapshot) -> Vec<String> {
        let name = ObjectName::new(NAME.0, NAME.1);
        let Some(service) = snapshot.services.get(&name) else {
            return Vec::new();
        };
        let balancers = service.balancers.iter();
        balancers
            .map(|balancer| {
                let frontend = &balancer.frontends[0];
                let targets: Vec<String> = balancer
                    .chosen()
                    .map(|it| SocketAddr::new(it.address, it.port).to_string())
                    .collect();
                let from = SocketAddr::new(frontend.address, frontend.port);
                format!("{} {from} {}", balancer.port_name, targets.join(" "))
            })
            .collect()
    }

    fn given(selector: bool) -> Object {
        let mut object = kube_dns(&["169.254.20.10:53"]).unwrap().service;
        if let Spec::Service(service) = &mut object.spec {
            let spec = Arc::make_mut(service).spec.as_mut().unwrap();
            spec.cluster_ip = Some("10.96.0.77".into());
            spec.cluster_ips = Box::default();
            let labels = [("k8s-app".to_owned(), "kube-dns".to_owned())].into();
            spec.selector = Labels::of(selector.then_some(&labels), &mut Names::default());
        }
        object
    }

    const OWN: [&str; 3] = [
        "dns 10.96.0.10:53 169.254.20.10:53",
        "dns-tcp 10.96.0.10:53 169.254.20.10:53",
        "metrics 10.96.0.10:9153 169.254.20.10:10249",
    ];

    #[test]
    fn the_resolver_is_a_service_with_the_tenth_address() {
        assert_eq!(shown(&resolved(vec![listing([app("web")])])), OWN);
        let again = vec![listing([app("web")]), listing([app("api")])];
        assert_eq!(shown(&resolved(again)), OWN, "it survives a listing");
    }

    #[test]
    fn a_service_of_the_manifests_counts_and_with_a_selector_its_pods_do() {
        let moved = OWN.map(|line| line.replace("10.96.0.10", "10.96.0.77"));
        assert_eq!(shown(&resolved(vec![listing([given(false)])])), moved);
        let nobody = [
            "dns 10.96.0.77:53 ",
            "dns-tcp 10.96.0.77:53 ",
            "metrics 10.96.0.77:9153 ",
        ];
        assert_eq!(shown(&resolved(vec![listing([given(true)])])), nobody);
        let gone = vec![listing([given(true)]), vec![remove(&given(true))]];
        assert_eq!(shown(&resolved(gone)), OWN, "and the own one comes back");
        let come = vec![listing([]), vec![put(given(true))]];
        assert_eq!(shown(&resolved(come)), nobody);
    }

    #[test]
    fn a_resolver_that_no_pod_reaches_is_no_service() {
        assert!(kube_dns(&["127.0.0.1:53", "[::1]:53"]).is_none());
        let both = kube_dns(&["127.0.0.1:53", "10.0.0.1:53", "[fd00::1]:5300"]).unwrap();
        assert_eq!(both.slices.len(), 2);
        let Spec::Service(service) = &both.service.spec else {
            panic!("no service");
        };
        let spec = service.spec.as_ref().unwrap();
        let addresses = spec.cluster_ips.iter().map(|it| &**it);
        assert!(addresses.eq(["10.96.0.10", "fd00:10:96::a"]));
    }
}
