//! `get interfaces`

use super::{
    super::{
        reach::{Asking, ask},
        table::{aligned, head},
    },
    show,
};
use crate::view::interfaces::Interfaces;

pub(super) fn get(asking: &Asking) -> anyhow::Result<()> {
    let document: Interfaces = ask(&asking.reach, "/v1/interfaces")?;
    show(&document, asking.output, table)
}

pub(super) fn table(document: &Interfaces) -> String {
    if document.interfaces.is_empty() {
        return "no device has hooks; --pod-interfaces and --uplinks of `clusterip run` say which may\n"
            .to_owned();
    }
    let mut rows = vec![head(&["INDEX", "NAME", "ROLE", "MODE"])];
    rows.extend(document.interfaces.iter().map(|device| {
        vec![
            device.index.to_string(),
            device.name.clone(),
            device.role.clone(),
            device.mode.clone(),
        ]
    }));
    aligned(&rows)
}
