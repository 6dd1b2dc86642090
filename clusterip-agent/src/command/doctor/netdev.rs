//! The network devices of this namespace, as the kernel lists them: `/sys` may be that of another one.

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct NetDevice {
    /// Name.
    pub(super) name: String,
    /// Bytes of its largest packet, less the header of the link layer.
    pub(super) mtu: u32,
    /// Whether it has an XDP program.
    pub(super) xdp: bool,
}

/// All of them, by the kernel's number.
pub(super) async fn devices() -> anyhow::Result<Vec<NetDevice>> {
    let (connection, handle, _messages) =
        rtnetlink::new_connection().context("open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let mut links = handle.link().get().execute();
    let mut devices = Vec::new();
    while let Some(link) = links.try_next().await.context("list the network devices")? {
        let mut device = NetDevice::default();
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::Xdp(xdp) => {
                    let is_on = |it: &LinkXdp| matches!(it, LinkXdp::ProgId(id) if *id > 0);
                    device.xdp = xdp.iter().any(is_on);
                }
                _ => {}
            }
        }
        devices.push(device);
    }
    connection.abort();
    Ok(devices)
}
