//! A node between a client outside, a pod of its own and a pod on another node, and whoever serves its node ports.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{Array, MapData},
    programs::XdpMode,
};
use bytes::Bytes;
use clusterip_agent::dataplane::load::{DRIVER_REFERENCES, LoadOptions, Loaded, load};
use nix::net::if_::if_nametoindex;
use serde_json::Value;

use crate::{
    Node, Outside, Pod, Server, client,
    lab::{self, Lab, PORTS, spec},
    manifests,
    namespace::Namespace,
    outside::as_a_card,
    packet::{NODE_MAC, POD_MAC, udp},
    sys::{Feature, set_feature},
    wait,
    world::settings,
};

/// The node's device to the client, and to the other node.
const UPLINK: &str = "up0";
const BETWEEN: &str = "up1";
/// The other node's device, and a pod's.
const FAR_DEVICE: &str = "up0";
const POD_DEVICE: &str = "eth0";
/// Port of the pods, and of the client.
const PORT: u16 = 5353;
const CLIENT: u16 = 40_000;

/// Who serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Nobody: the pod's own address is called.
    Direct,
    /// Rules of iptables.
    Iptables,
    /// Rules of nftables.
    Nftables,
    /// The agent, with this value of `--uplink-mode`.
    Agent(&'static str),
}

/// Where packets go to: its name in the table, its node port, its pod's address, its name in the manifests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) node_port: u16,
    pub(super) pod: Ipv4Addr,
    service: &'static str,
}

pub(super) const TARGETS: [Target; 2] = [
    Target {
        name: "pod on another node",
        node_port: 30_054,
        pod: Ipv4Addr::new(10, 244, 0, 21),
        service: "far",
    },
    Target {
        name: "pod of this node",
        node_port: 30_053,
        pod: Ipv4Addr::new(10, 244, 0, 11),
        service: "near",
    },
];

/// Ethernet addresses of the two.
const FAR_MAC: &str = "02:00:00:00:00:21";
const NEAR_MAC: &str = "02:00:00:00:00:11";
/// A section of the program's own data.
const FRAME: &str = ".data.frame";
/// Frames of one call into the kernel's driver.
const BATCH: u32 = 64;

/// Taken down in the order of the fields.
pub(super) struct Stage {
    loaded: Loaded,
    /// What the client's device sends.
    frame: Option<Array<MapData, [u8; 64]>>,
    lab: Lab,
    outside: Outside,
    far_pod: Pod,
    far: Node,
    _server: Server,
    /// By target: the frame, and the client's socket, whose flow it is of.
    frames: Vec<(Bytes, UdpSocket)>,
}

impl Stage {
    /// Sets one up, with a flow to each target that has been answered.
    ///
    /// # Errors
    /// Namespaces, rules or the agent failed, or nothing comes through.
    pub(super) fn new(way: Way) -> Result<Self> {
        let mut lab = Lab::new()?;
        let outside = Outside::join(&lab.node, UPLINK, 1)?;
        lab.backend("near", 11)?;
        let far = Node::anonymous()?;
        let far_pod = far.pod(&spec("far-21", 21))?;
        let server = Server::start(&far_pod, &PORTS)?;
        lead(&lab, &outside, &far)?;
        let loaded = load(&LoadOptions {
            settings: settings(),
            ..LoadOptions::default()
        })?;
        let mut stage = Self {
            loaded,
            frame: None,
            lab,
            outside,
            far_pod,
            far,
            _server: server,
            frames: Vec::new(),
        };
        stage.serve(way)?;
        for (number, target) in (0..).zip(TARGETS) {
            let to = match way {
                Way::Direct => SocketAddr::new(target.pod.into(), PORT),
                _ => SocketAddr::new(Outside::node_addresses(1)[0], target.node_port),
            };
            let from = SocketAddr::new(stage.outside.addresses()[0], CLIENT + number);
            let socket = stage.ask(from, to, target)?;
            let frame = udp(&from.to_string(), &to.to_string()).payload([0; 22]);
            stage.frames.push((frame.bytes(), socket));
        }
        stage.sink()?;
        Ok(stage)
    }

    fn serve(&mut self, way: Way) -> Result<()> {
        let node = self.lab.node.namespace();
        match way {
            Way::Direct => Ok(()),
            Way::Iptables => super::rules::iptables(node),
            Way::Nftables => super::rules::nftables(node),
            Way::Agent(mode) => self.start(mode),
        }
    }

    fn start(&mut self, mode: &str) -> Result<()> {
        let own = Outside::node_addresses(1)[0];
        self.lab.manifests.put(
            "node.yaml",
            &format!(
                "apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\nstatus:\n  addresses:\n    - type: InternalIP\n      \
                 address: \"{own}\"\n",
                manifests::NODE
            ),
        )?;
        let pod = manifests::pod(&self.far_pod, "far", true).replace(manifests::NODE, "node-b");
        self.lab.manifests.put("pod-far.yaml", &pod)?;
        for (number, target) in (10..).zip(TARGETS) {
            let service = manifests::Service::new(target.service, &lab::vips(number)).udp(53, PORT);
            let text = service
                .yaml()
                .replace("type: ClusterIP", "type: NodePort")
                .replace(
                    "port: 53\n",
                    &format!("port: 53\n      nodePort: {}\n", target.node_port),
                );
            let name = format!("service-{}.yaml", target.service);
            self.lab.manifests.put(&name, &text)?;
        }
        self.lab.start_with(&[
            "--node-name",
            manifests::NODE,
            "--uplinks",
            "up*",
            "--uplink-mode",
            mode,
            "--pod-cidr",
            "10.244.0.0/16",
        ])?;
        let wanted = if mode == "auto" { "serves" } else { "none" };
        for name in [UPLINK, BETWEEN] {
            wait::until(&format!("{name} has at its driver: {wanted}"), || {
                let agent = self.lab.agent.as_ref()?;
                let said = agent.ask(&["get", "interfaces", name, "-o", "json"]).ok()?;
                let document: Value = serde_json::from_str(&said.out).ok()?;
                let driver = document.pointer("/interfaces/0/driver")?.as_str()?;
                driver.starts_with(wanted).then_some(())
            })?;
        }
        Ok(())
    }

