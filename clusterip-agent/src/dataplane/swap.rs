//! All programs of an earlier agent are replaced at one stroke, wherever a link holds them. Filters of a clsact qdisc, on
//! kernels without links of TC, are replaced device by device when the agent attaches.

use std::{io, os::fd::AsFd as _, path::Path};

use aya::{Ebpf, programs::Program};
use log::debug;

use super::{
    links::OldLink,
    load::load_on_demand,
    pins::{PinError, Pins, names},
};

/// Puts these programs into every pinned link that has an older one. What cannot be replaced is left to
/// whoever looks after the devices.
pub(super) fn programs(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), PinError> {
    for name in names(&pins.links())? {
        let pin = pins.links().join(&name);
        // A number or `cgroup`, and the name of the program.
        let Some((_, program)) = name.split_once('_') else {
            continue;
        };
        let done = load_on_demand(ebpf, program)
            .map_err(io::Error::other)
            .and_then(|()| ebpf.program(program).map_or(Ok(()), |it| put(it, &pin)));
        if let Err(error) = done {
            debug!(link = name, error:err; "the program of a link is not replaced");
        }
    }
    Ok(())
}

fn put(program: &Program, pin: &Path) -> io::Result<()> {
    let program = program.fd().map_err(io::Error::other)?;
    match OldLink::open(pin)? {
        Some(link) => link.update(program.as_fd()),
        None => Ok(()),
    }
}
