//! What each endpoint is good for, seen from one node: decided once for every source of endpoints (A6-A9).

use super::{
    endpoints::Candidate,
    facts::TrafficPolicy,
    resolve::NodeInfo,
    service::{Action, Endpoint, Role},
};

/// How near the endpoints are that new flows go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    Node,
    Zone,
    All,
}

/// Hints count only if every ready endpoint has one and at least one points here; those for nodes come before those
/// for zones (A8, A9).
fn reach(found: &[Candidate]) -> Reach {
    let ready = || found.iter().filter(|it| it.ready);
    let counts = |hint: fn(&Candidate) -> Option<bool>| {
        ready().all(|it| hint(it).is_some()) && ready().any(|it| hint(it) == Some(true))
    };
    if counts(|it| it.hints.node) {
        Reach::Node
    } else if counts(|it| it.hints.zone) {
        Reach::Zone
    } else {
        Reach::All
    }
}

/// The ready endpoints; if there is none, those that serve and terminate (A6). Under a Local policy that is decided
/// among the endpoints of this node (A7), and traffic is dropped where only other nodes have some (B8).
pub(super) fn categorise(
    found: &[Candidate],
    policy: TrafficPolicy,
    node: &NodeInfo,
) -> (Vec<Endpoint>, Action) {
    let reach = match policy {
        TrafficPolicy::Cluster => reach(found),
        TrafficPolicy::Local => Reach::All,
    };
    let is_eligible = |it: &Candidate| policy == TrafficPolicy::Cluster || *it.node == *node.name;
    let is_near = |it: &Candidate| match reach {
        Reach::Node => it.hints.node == Some(true),
        Reach::Zone => it.hints.zone == Some(true),
        Reach::All => true,
    };
    let is_fallback = |it: &Candidate| it.serving && it.terminating;
    let has_ready = found.iter().any(|it| is_eligible(it) && it.ready);
    let is_chosen = |it: &Candidate| {
        is_eligible(it)
            && if has_ready {
                it.ready && is_near(it)
            } else {
                is_fallback(it)
            }
    };
    let action = if found.iter().any(is_chosen) {
        Action::Balance
    } else if found.iter().any(|it| it.ready || is_fallback(it)) {
        Action::Drop
    } else {
        Action::Reject
    };
    let endpoints = found
        .iter()
        .map(|it| {
            let role = if is_chosen(it) {
                Role::Chosen
            } else if it.ready || it.serving {
                Role::Serving
            } else {
                Role::Listed
            };
            let Candidate {
                address,
                port,
                weight,
                ready: _,
                serving: _,
                terminating,
                hints: _,
                node,
                zone,
                identity,
            } = it;
            Endpoint {
                address: *address,
                port: *port,
                weight: *weight,
                terminating: *terminating,
                role,
                node: node.clone(),
                zone: zone.clone(),
                identity: identity.clone(),
            }
        })
        .collect();
    (endpoints, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoints::Hints;

    fn node() -> NodeInfo {
        NodeInfo {
            name: "here".into(),
            zone: "east".into(),
            ..NodeInfo::default()
        }
    }

    /// A ready endpoint 10.1.0.`last`.
    fn ready(last: u8, node: &str) -> Candidate {
        Candidate {
            address: [10, 1, 0, last].into(),
            port: 80,
            weight: 1,
            ready: true,
            serving: true,
            terminating: false,
            hints: Hints::default(),
            node: node.into(),
            zone: "".into(),
            identity: None,
        }
    }

    fn leaving(last: u8, node: &str, serving: bool) -> Candidate {
        Candidate {
            ready: false,
            serving,
            terminating: true,
            ..ready(last, node)
        }
    }

    fn hinted(last: u8, node: Option<bool>, zone: Option<bool>) -> Candidate {
        Candidate {
            hints: Hints { node, zone },
            ..ready(last, "")
        }
    }

    fn chosen(found: &[Candidate], policy: TrafficPolicy) -> (Vec<u8>, Action) {
        let (endpoints, action) = categorise(found, policy, &node());
        let last = |it: &Endpoint| it.address.to_string().rsplit('.').next().map(str::parse);
        let all = endpoints.iter().filter(|it| it.role == Role::Chosen);
        (
            all.filter_map(last).collect::<Result<_, _>>().unwrap(),
            action,
        )
    }

    /// A6
    #[test]
    fn the_ready_ones_else_those_that_serve_and_terminate_never_those_that_do_not_serve() {
        let leaving_two = [leaving(2, "", true), leaving(3, "", false)];
        let both = [ready(1, ""), leaving(2, "", true), leaving(3, "", false)];
        assert_eq!(
            chosen(&both, TrafficPolicy::Cluster),
            (vec![1], Action::Balance)
        );
        assert_eq!(
            chosen(&leaving_two, TrafficPolicy::Cluster),
            (vec![2], Action::Balance)
        );
        assert_eq!(
            chosen(&leaving_two[1..], TrafficPolicy::Cluster),
            (vec![], Action::Reject)
        );
    }

    /// A7, B8
    #[test]
    fn a_local_policy_decides_among_the_endpoints_of_the_node() {
        let local = |found: &[Candidate]| chosen(found, TrafficPolicy::Local);
        assert_eq!(
            local(&[ready(1, "here"), ready(2, "there")]),
            (vec![1], Action::Balance)
        );
        let terminating_here = [leaving(1, "here", true), ready(2, "there")];
        assert_eq!(local(&terminating_here), (vec![1], Action::Balance));
        let elsewhere = [ready(2, "there")];
        assert_eq!(local(&elsewhere), (vec![], Action::Drop));
        assert_eq!(
            local(&[]),
            (vec![], Action::Reject),
            "B8: no endpoint at all"
        );
        let mut far = hinted(1, None, Some(false));
        far.node = "here".into();
        let mut near = hinted(2, None, Some(true));
        near.node = "here".into();
        assert_eq!(
            local(&[far, near]),
            (vec![1, 2], Action::Balance),
            "hints are ignored"
        );
    }

    /// A8, A9
    #[test]
    fn hints_count_if_every_ready_endpoint_has_one_and_one_points_here() {
        let near = |found: &[Candidate]| chosen(found, TrafficPolicy::Cluster).0;
        let (yes, no) = (Some(true), Some(false));
        for (found, wanted, why) in [
            (
                vec![hinted(1, None, yes), hinted(2, None, no)],
                vec![1],
                "zone",
            ),
            (
                vec![hinted(1, None, yes), hinted(2, None, None)],
                vec![1, 2],
                "one has none",
            ),
            (
                vec![hinted(1, None, no), hinted(2, None, no)],
                vec![1, 2],
                "none points here",
            ),
            (
                vec![hinted(1, no, yes), hinted(2, yes, yes)],
                vec![2],
                "node wins over zone",
            ),
            (
                vec![hinted(1, no, yes), hinted(2, no, no)],
                vec![1],
                "no node points here: zone",
            ),
            (
                vec![hinted(1, yes, yes), hinted(2, None, no)],
                vec![1],
                "one has no node: zone",
            ),
        ] {
            assert_eq!(near(&found), wanted, "{why}");
        }
        let unready = Candidate {
            ready: false,
            serving: false,
            ..hinted(3, None, None)
        };
        assert_eq!(
            near(&[hinted(1, None, yes), hinted(2, None, no), unready]),
            [1],
            "what is not ready needs no hint"
        );
        assert_eq!(
            near(&[leaving(4, "", true)]),
            [4],
            "no hint matters where none is ready"
        );
    }
}
