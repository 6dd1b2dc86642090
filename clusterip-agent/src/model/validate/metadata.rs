//! What all objects have.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Faults, names};

/// Bytes of all annotations of an object together.
const ANNOTATIONS: usize = 256 << 10;

/// How the name of a kind is written.
pub(super) type NameSyntax = fn(&str) -> Result<(), String>;

/// Metadata of an object in a namespace.
pub(super) fn namespaced(faults: &mut Faults, metadata: &ObjectMeta, name: NameSyntax) {
    if let Some(namespace) = metadata.namespace.as_deref() {
        faults.check("metadata.namespace", namespace, names::dns_label(namespace));
    }
    common(faults, metadata, name);
}

/// Metadata of an object outside namespaces.
pub(super) fn cluster_wide(faults: &mut Faults, metadata: &ObjectMeta, name: NameSyntax) {
    if let Some(namespace) = super::given(metadata.namespace.as_deref()) {
        faults.add(
            "metadata.namespace",
            namespace,
            "may not be set: this kind belongs to no namespace; take it away",
        );
    }
    common(faults, metadata, name);
}

fn common(faults: &mut Faults, metadata: &ObjectMeta, syntax: NameSyntax) {
    let name = metadata.name.as_deref().unwrap_or_default();
    faults.check("metadata.name", name, syntax(name));
    if let Some(map) = &metadata.labels {
        labels(faults, "metadata.labels", map);
    }
    if let Some(annotations) = &metadata.annotations {
        for (key, value) in annotations {
            let syntax = names::qualified_name(&key.to_lowercase());
            faults.check(
                keyed("metadata.annotations", key),
                value,
                key_fault(key, syntax),
            );
        }
        let size: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
        if size > ANNOTATIONS {
            faults.add(
                "metadata.annotations",
                format!("{size} bytes"),
                format!("may have at most {ANNOTATIONS} bytes together"),
            );
        }
    }
}

/// Labels, and selectors, which are written the same way.
pub(super) fn labels(faults: &mut Faults, field: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let syntax = names::qualified_name(key);
        faults.check(keyed(field, key), value, key_fault(key, syntax));
        faults.check(keyed(field, key), value, names::label_value(value));
    }
}

fn key_fault(key: &str, syntax: Result<(), String>) -> Result<(), String> {
    syntax.map_err(|allowed| format!("the key {key:?} {allowed}"))
}

/// The path of an entry of a map, as positions are looked up.
pub(super) fn keyed(field: &str, key: &str) -> String {
    if key.contains(['.', '/', '[', ']']) {
        format!("{field}[{key}]")
    } else {
        format!("{field}.{key}")
    }
}
