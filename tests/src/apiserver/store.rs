//! The objects, and all that ever happened to them: what an API server keeps in etcd.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

use super::selector::Selector;

/// Which object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    /// As paths have it: `services`.
    pub(super) resource: String,
    /// Empty for objects that have none.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// An object came, changed or went.
    Object {
        resource: String,
        old: Option<Arc<Value>>,
        new: Option<Arc<Value>>,
        /// What a watch says if that went: as it was, with the version of its end.
        last: Option<Arc<Value>>,
    },
    /// A bookmark is due.
    Bookmark,
    /// A line that is none, for whoever watches this resource.
    Line { resource: String, text: Arc<str> },
}

/// Everything.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    /// The change that made each version, from 2 on.
    history: Vec<Change>,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// Lists that are handed out in pages, as they were when they began.
    pages: BTreeMap<String, (u64, Vec<Arc<Value>>)>,
    next_address: u32,
    next_port: u16,
}

static UIDS: AtomicU64 = AtomicU64::new(1);

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            history: Vec::new(),
            oldest: 0,
            pages: BTreeMap::new(),
            next_address: 0x0a60_8000,
            next_port: 31_000,
        }
    }
}

impl Store {
    /// The version of everything as it is now.
    pub(super) const fn version(&self) -> u64 {
        self.history.len() as u64 + 1
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn all(&self, resource: &str) -> impl Iterator<Item = &Arc<Value>> {
        let of_it = self
            .objects
            .iter()
            .filter(move |(key, _)| key.resource == resource);
        of_it.map(|(_, object)| object)
    }

    /// Those of a request.
    pub(super) fn list(
        &self,
        resource: &str,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Vec<Arc<Value>> {
        let objects = self.objects.iter().filter(|(key, object)| {
            key.resource == resource
                && namespace.is_none_or(|namespace| key.namespace == namespace)
                && selector.selects(object)
        });
        objects.map(|(_, object)| object.clone()).collect()
    }

    /// Creates or replaces an object; gives it what a server gives it.
    pub(super) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        let version = self.version() + 1;
        let old = self.objects.get(&key).cloned();
        if object["metadata"].is_object() {
            let metadata = &mut object["metadata"];
            metadata["resourceVersion"] = json!(version.to_string());
            let uid = old.as_ref().map(|old| old["metadata"]["uid"].clone());
            if metadata["uid"].is_null() {
                metadata["uid"] = uid.filter(|uid| !uid.is_null()).unwrap_or_else(|| {
                    json!(format!(
                        "00000000-0000-0000-0000-{:012}",
                        UIDS.fetch_add(1, Ordering::Relaxed)
                    ))
                });
            }
            if metadata["creationTimestamp"].is_null() {
                metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
        }
        if key.resource == "services" {
            self.allocate(&mut object, old.as_deref());
        }
        let new = Arc::new(object);
        self.history.push(Change::Object {
            resource: key.resource.clone(),
            old,
            new: Some(new.clone()),
            last: None,
        });
        self.objects.insert(key, new.clone());
        new
    }

    /// Gives a service the addresses and node ports that it does not name.
    fn allocate(&mut self, service: &mut Value, old: Option<&Value>) {
        let Some(spec) = service["spec"].as_object_mut() else {
            return;
        };
        let kind = spec.entry("type").or_insert_with(|| json!("ClusterIP"));
        let kind = kind.as_str().unwrap_or_default().to_owned();
        if kind != "LoadBalancer"
            && let Some(status) = service["status"].as_object_mut()
        {
            // As the real one does it.
            status.remove("loadBalancer");
        }
        let Some(spec) = service["spec"].as_object_mut() else {
            return;
        };
        if kind == "ExternalName" {
            return;
        }
        if !spec.contains_key("clusterIP") {
            let kept = old.map(|old| old["spec"]["clusterIP"].clone());
            let address = kept.filter(Value::is_string).unwrap_or_else(|| {
                self.next_address += 1;
                json!(std::net::Ipv4Addr::from_bits(self.next_address).to_string())
            });
            spec.insert("clusterIP".to_owned(), address);
        }
        if !spec.contains_key("clusterIPs") {
            let first = spec.get("clusterIP").cloned().unwrap_or_default();
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter(|port| port.is_object()) {
            if kind != "ClusterIP" && port["nodePort"].is_null() {
                port["nodePort"] = json!(self.next_port);
                self.next_port += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let old = self.objects.remove(key)?;
        let mut last = old.as_ref().clone();
        if last["metadata"].is_object() {
            last["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
        }
        self.history.push(Change::Object {
            resource: key.resource.clone(),
            old: Some(old.clone()),
            new: None,
            last: Some(Arc::new(last)),
        });
        Some(old)
    }

    pub(super) fn note(&mut self, change: Change) {
        self.history.push(change);
    }

    /// Forgets what happened until now: whoever was away is told to list again.
    pub(super) fn compact(&mut self) {
        self.oldest = self.version();
        self.pages.clear();
    }

    /// Whether a watch can go on from a version.
    pub(super) const fn remembers(&self, version: u64) -> bool {
        version >= self.oldest && version <= self.version()
    }

    /// What made the version after this one.
    pub(super) fn after(&self, version: u64) -> Option<&Change> {
        let place = usize::try_from(version.checked_sub(1)?).ok()?;
        self.history.get(place)
    }

    /// Keeps a list that is handed out in pages; the token of the rest.
    pub(super) fn keep(&mut self, version: u64, rest: Vec<Arc<Value>>) -> String {
        let token = format!("{version}.{}/+=", self.pages.len());
        self.pages.insert(token.clone(), (version, rest));
        token
    }

    /// The rest of a list; None if that is forgotten.
    pub(super) fn kept(&self, token: &str) -> Option<(u64, Vec<Arc<Value>>)> {
        self.pages.get(token).cloned()
    }
}
