//! `get interfaces`

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::interfaces::Devices;

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
    /// tcx or clsact.
    pub mode: String,
}

/// The devices that are attached to.
#[must_use]
pub fn interfaces(attached: Option<&Devices>, mode: &str) -> Interfaces {
    let devices = attached.into_iter().flatten();
    Interfaces {
        version: VERSION,
        interfaces: devices
            .map(|(index, name)| InterfaceView {
                index: *index,
                name: name.clone(),
                mode: mode.to_owned(),
            })
            .collect(),
    }
}
