//! The world of a packet case: which services there are, and what is in the maps because of it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use anyhow::Result;
use clusterip_agent::{
    model::inside::{Inside, Ranges},
    plan::{Tables, desired},
    trace::memory::HostEnv,
};
use clusterip_common::{
    abi::{
        Algorithm, Backend, BackendId, BackendState, Range, Scope, Service, ServiceFlags,
        ServiceId, ServiceKey, Settings, SlotIndex, Sources, SourcesKey,
    },
    packet::{Beyond, Exit, Found, Mac, Macs, Route},
    wire::{Addr, Be16, Proto},
};
use nix::net::if_::if_nametoindex;

use crate::Node;

/// Services and their backends, as text in and as tables out.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What the maps hold.
    pub tables: Tables,
    /// Where there are routes to, if packets may go past the stack.
    pub legs: Vec<Leg>,
    /// Addresses that are announced at the device of all frames, and its link address.
    pub announced: BTreeMap<IpAddr, Mac>,
    /// The only port that clients from outside get beside their own.
    pub only_port: Option<u16>,
    /// Packets may go past the stack, though there be no route.
    pub past_stack: bool,
    /// Direct server return: see [`Settings`].
    pub direct_return: u64,
}

/// Ethernet address of the next hop of any route,
pub const NEXT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// and of its device.
pub const DEVICE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];

/// The kernel's number of the device of all frames: in its test-run it is the loopback device.
pub const DEVICE: u32 = 1;

/// What a route leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leads {
    /// A pod's veth.
    Pod,
    /// A pod's veth, and nobody knows the pod's Ethernet address.
    Unresolved,
    /// Other machines.
    Uplink,
    /// The same, by a driver that sends what programs give to it.
    Driver,
    /// A device that nobody knows.
    Elsewhere,
}

impl Leads {
    /// What programs are told of the device.
    #[must_use]
    pub const fn beyond(self) -> Beyond {
        match self {
            Self::Pod | Self::Unresolved => Beyond::POD,
            Self::Uplink => Beyond::UPLINK,
            Self::Driver => Beyond::DRIVER,
            Self::Elsewhere => Beyond::UNKNOWN,
        }
    }
}

/// A route to one address, by a device of its own.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    /// The address.
    pub to: IpAddr,
    /// What it leads to.
    pub leads: Leads,
    /// The longest packet.
    pub mtu: u32,
}

/// A world with nothing in it.
#[must_use]
pub fn nothing() -> World {
    World::default()
}

/// A world with one service: `service("10.96.0.10:80/tcp", &["10.244.1.7:8080"])`.
#[must_use]
pub fn service(vip: &str, backends: &[&str]) -> World {
    nothing().and(vip, backends)
}

impl World {
    /// With one more service.
    ///
    /// # Panics
    /// A text is no address.
    #[must_use]
    pub fn and(mut self, vip: &str, backends: &[&str]) -> Self {
        let key = service_key(vip);
        let address = key.address;
        let count = |len: usize| u32::try_from(len).expect("a handful");
        let ports = self
            .tables
            .services
            .keys()
            .filter(|key| key.port != Be16::new(0));
        let id = ServiceId(count(ports.count()));
        let first_slot = SlotIndex(count(self.tables.slots.len()));
        for text in backends {
            let (address, port) = endpoint(text);
            let backend = BackendId(count(self.tables.backends.len()));
            let slot = SlotIndex(count(self.tables.slots.len()));
            self.tables.slots.insert(slot, backend);
            let entry = Backend {
                address,
                port,
                state: BackendState::ACTIVE,
                zero: 0,
                service: id,
                generation: 1,
            };
            self.tables.backends.insert(backend, entry);
        }
        let head = Service {
            id,
            first_slot,
            slot_count: count(backends.len()),
            algorithm: Algorithm::ROUND_ROBIN,
            flags: ServiceFlags::default(),
            affinity: 0,
        };
        let services = &mut self.tables.services;
        services.insert(key, head);
        services.insert(
            ServiceKey::address(address),
            Service {
                slot_count: 0,
                ..head
            },
        );
        self
    }

