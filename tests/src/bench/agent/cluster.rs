//! A cluster of many services that are all alike, as manifests.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use clusterip_agent::{
    model::{event::Event, validate::Rules},
    source::manifests,
};

/// Address of the first service, by request; the others get theirs from the agent.
pub(super) const FIRST_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Port of every service.
pub(super) const PORT: u16 = 80;
/// Namespaces that the services are spread over.
const NAMESPACES: usize = 50;
/// Nodes that the endpoints are spread over.
const NODES: usize = 100;
/// Where endpoints have their addresses.
const FIRST_ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// Addresses of endpoints that take the place of others begin so much later.
const SUCCESSORS: usize = 4_000_000;

/// Services of one file where there are few files: a file has its largest size.
pub(super) const LARGE: usize = 10_000;

/// What the endpoints of the services are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// An `EndpointSlice` for each service.
    Slices,
    /// A `Pod` for each endpoint.
    Pods,
}

/// Services with the same number of endpoints each.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// How many services.
    pub services: usize,
    /// Of each service.
    pub endpoints: usize,
}

impl Cluster {
    /// In words.
    pub(super) fn size(&self) -> String {
        format!("{} x {}", self.services, self.endpoints)
    }

    /// The manifest of a service.
    pub(super) fn service(index: usize) -> String {
        let (name, namespace) = names(index);
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels:\n    app: \
             {name}\nspec:\n  selector:\n    app: {name}\n  ports:\n    - name: http\n      protocol: TCP\n      port: \
             {PORT}\n      targetPort: 8080\n"
        );
        if index == 0 {
            let _ = writeln!(text, "  clusterIP: {FIRST_VIP}");
        }
        text
    }

    /// The manifest of a service's slice. In odd rounds its first endpoint has another address than in even ones.
    #[must_use]
    pub fn slice(&self, index: usize, round: usize) -> String {
        let (name, namespace) = names(index);
        let mut text = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-1\n  namespace: \
             {namespace}\n  labels:\n    kubernetes.io/service-name: {name}\naddressType: IPv4\nports:\n  - name: http\n    \
             protocol: TCP\n    port: 8080\nendpoints:\n"
        );
        for place in 0..self.endpoints {
            let number = self.number(index, place);
            let (number, pod) = if place == 0 && round % 2 == 1 {
                (number + SUCCESSORS, "next".to_owned())
            } else {
                (number, place.to_string())
            };
            let (address, node) = (address(number), number % NODES);
            let _ = write!(
                text,
                "  - addresses:\n      - {address}\n    conditions:\n      ready: true\n    nodeName: \
                 node-{node}\n    zone: zone-{zone}\n    targetRef:\n      kind: Pod\n      name: {name}-{pod}\n      \
                 namespace: {namespace}\n",
                zone = node % 3,
            );
        }
        text
    }

    /// The manifests of a service's pods.
    fn pods(&self, index: usize) -> String {
        let (name, namespace) = names(index);
        let mut text = String::new();
        for place in 0..self.endpoints {
            let number = self.number(index, place);
            let (address, node) = (address(number), number % NODES);
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}-{place}\n  namespace: {namespace}\n  \
                 labels:\n    app: {name}\nspec:\n  nodeName: node-{node}\n  containers:\n    - name: main\n      image: \
                 web\n      ports:\n        - containerPort: 8080\nstatus:\n  phase: Running\n  podIP: {address}\n",
            );
        }
        text
    }

    /// All manifests of a service.
    fn text(&self, index: usize, form: Form) -> String {
        let endpoints = match form {
            Form::Slices => format!("---\n{}", self.slice(index, 0)),
            Form::Pods => self.pods(index),
        };
        format!("{}{endpoints}", Self::service(index))
    }

    /// Writes a file for each service.
    pub(super) fn write_files(&self, folder: &Path, form: Form) -> Result<()> {
        for index in 0..self.services {
            let path = folder.join(file(index));
            fs::write(&path, self.text(index, form))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes the file of the first service anew, at one stroke.
    pub(super) fn rewrite_first(&self, folder: &Path, round: usize) -> Result<()> {
        let text = format!("{}---\n{}", Self::service(0), self.slice(0, round));
        let new = folder.join(".next");
        fs::write(&new, text)?;
        fs::rename(new, folder.join(file(0))).context("put a manifest in its place")
    }

    /// Writes a file for each so many services.
    pub(super) fn write_large(&self, folder: &Path, form: Form, size: usize) -> Result<()> {
        for first in (0..self.services).step_by(size.max(1)) {
            let indices = first..self.services.min(first.saturating_add(size));
            let texts: Vec<String> = indices.map(|index| self.text(index, form)).collect();
            let path = folder.join(format!("from-{first:05}.yaml"));
            fs::write(&path, texts.join("---\n"))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// The whole cluster as a source lists it.
    ///
    /// # Errors
    /// The file system refused, or not all of it is valid.
    pub fn listing(&self) -> Result<Vec<Event>> {
        let folder = tempfile::tempdir()?;
        self.write_large(folder.path(), Form::Slices, LARGE)?;
        let events =
            manifests::once(folder.path(), Rules::default()).context("read the manifests")?;
        let objects = events
            .iter()
            .filter(|it| matches!(it, Event::Put(_)))
            .count();
        ensure!(
            objects == 2 * self.services,
            "{objects} objects of {} services",
            self.services
        );
        Ok(events)
    }

    const fn number(&self, index: usize, place: usize) -> usize {
        index * self.endpoints + place
    }
}

/// What a source says of a changed file.
#[must_use]
pub fn changes(text: String) -> Vec<Event> {
    let listing = manifests::Listing::from([("changed.yaml".into(), Ok(Arc::from(text)))]);
    let mut events = manifests::ManifestSource::new(Rules::default()).update(listing);
    events.retain(|event| matches!(event, Event::Put(_)));
    events
}

fn names(index: usize) -> (String, String) {
    let namespace = format!("team-{}", index % NAMESPACES);
    (format!("service-{index:05}"), namespace)
}

fn file(index: usize) -> String {
    format!("service-{index:05}.yaml")
}

fn address(number: usize) -> Ipv4Addr {
    let offset = u32::try_from(number).unwrap_or(u32::MAX);
    Ipv4Addr::from_bits(FIRST_ENDPOINT.to_bits().saturating_add(offset))
}
