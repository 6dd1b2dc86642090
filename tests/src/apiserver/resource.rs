//! Which resources there are, and what a path asks for.

/// A resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resource {
    /// As paths have it.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) has_namespace: bool,
    pub(super) short: &'static str,
}

pub(super) const ALL: [Resource; 6] = [
    Resource {
        name: "services",
        kind: "Service",
        api_version: "v1",
        has_namespace: true,
        short: "svc",
    },
    Resource {
        name: "endpointslices",
        kind: "EndpointSlice",
        api_version: "discovery.k8s.io/v1",
        has_namespace: true,
        short: "",
    },
    Resource {
        name: "nodes",
        kind: "Node",
        api_version: "v1",
        has_namespace: false,
        short: "no",
    },
    Resource {
        name: "namespaces",
        kind: "Namespace",
        api_version: "v1",
        has_namespace: false,
        short: "ns",
    },
    Resource {
        name: "events",
        kind: "Event",
        api_version: "v1",
        has_namespace: true,
        short: "ev",
    },
    Resource {
        name: "leases",
        kind: "Lease",
        api_version: "coordination.k8s.io/v1",
        has_namespace: true,
        short: "",
    },
];

/// What a path asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    /// None is all of them.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// Its status alone: the only part that has a path of its own here.
    pub(super) is_status: bool,
}

impl Target {
    /// None for a path that leads nowhere.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let (api_version, rest) = if let Some(rest) = path.strip_prefix("/api/v1/") {
            ("v1", rest)
        } else {
            let rest = path.strip_prefix("/apis/")?;
            let end = rest.match_indices('/').nth(1)?.0;
            (rest.get(..end)?, rest.get(end + 1..)?)
        };
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let (parts, is_status) = match parts.as_slice() {
            [rest @ .., "status"] => (rest, true),
            all => (all, false),
        };
        let (namespace, name, item) = match parts {
            [name] => (None, name, None),
            ["namespaces", namespace, name] => (Some(*namespace), name, None),
            ["namespaces", namespace, name, item] => (Some(*namespace), name, Some(*item)),
            [name, item] => (None, name, Some(*item)),
            _ => return None,
        };
        let resource = ALL
            .iter()
            .find(|it| it.name == *name && it.api_version == api_version)?;
        Some(Self {
            resource,
            namespace: namespace.map(str::to_owned),
            name: item.map(str::to_owned),
            is_status,
        })
    }

    /// As roles and tests call it.
    pub(super) const fn called(&self) -> &'static str {
        if self.is_status && matches!(self.resource.name.as_bytes(), b"services") {
            "services/status"
        } else {
            self.resource.name
        }
    }

    /// Of an object, by its kind.
    pub(super) fn of(kind: &str) -> Option<&'static Resource> {
        ALL.iter().find(|it| it.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_resource() {
        for (path, wanted) in [
            ("/api/v1/services", Some(("services", None, None))),
            (
                "/api/v1/namespaces/default/services/web",
                Some(("services", Some("default"), Some("web"))),
            ),
            ("/api/v1/nodes/a", Some(("nodes", None, Some("a")))),
            (
                "/apis/discovery.k8s.io/v1/namespaces/x/endpointslices",
                Some(("endpointslices", Some("x"), None)),
            ),
            ("/apis/discovery.k8s.io/v1/services", None),
            ("/metrics", None),
            (
                "/api/v1/namespaces/default/services/web/status",
                Some(("services", Some("default"), Some("web"))),
            ),
            (
                "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a",
                Some(("leases", Some("kube-system"), Some("a"))),
            ),
        ] {
            let found = Target::parse(path);
            let found = found.as_ref().map(|it| {
                (
                    it.resource.name,
                    it.namespace.as_deref(),
                    it.name.as_deref(),
                )
            });
            assert_eq!(found, wanted, "{path}");
        }
    }
}