    /// With a range whose addresses are inside the cluster: `10.244.0.0/16`.
    ///
    /// # Panics
    /// The text is no range.
    #[must_use]
    pub fn inside(mut self, range: &str, whose: Inside) -> Self {
        let ranges = Ranges::from([(range.parse().expect("ADDRESS/PREFIX"), whose)]);
        self.tables.inside.extend(desired::inside(&ranges));
        self
    }

    /// With a route to an address, where packets may go past the stack.
    ///
    /// # Panics
    /// The text is no address.
    #[must_use]
    pub fn way(mut self, to: &str, leads: Leads, mtu: u32) -> Self {
        let to = to.parse().expect("ADDRESS");
        self.legs.push(Leg { to, leads, mtu });
        self
    }

    /// With an address of the pool that is announced with this link address.
    ///
    /// # Panics
    /// The text is no address.
    #[must_use]
    pub fn announces(mut self, address: &str, mac: Mac) -> Self {
        let address = address.parse().expect("an address");
        self.announced.insert(address, mac);
        self
    }

    /// The devices and routes of its legs, in a node's namespace; what is beyond each device, in the order of the legs.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn lay(&self, node: &Node) -> Result<Vec<(u32, Beyond)>> {
        let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
        let mut lines = String::new();
        for (number, Leg { to, leads, mtu }) in self.legs.iter().enumerate() {
            let (device, own, next) = (format!("leg{number}"), mac(DEVICE_MAC), mac(NEXT_MAC));
            writeln!(
                lines,
                "link add name {device} address {own} mtu {mtu} type veth peer name far{number}\n\
                 link set dev far{number} up\nlink set dev {device} up\nroute add {to} dev {device}"
            )?;
            if *leads != Leads::Unresolved {
                writeln!(
                    lines,
                    "neigh replace {to} lladdr {next} dev {device} nud permanent"
                )?;
            }
        }
        node.namespace().ip(&lines)?;
        let index = |number: usize| -> Result<u32> {
            let name = format!("leg{number}");
            let index = node.namespace().run(|| Ok(if_nametoindex(name.as_str())?));
            Ok(index?)
        };
        let all = self.legs.iter().enumerate();
        all.map(|(number, leg)| Ok((index(number)?, leg.leads.beyond())))
            .collect()
    }

    /// The settings that go with it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let own = settings();
        Settings {
            past_stack: (self.past_stack || !self.legs.is_empty()).into(),
            direct_return: self.direct_return,
            masquerade_first: self.only_port.map_or(own.masquerade_first, u32::from),
            masquerade_count: self.only_port.map_or(own.masquerade_count, |_| 1),
            ..own
        }
    }

    /// With no more than one port of the node for those clients from outside that cannot keep theirs.
    #[must_use]
    pub const fn only_port(mut self, port: u16) -> Self {
        self.only_port = Some(port);
        self
    }

    /// With direct server return: 1 takes clients that other nodes forward, 2 forwards them too.
    #[must_use]
    pub const fn direct_return(mut self, how: u64) -> Self {
        self.direct_return = how;
        self
    }

    /// With packets that may go past the stack.
    #[must_use]
    pub const fn past_stack(mut self) -> Self {
        self.past_stack = true;
        self
    }

    /// Whether a packet went the way that was wanted; where there is no route it is for the stack, for whatever reason.
    #[must_use]
    pub fn is_way(&self, went: &[Exit], wanted: Option<Exit>) -> bool {
        if self.past_stack && self.legs.is_empty() {
            return !went.iter().any(|exit| exit.is_past_stack());
        }
        went.iter().eq(wanted.iter())
    }

    /// It on the host.
    #[must_use]
    pub fn host(&self) -> HostEnv {
        let env = HostEnv::new(self.tables.clone(), self.settings());
        for (device, Leg { to, leads, mtu }) in (1..).zip(self.legs.iter().copied()) {
            let route = Route {
                found: match leads {
                    Leads::Unresolved => Found::NoNeighbour,
                    _ => Found::All,
                },
                device,
                mtu,
                macs: Macs::new(NEXT_MAC, DEVICE_MAC),
            };
            env.routes.borrow_mut().insert(to, (route, leads.beyond()));
        }
        let announced = self.announced.iter();
        env.announced
            .borrow_mut()
            .extend(announced.map(|(address, mac)| (((*address).into(), DEVICE), *mac)));
        env
    }

    fn head(&self, vip: &str) -> Service {
        let head = self.tables.services.get(&service_key(vip));
        *head.expect("a service of that VIP")
    }

    /// With an address towards the outside, `192.0.2.1:30080/tcp`, of the service that has this VIP: for clients inside and
    /// outside alike, with these flags for each.
    ///
    /// # Panics
    /// A text is no address, or there is no such service.
    #[must_use]
    pub fn towards_outside(mut self, address: &str, vip: &str, flags: [ServiceFlags; 2]) -> Self {
        let head = self.head(vip);
        let key = service_key(address);
        for (scope, flags) in [Scope::INSIDE, Scope::OUTSIDE].into_iter().zip(flags) {
            let head = Service { flags, ..head };
            self.tables.services.insert(key.seen(scope), head);
        }
        self
    }

    /// With an address of the node in the place of clients from outside.
    ///
    /// # Panics
    /// The text is no address.
    #[must_use]
    pub fn node(mut self, address: &str) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        self.tables.node.extend(desired::node(&[address]));
        self
    }

    /// With a range of clients that a guarded service lets in.
    ///
    /// # Panics
    /// A text is no address or range, or there is no such service.
    #[must_use]
    pub fn admits(mut self, vip: &str, range: &str) -> Self {
        let id = self.head(vip).id;
        let (address, prefix) = range.split_once('/').expect("ADDRESS/PREFIX");
        let address: IpAddr = address.parse().expect("an address");
        let before = if address.is_ipv4() { 96 } else { 0 };
        let prefix: u8 = prefix.parse().expect("a prefix");
        let key = SourcesKey::new(id, address.into(), before + prefix);
        self.tables.sources.insert(key, Sources::ADMITTED);
        self
    }

    /// Changes the heads of all services in place.
    #[must_use]
    pub fn heads(mut self, change: impl Fn(&mut Service)) -> Self {
        self.tables.services.values_mut().for_each(change);
        self
    }

    /// Changes a backend in place.
    ///
    /// # Panics
    /// There is no such backend.
    pub fn change(&mut self, id: u32, change: impl FnOnce(&mut Backend)) {
        change(
            self.tables
                .backends
                .get_mut(&BackendId(id))
                .expect("a backend of this world"),
        );
    }
}

/// Settings of every case: the service ranges `10.96.0.0/16` and `fd00:10:96::/112`.
#[must_use]
pub fn settings() -> Settings {
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0);
    Settings {
        service_v4: Range::new(Addr::v4([10, 96, 0, 0]), 96 + 16),
        service_v6: Range::new(Addr::v6(v6.octets()), 112),
        // Longer than any case takes, wherever it runs.
        error_interval: 10_000_000_000,
        ..Settings::DEFAULT
    }
}

fn service_key(text: &str) -> ServiceKey {
    let (address, protocol) = text.split_once('/').expect("ADDRESS:PORT/PROTOCOL");
    let protocol = match protocol {
        "tcp" => Proto::TCP,
        "udp" => Proto::UDP,
        "sctp" => Proto::SCTP,
        other => panic!("protocol {other}"),
    };
    let (address, port) = endpoint(address);
    ServiceKey::new(address, port, protocol)
}

fn endpoint(text: &str) -> (Addr, Be16) {
    let address: SocketAddr = text
        .parse()
        .unwrap_or_else(|error| panic!("{text} is no address:port: {error}"));
    (address.ip().into(), Be16::new(address.port()))
}
