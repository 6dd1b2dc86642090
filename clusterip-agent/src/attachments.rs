//! Keeps the hooks on the pods' devices.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

use crate::{
    dataplane::attach::{Hooks, Interface},
    interfaces::Devices,
};

/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Attaches to devices that come, and lets go of those that went, until `devices` ends. What an earlier agent was
/// attached to is taken over, or taken away if it is not wanted any more. `attached` follows; None is
/// not looked yet.
pub async fn keep(
    mut hooks: Hooks,
    mut devices: watch::Receiver<Option<Devices>>,
    attached: watch::Sender<Option<Devices>>,
) {
    loop {
        let wanted = devices.borrow_and_update().clone();
        let is_complete = wanted.is_none_or(|wanted| {
            if attached.borrow().is_none() {
                drop_stale(&hooks, &wanted);
            }
            follow(&mut hooks, &wanted, &attached)
        });
        let retry = async {
            if is_complete {
                std::future::pending::<()>().await;
            }
            sleep(RETRY).await;
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
            let interface = Interface {
                index,
                name: String::new(),
            };
            if let Err(error) = hooks.detach(&interface) {
                log::warn!(index, error:err; "a device of an earlier run is still attached to");
            }
        }
    }
}

/// Makes what is attached what is wanted; false if something is left to do.
fn follow(hooks: &mut Hooks, wanted: &Devices, attached: &watch::Sender<Option<Devices>>) -> bool {
    let mut now = attached.borrow().clone().unwrap_or_default();
    let gone: Vec<u32> = now
        .keys()
        .copied()
        .filter(|index| !wanted.contains_key(index))
        .collect();
    for index in gone {
        let name = now.remove(&index).unwrap_or_default();
        if let Err(error) = hooks.detach(&Interface {
            index,
            name: name.clone(),
        }) {
            log::warn!(interface = name, error:err; "device is not let go of");
        } else {
            log::info!(interface = name; "detached");
        }
    }
    let mut is_complete = true;
    for (index, name) in wanted {
        // A device that was renamed is still the same one.
        if now.contains_key(index) {
            now.insert(*index, name.clone());
            continue;
        }
        let mode = hooks.mode();
        match hooks.attach(&Interface {
            index: *index,
            name: name.clone(),
        }) {
            Ok(()) => {
                log::info!(interface = name, mode:%; "attached");
                now.insert(*index, name.clone());
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
