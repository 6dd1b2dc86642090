//! Which kinds have an effect here.

use crate::model::object::Kind;

/// What an apiVersion and kind are to us.
pub(super) enum Known {
    /// It has an effect.
    Kind(Kind),
    /// It may be there and has no effect.
    Ignored,
    /// It is a mistake.
    Wrong {
        /// The field that is wrong.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        message: String,
    },
}

/// The kinds of v1: the list is closed, so a kind that is not in it is a mistake.
const CORE: [&str; 18] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "Service",
    "ServiceAccount",
    "Status",
];

/// What an apiVersion and kind are to us.
pub(super) fn known(api_version: &str, kind: &str) -> Known {
    let wanted = match kind {
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Service" | "Pod" | "Node" | "Namespace" => "v1",
        _ if api_version == "v1" && !CORE.contains(&kind) => {
            return Known::Wrong {
                field: "kind",
                value: kind.to_owned(),
                message: "no kind of v1; it may be Service, Pod, Node or Namespace here (others are ignored, but v1 has none of this name)"
                    .to_owned(),
            };
        }
        _ => return Known::Ignored,
    };
    // `serving.knative.dev/v1 Service` is another thing altogether.
    let group = |version: &str| {
        version
            .rsplit_once('/')
            .map_or("", |(group, _)| group)
            .to_owned()
    };
    if api_version == wanted {
        match kind {
            "EndpointSlice" => Known::Kind(Kind::EndpointSlice),
            "Service" => Known::Kind(Kind::Service),
            "Pod" => Known::Kind(Kind::Pod),
            "Node" => Known::Kind(Kind::Node),
            _ => Known::Kind(Kind::Namespace),
        }
    } else if group(api_version) == group(wanted) || !api_version.contains('/') {
        Known::Wrong {
            field: "apiVersion",
            value: api_version.to_owned(),
            message: format!("a {kind} is read as {wanted} only; write `apiVersion: {wanted}`"),
        }
    } else {
        Known::Ignored
    }
}
