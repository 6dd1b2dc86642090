//! The services of a run: as many as wanted, all alike, all led to the one pod.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};

/// Where the client has its first address.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
/// The pod behind the services.
pub(super) const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 11);
/// Pods have their addresses in this range.
pub(super) const POD_CIDR: &str = "10.244.0.0/16";
/// More addresses of the client, so that no port of one comes round within a run, nor meets its time-wait.
pub(super) const CLIENTS: u8 = 16;
/// Ports where the pod listens, and those of the services.
pub(super) const TCP_TARGET: u16 = 8080;
pub(super) const UDP_TARGET: u16 = 5353;
pub(super) const TCP_PORT: u16 = 80;
pub(super) const UDP_PORT: u16 = 53;
/// Of which new connections go to so many at the most, spread over all.
const CALLED: u32 = 500;
/// Services of one manifest.
const FILE: u32 = 10_000;
/// The first service's address; they fit into 10.96.0.0/16.
const FIRST_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// So many services, each with a TCP port, and the one in the middle with a UDP port too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Services(pub(super) u32);

impl Services {
    /// The address of one.
    pub(super) const fn vip(index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST_VIP.to_bits() + index)
    }

    /// The one with a UDP port, where long connections go too.
    pub(super) const fn middle(self) -> u32 {
        self.0 / 2
    }

    /// Whether it is one of those that are called.
    pub(super) const fn is_called(self, index: u32) -> bool {
        let step = match self.0 / CALLED {
            0 => 1,
            step => step,
        };
        // The middle of each group: that of all in the mean.
        index % step == step / 2 || index == self.middle()
    }

    /// Where new connections go, in turn: the pod itself without services.
    pub(super) fn targets(self) -> Vec<SocketAddr> {
        let tcp = |index| SocketAddr::new(IpAddr::V4(Self::vip(index)), TCP_PORT);
        let called = (0..self.0).filter(|index| self.is_called(*index));
        let mut targets: Vec<SocketAddr> = called.map(tcp).collect();
        if targets.is_empty() {
            targets.push(SocketAddr::new(IpAddr::V4(POD), TCP_TARGET));
        }
        targets
    }

    /// Where a long connection goes.
    pub(super) const fn tcp(self) -> SocketAddr {
        if self.0 == 0 {
            SocketAddr::new(IpAddr::V4(POD), TCP_TARGET)
        } else {
            SocketAddr::new(IpAddr::V4(Self::vip(self.middle())), TCP_PORT)
        }
    }

    /// Where datagrams go.
    pub(super) const fn udp(self) -> SocketAddr {
        if self.0 == 0 {
            SocketAddr::new(IpAddr::V4(POD), UDP_TARGET)
        } else {
            SocketAddr::new(IpAddr::V4(Self::vip(self.middle())), UDP_PORT)
        }
    }

    /// Writes the manifests: a Service and an `EndpointSlice` for each.
    pub(super) fn write(self, folder: &Path) -> Result<()> {
        for first in (0..self.0).step_by(FILE as usize) {
            let mut text = String::new();
            for index in first..self.0.min(first.saturating_add(FILE)) {
                self.manifest(&mut text, index)?;
            }
            let path = folder.join(format!("services-{first:05}.yaml"));
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn manifest(self, text: &mut String, index: u32) -> Result<()> {
        let vip = Self::vip(index);
        let has_udp = index == self.middle();
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{index}\nspec:\n  clusterIP: {vip}\n  ports:\n    \
             - {{name: tcp, protocol: TCP, port: {TCP_PORT}, targetPort: {TCP_TARGET}}}\n"
        )?;
        if has_udp {
            writeln!(
                text,
                "    - {{name: udp, protocol: UDP, port: {UDP_PORT}, targetPort: {UDP_TARGET}}}"
            )?;
        }
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s{index}-1\n  labels:\n    \
             kubernetes.io/service-name: s{index}\naddressType: IPv4\nports:\n  - {{name: tcp, protocol: TCP, port: \
             {TCP_TARGET}}}\n"
        )?;
        if has_udp {
            writeln!(text, "  - {{name: udp, protocol: UDP, port: {UDP_TARGET}}}")?;
        }
        write!(
            text,
            "endpoints:\n  - addresses: [{POD}]\n    conditions: {{ready: true}}\n"
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_connections_go_to_services_in_all_places() {
        let all = Services(50_000).targets();
        assert_eq!(all.len(), 501);
        let places: Vec<u32> = all
            .iter()
            .map(|to| match to.ip() {
                IpAddr::V4(vip) => vip.to_bits() - FIRST_VIP.to_bits(),
                IpAddr::V6(_) => u32::MAX,
            })
            .collect();
        assert_eq!((places[0], places[500]), (50, 49_950));
        assert_eq!(Services(10).targets().len(), 10);
        assert_eq!(
            Services(0).targets(),
            [SocketAddr::new(POD.into(), TCP_TARGET)]
        );
    }
}
