//! The devices by which the node reaches the outside: those of its default routes.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use rtnetlink::{
    Error, Handle,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteAttribute, RouteMessage, RouteType},
    },
};

/// The kernel's numbers of the devices that a default route of either family leads to, in whichever table it is.
pub(crate) async fn devices(handle: &Handle) -> Result<BTreeSet<u32>, Error> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut every = RouteMessage::default();
        every.header.address_family = family;
        let mut routes = handle.route().get(every).execute();
        while let Some(route) = routes.try_next().await? {
            if is_default(&route) {
                found.extend(leads_to(&route));
            }
        }
    }
    Ok(found)
}

/// Whether a message says that a default route came or went. A node has many other routes, one for each pod.
pub(crate) fn concerns(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => is_default(route),
        _ => false,
    }
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
}

fn leads_to(route: &RouteMessage) -> impl Iterator<Item = u32> {
    route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    fn route(prefix: u8, kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.destination_prefix_length = prefix;
        route.header.kind = kind;
        route.attributes = attributes;
        route
    }

    #[test]
    fn a_default_route_may_lead_to_several_devices() {
        let hop = |index| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop
        };
        let both = vec![RouteAttribute::MultiPath(vec![hop(3), hop(5)])];
        let both = route(0, RouteType::Unicast, both);
        assert!(is_default(&both));
        assert_eq!(leads_to(&both).collect::<Vec<_>>(), [3, 5]);
        let one = route(0, RouteType::Unicast, vec![RouteAttribute::Oif(2)]);
        assert_eq!(leads_to(&one).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_route_to_a_pod_and_one_to_nowhere_are_none() {
        assert!(!is_default(&route(32, RouteType::Unicast, vec![])));
        assert!(!is_default(&route(0, RouteType::Unreachable, vec![])));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route(
            32,
            RouteType::Unicast,
            vec![],
        )));
        assert!(!concerns(&message));
        let gone = route(0, RouteType::Unicast, vec![]);
        message.payload = RouteNetlinkMessage::DelRoute(gone).into();
        assert!(concerns(&message));
    }
}
