//! Keeps what the programs remember of ways true: a change of routes, rules, neighbours, addresses or links makes them
//! look again.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use clusterip_common::packet::Beyond;
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use tokio::{sync::watch, time::sleep};

use crate::{
    attachments::Attachments,
    dataplane::{
        attach::{AtDriver, Role},
        ways::{Changes, DeviceMap},
    },
};

/// Groups of messages, as the old numbers have them (`RTMGRP_`): links, neighbours, addresses, routes and rules of IPv4, and
/// of IPv6.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x4_0000;
/// A message is not read, but its room has to be there.
const ROOM: usize = 16 << 10;
/// Before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// What is shared between the one that hears of changes and the one that knows devices.
#[derive(Clone)]
pub struct Ways(Arc<Mutex<Changes>>);

impl Ways {
    /// Ways that nobody watches yet.
    #[must_use]
    pub fn new(changes: Changes) -> Self {
        Self(Arc::new(Mutex::new(changes)))
    }

    fn note(&self) {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = changes.note() {
            log::error!(error:err; "programs are not told that ways have changed: they look by themselves soon");
        }
    }

    /// Listens to the kernel, in a thread of its own: however busy the agent is, no packet waits for it. It ends with the
    /// process.
    ///
    /// # Errors
    /// No socket, or no thread.
    pub fn listen(&self) -> io::Result<()> {
        let ways = self.clone();
        let socket = open()?;
        thread::Builder::new()
            .name("ways".to_owned())
            .spawn(move || {
                let mut room = vec![0; ROOM];
                loop {
                    match recv(socket.as_raw_fd(), &mut room, MsgFlags::empty()) {
                        // Some messages were lost: something has changed.
                        Ok(_) | Err(Errno::ENOBUFS) => ways.note(),
                        Err(Errno::EINTR) => {}
                        Err(error) => {
                            log::error!(error:%; "changes of ways are not heard of: programs look by themselves");
                            return;
                        }
                    }
                }
            })
            .map(drop)
    }

    /// Tells the programs what is beyond the devices, as they come and go, until `devices` ends.
    pub async fn keep(self, mut map: DeviceMap, mut devices: watch::Receiver<Option<Attachments>>) {
        loop {
            let known = devices.borrow_and_update().clone().unwrap_or_default();
            match map.follow(&beyond(&known)) {
                Ok(true) => self.note(),
                Ok(false) => {}
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    log::warn!(error:err, cause:?; "programs do not know all devices; trying again");
                    sleep(PAUSE).await;
                    continue;
                }
            }
            if devices.changed().await.is_err() {
                return;
            }
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(socket)
}

fn beyond(devices: &Attachments) -> BTreeMap<u32, Beyond> {
    let known = devices.iter().filter_map(|(index, attachment)| {
        let device = &attachment.device;
        let beyond = match device.role {
            Role::Uplink if attachment.at_driver == AtDriver::Serves => Beyond::DRIVER,
            _ if !device.is_redirected => return None,
            Role::Uplink => Beyond::UPLINK,
            Role::Pod => Beyond::POD,
        };
        Some((*index, beyond))
    });
    known.collect()
}
