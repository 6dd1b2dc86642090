//! The network devices of this namespace, as the kernel lists them: `/sys` may be that of another one.

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct NetDevice {
    /// The kernel's number for it.
    pub(super) index: u32,
    /// Name.
    pub(super) name: String,
    /// Bytes of its largest packet, less the header of the link layer.
    pub(super) mtu: u32,
    /// Its XDP program, if it has one.
    pub(super) xdp: Option<u32>,
}

/// All of them, by the kernel's number.
pub(super) async fn devices() -> anyhow::Result<Vec<NetDevice>> {
    let (connection, handle, _messages) =
        rtnetlink::new_connection().context("open a netlink socket")?;
    let connection = tokio::spawn(connection);
    let mut links = handle.link().get().execute();
    let mut devices = Vec::new();
    while let Some(link) = links.try_next().await.context("list the network devices")? {
        let mut device = NetDevice {
            index: link.header.index,
            ..NetDevice::default()
        };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::Xdp(xdp) => {
                    device.xdp = xdp.iter().find_map(|it| match it {
                        LinkXdp::ProgId(id) => Some(*id).filter(|id| *id > 0),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        devices.push(device);
    }
    connection.abort();
    Ok(devices)
}
