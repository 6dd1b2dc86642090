//! The pods' devices and the uplinks, as they come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Duration,
};

use clusterip_common::packet::Link;
use futures::{StreamExt as _, TryStreamExt as _};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_route::link::{
        InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    },
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use wildmatch::WildMatch;

pub use crate::dataplane::attach::Role;
use crate::default_routes;

/// A network device with a part in this.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it leads to.
    pub role: Role,
    /// What its frames begin with.
    pub link: Link,
    /// Whether packets go past the stack to what is beyond it: another namespace by a veth, or other machines.
    pub is_redirected: bool,
}

/// Devices by the kernel's number.
pub type Devices = BTreeMap<u32, Device>;

/// Why the devices are not known.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No netlink socket.
    #[error("open a netlink socket to watch the network devices")]
    Socket(#[source] io::Error),
    /// The kernel did not list them.
    #[error("list the network devices")]
    List(#[source] rtnetlink::Error),
    /// The kernel did not list the routes.
    #[error("list the routes; --uplinks names the uplinks instead")]
    Routes(#[source] rtnetlink::Error),
    /// The socket was closed.
    #[error("the netlink socket that watches the network devices was closed")]
    Closed,
}

/// A burst of messages, as when a pod starts, is one look at the devices.
const BURST: Duration = Duration::from_millis(5);
/// A message that was lost (the socket's buffer ran over) is made up for.
const SLOW_LOOK: Duration = Duration::from_secs(10);
/// Before the socket is opened anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Globs of device names.
#[derive(Clone, Debug)]
pub struct Globs(Vec<WildMatch>);

impl Globs {
    /// `*` is any text, `?` any character.
    #[must_use]
    pub fn new(globs: &[String]) -> Self {
        Self(globs.iter().map(|glob| WildMatch::new(glob)).collect())
    }

    /// Whether one of them fits.
    #[must_use]
    pub fn fit(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(name))
    }
}

/// Which devices are uplinks.
#[derive(Clone, Debug)]
pub enum Uplinks {
    /// None.
    None,
    /// Those with a default route.
    DefaultRoutes,
    /// Those of such a name.
    Named(Globs),
}

/// Which devices to look for. The loopback device is none of them.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Host sides of the pods' devices.
    pub pods: Globs,
    /// Ways to the outside.
    pub uplinks: Uplinks,
    /// Whether packets may go past the stack (`--forwarding redirect`).
    pub past_stack: bool,
}

impl Wanted {
    /// What a device is: whether a pod's, and whether an uplink.
    fn claims(&self, name: &str, has_default_route: bool) -> (bool, bool) {
        let is_uplink = match &self.uplinks {
            Uplinks::None => false,
            Uplinks::DefaultRoutes => has_default_route,
            Uplinks::Named(globs) => globs.fit(name),
        };
        (self.pods.fit(name), is_uplink)
    }
}

/// The addresses that this machine has at its devices; none if the kernel does not tell.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let all = getifaddrs().into_iter().flatten();
    let address = |it: InterfaceAddress| {
        let address = it.address?;
        let v4 = address.as_sockaddr_in().map(|it| it.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|it| it.ip().into()))
    };
    all.filter_map(address).collect()
}

