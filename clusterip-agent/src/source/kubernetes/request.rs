//! The paths of requests: lists in pages, watches, and lists that a watch begins with.

use std::fmt::Write as _;

use super::{Resource, Scope};

/// Objects in a page of a list; client-go's.
const PAGE: usize = 500;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask<'a> {
    /// A page of a list: the first one, or the one that a token leads to.
    List(Option<&'a str>),
    /// All objects as events, and then what changes.
    ListAndWatch,
    /// What changed since a version.
    Watch(&'a str),
}

/// Path and query of a request; a watch ends at the server after `seconds`.
pub(super) fn path(resource: Resource, scope: &Scope, ask: Ask<'_>, seconds: u64) -> String {
    let mut query = Query(format!("{}?", resource.path()));
    if let Some((name, value)) = scope.selector(resource) {
        query.add(name, &value);
    }
    match ask {
        Ask::List(token) => {
            query.add("limit", &PAGE.to_string());
            if let Some(token) = token {
                query.add("continue", token);
            }
        }
        Ask::ListAndWatch => {
            query.watch(seconds);
            query.add("sendInitialEvents", "true");
            query.add("resourceVersionMatch", "NotOlderThan");
        }
        Ask::Watch(version) => {
            query.watch(seconds);
            query.add("resourceVersion", version);
        }
    }
    query.0
}

struct Query(String);

impl Query {
    fn watch(&mut self, seconds: u64) {
        self.add("watch", "true");
        self.add("allowWatchBookmarks", "true");
        self.add("timeoutSeconds", &seconds.to_string());
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.0.ends_with('?') {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                // Writing to a String does not fail.
                write!(self.0, "%{byte:02X}").ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A13: kube-proxy's filter, unless the resolver wants what the dataplane does not.
    #[test]
    fn a_request_says_what_is_wanted_and_from_where_on() {
        let scope = Scope::new("node-a", false);
        let filter = "labelSelector=%21service.kubernetes.io%2Fheadless%2C%21service.kubernetes.io%2Fservice-proxy-name";
        for (resource, scope, ask, wanted) in [
            (
                Resource::Services,
                scope.clone(),
                Ask::List(None),
                format!("/api/v1/services?{filter}&limit=500"),
            ),
            (
                Resource::Services,
                Scope::new("node-a", true),
                Ask::List(Some("a+/=")),
                "/api/v1/services?limit=500&continue=a%2B%2F%3D".to_owned(),
            ),
            (
                Resource::Node,
                scope.clone(),
                Ask::Watch("7"),
                "/api/v1/nodes?fieldSelector=metadata.name%3Dnode-a&watch=true&allowWatchBookmarks=true&timeoutSeconds=300\
                 &resourceVersion=7"
                    .to_owned(),
            ),
            (
                Resource::EndpointSlices,
                scope,
                Ask::ListAndWatch,
                format!(
                    "/apis/discovery.k8s.io/v1/endpointslices?{filter}&watch=true&allowWatchBookmarks=true&timeoutSeconds=300\
                     &sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
                ),
            ),
        ] {
            assert_eq!(path(resource, &scope, ask, 300), wanted);
        }
    }
}
