//! The pods' devices, as they come and go.

use std::{collections::BTreeMap, io, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_route::link::{LinkAttribute, LinkXdp},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use wildmatch::WildMatch;

/// Names of devices by the kernel's number.
pub type Devices = BTreeMap<u32, String>;

/// Why the devices are not known.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No netlink socket.
    #[error("open a netlink socket to watch the network devices")]
    Socket(#[source] io::Error),
    /// The kernel did not list them.
    #[error("list the network devices")]
    List(#[source] rtnetlink::Error),
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

/// Keeps `devices` up to date until nobody listens; None is not listed yet. Whatever fails is said and tried again.
pub async fn watch(globs: Globs, devices: watch::Sender<Option<Devices>>) {
    while !devices.is_closed() {
        if let Err(error) = follow(&globs, &devices).await {
            log::warn!(error:err; "network devices are not watched; trying again");
        }
        sleep(PAUSE).await;
    }
}

async fn follow(
    globs: &Globs,
    devices: &watch::Sender<Option<Devices>>,
) -> Result<(), InterfaceError> {
    let (connection, handle, mut messages) =
        new_multicast_connection(&[MulticastGroup::Link]).map_err(InterfaceError::Socket)?;
    let connection = tokio::spawn(connection);
    let result = async {
        loop {
            let found = Some(list(&handle, globs).await?);
            devices.send_if_modified(|seen| {
                let changed = *seen != found;
                *seen = found;
                changed
            });
            tokio::select! {
                message = timeout(SLOW_LOOK, messages.next()) => {
                    if matches!(message, Ok(None)) {
                        return Err(InterfaceError::Closed);
                    }
                }
                () = devices.closed() => return Ok(()),
            }
            while let Ok(Some(_more)) = timeout(BURST, messages.next()).await {}
        }
    }
    .await;
    connection.abort();
    result
}

async fn list(handle: &Handle, globs: &Globs) -> Result<Devices, InterfaceError> {
    let mut links = handle.link().get().execute();
    let mut devices = Devices::new();
    while let Some(link) = links.try_next().await.map_err(InterfaceError::List)? {
        let name = link
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
        if let Some(name) = name
            && globs.fit(&name)
        {
            devices.insert(link.header.index, name);
        }
    }
    Ok(devices)
}

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Bytes of its largest packet, less the header of the link layer.
    pub mtu: u32,
    /// Whether it has an XDP program.
    pub xdp: bool,
}

/// All devices of this network namespace, by the kernel's number.
///
/// # Errors
/// The kernel did not list them.
pub async fn devices() -> Result<Vec<Device>, InterfaceError> {
    let (connection, handle, _messages) =
        rtnetlink::new_connection().map_err(InterfaceError::Socket)?;
    let connection = tokio::spawn(connection);
    let mut links = handle.link().get().execute();
    let mut devices = Vec::new();
    while let Some(link) = links.try_next().await.map_err(InterfaceError::List)? {
        let mut device = Device::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_whole_names() {
        let globs = Globs::new(&["veth*".into(), "cali?".into()]);
        assert!(globs.fit("veth12") && globs.fit("veth") && globs.fit("cali1"));
        assert!(!globs.fit("cali12") && !globs.fit("xveth1") && !globs.fit("eth0"));
    }
}
