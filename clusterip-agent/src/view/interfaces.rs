//! `get interfaces`

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::{
    attachments::{Attachment, Attachments},
    interfaces::Role,
};

/// The document of `get interfaces -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interfaces {
    /// See [`VERSION`].
    pub version: u32,
    /// By index.
    pub interfaces: Vec<InterfaceView>,
}

/// A device with hooks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceView {
    /// The kernel's number for it.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it leads to: pod or uplink.
    pub role: String,
    /// tcx or clsact; with xdp in front where the device's driver has one too.
    pub mode: String,
    /// How translated packets go on to it: stack, or redirect.
    #[serde(default = "stack")]
    pub forwarding: String,
    /// Of an uplink, what there is at its driver: `serves`; `guards: ` and why it does no more; `none: ` and why.
    #[serde(default)]
    pub driver: String,
}

fn stack() -> String {
    "stack".to_owned()
}

/// The devices that are attached to.
#[must_use]
pub fn interfaces(attached: Option<&Attachments>) -> Interfaces {
    let devices = attached.into_iter().flatten();
    Interfaces {
        version: VERSION,
        interfaces: devices
            .map(|(index, attachment)| view(*index, attachment))
            .collect(),
    }
}

fn view(index: u32, attachment: &Attachment) -> InterfaceView {
    let Attachment {
        device,
        mode,
        at_driver,
    } = attachment;
    InterfaceView {
        index,
        name: device.name.clone(),
        role: device.role.to_string(),
        mode: if at_driver.is_there() {
            format!("xdp+{mode}")
        } else {
            mode.to_string()
        },
        forwarding: if device.is_redirected {
            "redirect".to_owned()
        } else {
            stack()
        },
        driver: match device.role {
            Role::Uplink => at_driver.to_string(),
            Role::Pod => String::new(),
        },
    }
}
