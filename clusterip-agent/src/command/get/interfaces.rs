//! `get interfaces`

use anyhow::bail;

use super::{
    super::{
        reach::ask,
        table::{dash, head},
    },
    InterfacesArgs,
    watch::{Rows, Show},
};
use crate::view::{interfaces::Interfaces, near};

pub(super) fn get(args: &InterfacesArgs) -> anyhow::Result<()> {
    let show = Show {
        format: args.asking.output,
        watch: args.watch,
        fleeting: &[],
        nothing: &|| {
            "no device has hooks; --pod-interfaces and --uplinks of `clusterip run` say which may\n"
                .to_owned()
        },
    };
    show.run(|| look(args), cells)
}

/// All of them, or the one that is wanted.
fn look(args: &InterfacesArgs) -> anyhow::Result<Interfaces> {
    let mut document: Interfaces = ask(&args.asking.reach, "/v1/interfaces")?;
    let Some(name) = args.name.as_deref() else {
        return Ok(document);
    };
    let names = document.interfaces.iter().map(|it| it.name.as_str());
    let near = near::nearest(name, names).map(str::to_owned);
    document.interfaces.retain(|it| it.name == name);
    if document.interfaces.is_empty() {
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        bail!("no interface {name} has hooks{hint}");
    }
    Ok(document)
}

#[cfg(test)]
pub(super) fn table(document: &Interfaces) -> String {
    super::super::table::aligned(&cells(document))
}

fn cells(document: &Interfaces) -> Rows {
    let mut rows = vec![head(&[
        "INDEX",
        "NAME",
        "ROLE",
        "MODE",
        "FORWARDING",
        "DRIVER",
    ])];
    rows.extend(document.interfaces.iter().map(|device| {
        vec![
            device.index.to_string(),
            device.name.clone(),
            dash(&device.role),
            device.mode.clone(),
            device.forwarding.clone(),
            dash(&device.driver),
        ]
    }));
    rows
}
