//! The addresses of this machine, as they come and go: of a node without a Node object they are the node's.

use std::{collections::BTreeSet, io, net::IpAddr, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_connection, new_multicast_connection,
    packet_route::{
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::LinkAttribute,
    },
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::{config::Config, default_routes, interfaces::Globs, model::event::Event};

/// A burst of messages is one look.
const BURST: Duration = Duration::from_millis(20);
/// A message that was lost is made up for.
const SLOW_LOOK: Duration = Duration::from_secs(30);
/// Before the socket is opened anew.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum AddressError {
    #[error("open a netlink socket to watch this machine's addresses")]
    Socket(#[source] io::Error),
    #[error("list this machine's addresses")]
    List(#[source] rtnetlink::Error),
}

/// The addresses of this machine, looked at once.
#[derive(Debug)]
pub struct Watch {
    pods: Globs,
    seen: Vec<IpAddr>,
}

impl Watch {
    /// Looks for the first time. What fails is said, and no address is known until it is tried again.
    pub async fn begin(config: &Config) -> Self {
        let pods = Globs::new(&config.pod_interfaces);
        let seen = match once(&pods).await {
            Ok(seen) => seen,
            Err(error) => {
                log::warn!(error:err; "this machine's addresses are not known yet");
                Vec::new()
            }
        };
        Self { pods, seen }
    }

    /// What was seen last.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::Machine(self.seen.clone())
    }

    /// Tells each change until nobody listens.
    pub async fn keep(mut self, events: mpsc::Sender<Vec<Event>>) {
        while !events.is_closed() {
            if let Err(error) = self.follow(&events).await {
                log::warn!(error:err; "this machine's addresses are not watched; trying again");
            }
            sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self, events: &mpsc::Sender<Vec<Event>>) -> Result<(), AddressError> {
        let groups = [
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, mut messages) =
            new_multicast_connection(&groups).map_err(AddressError::Socket)?;
        let connection = tokio::spawn(connection);
        let result = async {
            loop {
                let now = list(&handle, &self.pods)
                    .await
                    .map_err(AddressError::List)?;
                if now != self.seen {
                    self.seen = now;
                    if events.send(vec![self.event()]).await.is_err() {
                        return Ok(());
                    }
                }
                // A closed socket ends like a lost message: it is looked again.
                let ended = matches!(timeout(SLOW_LOOK, messages.next()).await, Ok(None));
                if ended {
                    return Ok(());
                }
                while let Ok(Some(_)) = timeout(BURST, messages.next()).await {}
            }
        }
        .await;
        connection.abort();
        result
    }
}

async fn once(pods: &Globs) -> Result<Vec<IpAddr>, AddressError> {
    let (connection, handle, _) = new_connection().map_err(AddressError::Socket)?;
    let connection = tokio::spawn(connection);
    let found = list(&handle, pods).await.map_err(AddressError::List);
    connection.abort();
    found
}

/// The addresses that others may reach: those of devices with a default route come first, then by the devices' numbers. Those
/// of pods' devices are not the node's own.
async fn list(handle: &Handle, pods: &Globs) -> Result<Vec<IpAddr>, rtnetlink::Error> {
    let leading = default_routes::devices(handle).await?;
    let mut of_pods = BTreeSet::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await? {
        let names = link.attributes.iter();
        let is_pod = names
            .filter_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            })
            .any(|name| pods.fit(name));
        if is_pod {
            of_pods.insert(link.header.index);
        }
    }
    let mut found: Vec<(bool, u32, IpAddr)> = Vec::new();
    let mut all = handle.address().get().execute();
    while let Some(message) = all.try_next().await? {
        let index = message.header.index;
        if of_pods.contains(&index) {
            continue;
        }
        if let Some(address) = address_of(&message) {
            found.push((!leading.contains(&index), index, address));
        }
    }
    // Of one device the kernel's order counts: its first address is its primary one.
    found.sort_by_key(|(last, index, _)| (*last, *index));
    Ok(found.into_iter().map(|(_, _, address)| address).collect())
}

/// An address that others may reach.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point device `Address` is that of the other end.
            AddressAttribute::Local(it) => local = Some(*it),
            AddressAttribute::Address(it) => address = Some(*it),
            _ => {}
        }
    }
    local.or(address).filter(|it| !it.is_loopback())
}
