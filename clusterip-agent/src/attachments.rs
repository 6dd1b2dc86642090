//! Keeps the hooks on the devices.

use std::{collections::BTreeMap, time::Duration};

use clusterip_common::packet::Link;
use nix::net::if_::if_indextoname;
use tokio::{sync::watch, time::sleep};

use crate::{
    dataplane::attach::{AtDriver, Hooks, Interface, Mode, Role},
    interfaces::{Device, Devices},
};

/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often drivers are asked what they do: it changes with what is beyond them.
const LOOK: Duration = Duration::from_secs(10);

/// How a device has its hooks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// The device.
    pub device: Device,
    /// How they are attached.
    pub mode: Mode,
    /// What there is at the device's driver (XDP).
    pub at_driver: AtDriver,
}

/// Devices with hooks, by the kernel's number.
pub type Attachments = BTreeMap<u32, Attachment>;

/// Attaches to devices that come, and lets go of those that went, until `devices` ends. What an earlier agent was
/// attached to is taken over, or taken away if it is not wanted any more. `attached` follows; None is
/// not looked yet.
pub async fn keep(
    mut hooks: Hooks,
    mut devices: watch::Receiver<Option<Devices>>,
    attached: watch::Sender<Option<Attachments>>,
) {
    loop {
        let wanted = devices.borrow_and_update().clone();
        let is_complete = wanted.is_none_or(|wanted| {
            if attached.borrow().is_none() {
                drop_stale(&hooks, &wanted);
            }
            follow(&mut hooks, &wanted, &attached)
        });
        let has_drivers = attached
            .borrow()
            .as_ref()
            .is_some_and(|all| all.values().any(|it| it.at_driver.is_there()));
        let retry = async {
            match (is_complete, has_drivers) {
                (false, _) => sleep(RETRY).await,
                (true, true) => sleep(LOOK).await,
                (true, false) => std::future::pending().await,
            }
        };
        tokio::select! {
            change = devices.changed() => if change.is_err() { return },
            () = retry => {}
        }
    }
}

fn drop_stale(hooks: &Hooks, wanted: &Devices) {
    for index in hooks.adopted() {
        if !wanted.contains_key(&index) {
            let name = if_indextoname(index).ok();
            let interface = Interface {
                index,
                name: name
                    .and_then(|name| name.into_string().ok())
                    .unwrap_or_default(),
                role: Role::Pod,
                link: Link::Ethernet,
            };
            if let Err(error) = hooks.detach(&interface) {
                log::warn!(index, error:err; "a device of an earlier run is still attached to");
            }
        }
    }
}

/// Makes what is attached what is wanted; false if something is left to do.
fn follow(
    hooks: &mut Hooks,
    wanted: &Devices,
    attached: &watch::Sender<Option<Attachments>>,
) -> bool {
    let mut now = attached.borrow().clone().unwrap_or_default();
    let gone: Vec<u32> = now
        .keys()
        .copied()
        .filter(|index| !wanted.contains_key(index))
        .collect();
    for index in gone {
        let Some(Attachment { device, .. }) = now.remove(&index) else {
            continue;
        };
        let interface = interface(index, &device);
        match hooks.detach(&interface) {
            Ok(()) => log::info!(interface = interface.name; "detached"),
            Err(error) => {
                log::warn!(interface = interface.name, error:err; "device is not let go of");
            }
        }
    }
    let mut is_complete = true;
    for (index, device) in wanted {
        // A device that was renamed is still the same one.
        if let Some(known) = now.get_mut(index)
            && known.device.role == device.role
        {
            known.device = device.clone();
            hooks.look_again(*index, &device.name, &mut known.at_driver);
            continue;
        }
        let mode = hooks.mode();
        let Device {
            name,
            role,
            link: _,
            is_redirected: _,
        } = device;
        match hooks.attach(&interface(*index, device)) {
            Ok(at_driver) => {
                log::info!(interface = name, role:%, mode:%, at_driver:%; "attached");
                let device = device.clone();
                let attachment = Attachment {
                    device,
                    mode,
                    at_driver,
                };
                now.insert(*index, attachment);
            }
            Err(error) => {
                is_complete = false;
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                log::warn!(interface = name, error:err, cause:?; "device is not attached to; trying again");
            }
        }
    }
    attached.send_if_modified(|seen| {
        let now = Some(now);
        let changed = *seen != now;
        *seen = now;
        changed
    });
    is_complete
}

fn interface(index: u32, device: &Device) -> Interface {
    let Device {
        name, role, link, ..
    } = device;
    Interface {
        index,
        name: name.clone(),
        role: *role,
        link: *link,
    }
}