/// The same where what is looked for may change.
pub async fn watch_by(
    mut wanted: watch::Receiver<Wanted>,
    devices: watch::Sender<Option<Devices>>,
) {
    loop {
        let now = wanted.borrow_and_update().clone();
        tokio::select! {
            () = watch(now, devices.clone()) => return,
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Keeps `devices` up to date until nobody listens; None is not listed yet. Whatever fails is said and tried again.
pub async fn watch(wanted: Wanted, devices: watch::Sender<Option<Devices>>) {
    let mut doubly_claimed = BTreeSet::new();
    while !devices.is_closed() {
        if let Err(error) = follow(&wanted, &devices, &mut doubly_claimed).await {
            log::warn!(error:err; "network devices are not watched; trying again");
        }
        sleep(PAUSE).await;
    }
}

async fn follow(
    wanted: &Wanted,
    devices: &watch::Sender<Option<Devices>>,
    doubly_claimed: &mut BTreeSet<u32>,
) -> Result<(), InterfaceError> {
    let mut groups = vec![MulticastGroup::Link];
    if matches!(wanted.uplinks, Uplinks::DefaultRoutes) {
        groups.extend([MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route]);
    }
    let (connection, handle, mut messages) =
        new_multicast_connection(&groups).map_err(InterfaceError::Socket)?;
    let connection = tokio::spawn(connection);
    let result = async {
        let mut routes = BTreeSet::new();
        let mut routes_due = Instant::now();
        loop {
            if matches!(wanted.uplinks, Uplinks::DefaultRoutes) && routes_due <= Instant::now() {
                let found = default_routes::devices(&handle).await;
                routes = found.map_err(InterfaceError::Routes)?;
                routes_due = Instant::now() + SLOW_LOOK;
            }
            let found = Some(list(&handle, wanted, &routes, doubly_claimed).await?);
            devices.send_if_modified(|seen| {
                let changed = *seen != found;
                *seen = found;
                changed
            });
            let mut see = |message: &_| {
                if default_routes::concerns(message) {
                    routes_due = Instant::now();
                }
            };
            tokio::select! {
                message = timeout(SLOW_LOOK, messages.next()) => match message {
                    Ok(None) => return Err(InterfaceError::Closed),
                    Ok(Some((message, _))) => see(&message),
                    Err(_elapsed) => {}
                },
                () = devices.closed() => return Ok(()),
            }
            while let Ok(Some((message, _))) = timeout(BURST, messages.next()).await {
                see(&message);
            }
        }
    }
    .await;
    connection.abort();
    result
}

async fn list(
    handle: &Handle,
    wanted: &Wanted,
    routes: &BTreeSet<u32>,
    doubly_claimed: &mut BTreeSet<u32>,
) -> Result<Devices, InterfaceError> {
    let mut links = handle.link().get().execute();
    let mut devices = Devices::new();
    while let Some(link) = links.try_next().await.map_err(InterfaceError::List)? {
        let index = link.header.index;
        let kind = link.header.link_layer_type;
        let is_peer = leads_to_a_namespace(&link);
        let name = link
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
        let Some(name) = name.filter(|_| !link.header.flags.contains(LinkFlags::Loopback)) else {
            continue;
        };
        let role = match wanted.claims(&name, routes.contains(&index)) {
            (false, false) => continue,
            (false, true) => Role::Uplink,
            (true, is_uplink) => {
                if is_uplink && doubly_claimed.insert(index) {
                    log::warn!(interface = name; "device would be a pod's and an uplink: it is taken for a pod's");
                }
                Role::Pod
            }
        };
        // Other devices with a header of their own carry no pods.
        let link = match kind {
            LinkLayerType::Ether => Link::Ethernet,
            _ => Link::None,
        };
        let is_redirected =
            wanted.past_stack && link == Link::Ethernet && (role == Role::Uplink || is_peer);
        let device = Device {
            name,
            role,
            link,
            is_redirected,
        };
        devices.insert(index, device);
    }
    Ok(devices)
}

/// Whether a device is a veth whose other side is in another namespace, and both are up: only there a packet can be put
/// straight to the other side.
fn leads_to_a_namespace(link: &LinkMessage) -> bool {
    let is_veth = |attribute: &LinkAttribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
        _ => false,
    };
    let is_elsewhere =
        |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkNetNsId(id) if *id >= 0);
    link.header
        .flags
        .contains(LinkFlags::Up | LinkFlags::LowerUp)
        && link.attributes.iter().any(is_veth)
        && link.attributes.iter().any(is_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_whole_names() {
        let globs = Globs::new(&["veth*".into(), "cali?".into()]);
        assert!(globs.fit("veth12") && globs.fit("veth") && globs.fit("cali1"));
        assert!(!globs.fit("cali12") && !globs.fit("xveth1") && !globs.fit("eth0"));
    }

    #[test]
    fn an_uplink_has_a_default_route_unless_it_is_named() {
        let wanted = |uplinks| Wanted {
            pods: Globs::new(&["veth*".into()]),
            uplinks,
            past_stack: false,
        };
        let by_route = wanted(Uplinks::DefaultRoutes);
        assert_eq!(by_route.claims("eth0", true), (false, true));
        assert_eq!(by_route.claims("eth1", false), (false, false));
        assert_eq!(by_route.claims("veth1", true), (true, true));
        let named = wanted(Uplinks::Named(Globs::new(&["eth*".into()])));
        assert_eq!(named.claims("eth1", false), (false, true));
        assert_eq!(named.claims("wlan0", true), (false, false));
        assert_eq!(wanted(Uplinks::None).claims("eth0", true), (false, false));
    }
}
