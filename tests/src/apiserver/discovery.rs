//! What the server says of itself: for `kubectl`, which asks first.

use serde_json::{Value, json};

use super::resource::ALL;

const GROUPS: [&str; 2] = ["discovery.k8s.io", "coordination.k8s.io"];

/// The document of a path, if it is one of these.
pub(super) fn document(path: &str) -> Option<Value> {
    match path.trim_end_matches('/') {
        "/version" => Some(
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0-test", "platform": "linux/amd64"}),
        ),
        "/healthz" | "/livez" | "/readyz" => Some(json!("ok")),
        "/api" => Some(
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ),
        "/apis" => {
            let groups = GROUPS.map(|group| {
                let version = json!({"groupVersion": format!("{group}/v1"), "version": "v1"});
                json!({"name": group, "versions": [version], "preferredVersion": version})
            });
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        "/api/v1" => Some(resources("v1")),
        path => {
            let version = path.strip_prefix("/apis/")?;
            let group = version.strip_suffix("/v1")?;
            GROUPS.contains(&group).then(|| resources(version))
        }
    }
}

fn resources(version: &str) -> Value {
    let known = ALL.iter().filter(|it| it.api_version == version);
    let resources: Vec<Value> = known
        .map(|it| {
            let short: Vec<&str> = Some(it.short).filter(|text| !text.is_empty()).into_iter().collect();
            json!({"name": it.name, "singularName": it.kind.to_lowercase(), "namespaced": it.has_namespace, "kind": it.kind,
                   "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"], "shortNames": short})
        })
        .collect();
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources})
}
