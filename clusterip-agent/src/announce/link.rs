//! The link of an uplink: frames of ARP and of neighbour discovery, and the groups that solicitations come to.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use clusterip_common::{
    packet::{Arp, Discovery, Mac, claim, solicited_node},
    wire::Be16,
};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{LinkAddr, MsgFlags, bind, recv},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{
    net::UnixDatagram,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};
use zerocopy::IntoBytes as _;

use super::posts::Message;
use crate::dataplane::announced::Place;

/// Types of frames.
const ARP: Be16 = Be16::new(0x0806);
const IPV6: Be16 = Be16::new(0x86dd);
/// No frame that is read is longer.
const ROOM: usize = 128;
/// After a link did not let itself be heard.
const PAUSE: Duration = Duration::from_millis(100);
/// Lets advertisements through, and nothing else: `ip6[6] == 58 && icmp6[0] == 136`, behind an Ethernet header.
const ADVERTISEMENTS: [(u16, u8, u8, u32); 6] = [
    (LOAD_BYTE, 0, 0, 20),
    (IF_EQUAL, 0, 3, 58),
    (LOAD_BYTE, 0, 0, 54),
    (IF_EQUAL, 0, 1, 136),
    (RETURN, 0, 0, u32::MAX),
    (RETURN, 0, 0, 0),
];
/// `BPF_LD | BPF_B | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
const LOAD_BYTE: u16 = 0x30;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Why nothing is announced on a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("open a socket for {what} (CAP_NET_RAW)")]
    Socket {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the device has no link address")]
    NoAddress,
}

/// Somebody says that it has the address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) place: Place,
    pub(super) mac: Mac,
}

/// An uplink that is spoken on.
pub(super) struct Link {
    device: u32,
    /// Its own link address,
    pub(super) mac: Mac,
    /// and its own address for questions of IPv6, if it has one.
    source: Option<Ipv6Addr>,
    sockets: [Arc<UnixDatagram>; 2],
    /// Where the groups are joined.
    groups: Socket,
    joined: BTreeSet<Ipv6Addr>,
    listening: [JoinHandle<()>; 2],
}

/// What a device is called by, and who it is on its link.
#[derive(Clone, PartialEq, Eq)]
struct Identity {
    link: LinkAddr,
    mac: Mac,
    source: Option<Ipv6Addr>,
}

fn identity(name: &str) -> Option<Identity> {
    let all: Vec<_> = getifaddrs()
        .ok()?
        .filter(|it| it.interface_name == name)
        .collect();
    let addresses = all.iter().filter_map(|it| it.address.as_ref());
    let link = addresses
        .clone()
        .find_map(|it| it.as_link_addr().copied())?;
    let v6 = addresses.filter_map(|it| Some(it.as_sockaddr_in6()?.ip()));
    Some(Identity {
        mac: link.addr()?,
        link,
        source: v6.min_by_key(|ip| !ip.is_unicast_link_local()),
    })
}

/// The link address of a device; none if it has none.
pub(super) fn mac_of(name: &str) -> Option<Mac> {
    identity(name).map(|it| it.mac)
}

impl Link {
    /// Opens it. What others say of the addresses in `wanted` is told to `claims`.
    pub(super) fn open(
        device: u32,
        name: &str,
        wanted: &watch::Receiver<BTreeSet<IpAddr>>,
        claims: &mpsc::Sender<Claim>,
    ) -> Result<Self, LinkError> {
        let Identity { link, mac, source } = identity(name).ok_or(LinkError::NoAddress)?;
        let open = |what, kind: Be16, filter: &[SockFilter]| {
            socket(&link, kind, filter).map_err(|source| LinkError::Socket { what, source })
        };
        let filter = ADVERTISEMENTS.map(|(code, yes, no, k)| SockFilter::new(code, yes, no, k));
        let sockets = [
            open("ARP", ARP, &[])?,
            open("neighbour discovery", IPV6, &filter)?,
        ]
        .map(Arc::new);
        let groups = Socket::new(Domain::IPV6, Type::DGRAM, None);
        let groups = groups.map_err(|source| LinkError::Socket {
            what: "groups of neighbour discovery",
            source,
        })?;
        let listening = sockets.each_ref().map(|socket| {
            tokio::spawn(listen(
                Arc::clone(socket),
                device,
                wanted.clone(),
                claims.clone(),
            ))
        });
        Ok(Self {
            device,
            mac,
            source,
            sockets,
            groups,
            joined: BTreeSet::new(),
            listening,
        })
    }