    /// A flow that has been answered.
    fn ask(&self, from: SocketAddr, to: SocketAddr, target: Target) -> Result<UdpSocket> {
        wait::until(&format!("{} answers at {to}", target.name), || {
            let ask = || {
                let socket = client::udp_at(from)?;
                socket.connect(to)?;
                for _ in 0..3 {
                    client::udp_ask(&socket, "hello")?;
                }
                Ok(socket)
            };
            self.outside.namespace().run(ask).ok()
        })
    }

    /// What has arrived is dropped where it arrives, before a stack of the receiver's has its costs.
    fn sink(&mut self) -> Result<()> {
        let [_, _, sink, source] = DRIVER_REFERENCES;
        self.loaded.driver_program(source)?.load()?;
        let map = self.loaded.ebpf_mut().take_map(FRAME);
        self.frame = Some(map.context("no map of the frame")?.try_into()?);
        let program = self.loaded.driver_program(sink)?;
        program.load()?;
        let pod = self.lab.pod("near-11")?;
        let (near, far) = (pod.namespace().clone(), self.far.namespace().clone());
        // What asks for an Ethernet address is dropped as well.
        let receivers = [
            (&far, FAR_DEVICE, BETWEEN, "172.20.9.2", FAR_MAC),
            (&near, POD_DEVICE, pod.link(), "10.244.0.11", NEAR_MAC),
        ];
        for (machine, device, link, address, mac) in receivers {
            machine.ip(&format!("link set dev {device} address {mac}\n"))?;
            self.lab.node.namespace().ip(&format!(
                "neigh replace {address} lladdr {mac} dev {link} nud permanent\n"
            ))?;
        }
        for (machine, device) in [(far, FAR_DEVICE), (near, POD_DEVICE)] {
            let attach = || {
                let index = if_nametoindex(device)?;
                let attached = program.attach_to_if_index(index, XdpMode::Driver);
                attached.map(drop).map_err(io::Error::other)
            };
            machine
                .run(attach)
                .with_context(|| format!("attach the sink to {device}"))?;
        }
        Ok(())
    }

    /// Has the client's device send so many frames to a target: the time on the wall, and what the thread had of the processor.
    ///
    /// # Errors
    /// The kernel refuses, or more than one in a hundred did not arrive.
    pub(super) fn send(&mut self, target: usize, frames: u32) -> Result<(Duration, Duration)> {
        let [_, _, _, source] = DRIVER_REFERENCES;
        let before = self.arrived(target)?;
        let (frame, _socket) = self.frames.get(target).context("no such target")?;
        let bytes = frame.first_chunk().context("a frame of 64 bytes")?;
        let map = self.frame.as_mut().context("no map of the frame")?;
        map.set(0, *bytes, 0)?;
        let device = self.outside.device();
        let machine = self.outside.namespace();
        let index = machine.run(|| Ok(if_nametoindex(device.as_str())?))?;
        let program = self.loaded.driver_program(source)?;
        let times = crate::bench::uplink::live(machine, program, (frame, index), (frames, BATCH))?;
        let arrived = self.arrived(target)? - before;
        ensure!(
            arrived * 100 >= u64::from(frames) * 99,
            "{arrived} of {frames} frames arrived"
        );
        Ok(times)
    }

    fn arrived(&self, target: usize) -> Result<u64> {
        if target == 0 {
            crate::bench::uplink::received(self.far.namespace(), FAR_DEVICE)
        } else {
            let near = self.lab.pod("near-11")?.namespace();
            crate::bench::uplink::received(near, POD_DEVICE)
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Before the laboratory tells what it saw, which is for tests.
        self.lab.agent = None;
    }
}

/// Routes, and devices as on wires.
fn lead(lab: &Lab, outside: &Outside, far: &Node) -> Result<()> {
    let node = lab.node.namespace();
    let mac = |bytes: [u8; 6]| bytes.map(|byte| format!("{byte:02x}")).join(":");
    node.ip(&format!(
        "link add name {BETWEEN} type veth peer name {FAR_DEVICE} netns {}\n\
         addr add 172.20.9.1/24 dev {BETWEEN}\nlink set dev {BETWEEN} up\n\
         link set dev {UPLINK} address {}\n",
        far.namespace().path().display(),
        mac(NODE_MAC),
    ))?;
    far.namespace().ip(&format!(
        "addr add 172.20.9.2/24 dev {FAR_DEVICE}\nlink set dev {FAR_DEVICE} up\n\
         route add 172.20.1.0/24 via 172.20.9.1\n"
    ))?;
    node.ip("route add 10.244.0.21/32 via 172.20.9.2\n")?;
    outside.namespace().ip(&format!(
        "link set dev {} address {}\nroute add 10.244.0.0/24 via {}\n",
        outside.device(),
        mac(POD_MAC),
        Outside::node_addresses(1)[0],
    ))?;
    outside.as_a_card()?;
    as_a_card(far.namespace(), FAR_DEVICE)?;
    // The node's end takes frames of programs.
    takes_frames(node, UPLINK)?;
    Ok(())
}

fn takes_frames(machine: &Namespace, device: &str) -> io::Result<()> {
    machine.run(|| set_feature(device, Feature::Gro, true))
}