    /// Says something about an address.
    pub(super) fn say(&self, address: IpAddr, message: Message) -> io::Result<()> {
        let [arp, discovery] = &self.sockets;
        match (address, message) {
            (IpAddr::V4(ip), Message::Probe) => {
                arp.try_send(Arp::probe(self.mac, ip.octets()).as_bytes())
            }
            (IpAddr::V4(ip), Message::Announcement) => {
                arp.try_send(Arp::announcement(self.mac, ip.octets()).as_bytes())
            }
            (IpAddr::V6(ip), Message::Probe) => {
                let source = self.source.ok_or(Errno::EADDRNOTAVAIL)?;
                let from = (self.mac, source.octets());
                discovery.try_send(Discovery::solicitation(from, ip.octets()).as_bytes())
            }
            (IpAddr::V6(ip), Message::Announcement) => {
                discovery.try_send(Discovery::announcement(self.mac, ip.octets()).as_bytes())
            }
        }
        .map(drop)
    }

    /// Joins the groups that solicitations for these addresses are sent to, and leaves the others: a device may take in no
    /// other frames to many.
    pub(super) fn join(&mut self, addresses: impl Iterator<Item = IpAddr>) -> io::Result<()> {
        let wanted: BTreeSet<Ipv6Addr> = addresses
            .filter_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(ip) => Some(solicited_node(ip.octets()).0.into()),
            })
            .collect();
        for group in self.joined.difference(&wanted) {
            // The device may be gone, and its groups with it.
            drop(self.groups.leave_multicast_v6(group, self.device));
        }
        self.joined.retain(|group| wanted.contains(group));
        for group in wanted {
            if !self.joined.contains(&group) {
                self.groups.join_multicast_v6(&group, self.device)?;
                self.joined.insert(group);
            }
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.listening {
            task.abort();
        }
    }
}

fn socket(link: &LinkAddr, kind: Be16, filter: &[SockFilter]) -> io::Result<UnixDatagram> {
    let protocol = Protocol::from(i32::from(kind.as_it_lies()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    if !filter.is_empty() {
        socket.attach_filter(filter)?;
    }
    socket.set_nonblocking(true)?;
    bind(socket.as_raw_fd(), link)?;
    // Until it was bound it heard every device.
    let mut frame = [0; ROOM];
    while recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()).is_ok() {}
    // To the runtime a socket of datagrams is like another.
    UnixDatagram::from_std(OwnedFd::from(socket).into())
}

/// Tells who claims one of the wanted addresses, until nobody wants to know.
async fn listen(
    socket: Arc<UnixDatagram>,
    device: u32,
    wanted: watch::Receiver<BTreeSet<IpAddr>>,
    claims: mpsc::Sender<Claim>,
) {
    let mut frame = [0; ROOM];
    loop {
        let Ok(length) = socket.recv(&mut frame).await else {
            // The device is down: what is said when it is up again is heard.
            sleep(PAUSE).await;
            continue;
        };
        let Some((address, mac)) = claim(frame.get(..length).unwrap_or_default()) else {
            continue;
        };
        let address = IpAddr::from(address);
        if !wanted.borrow().contains(&address) {
            continue;
        }
        let place = (address, device);
        if claims.send(Claim { place, mac }).await.is_err() {
            return;
        }
    }
}
