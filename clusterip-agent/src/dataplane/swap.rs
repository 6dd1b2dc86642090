//! All programs of an earlier agent are replaced at one stroke, wherever they are attached.

use std::{fs, io, os::fd::AsFd as _, path::Path};

use aya::{
    Ebpf,
    programs::{Program, tc::SchedClassifierLink},
};
use log::debug;

use super::{
    attach::{HANDLE, HOOKS, Mode, PRIORITY},
    links::OldLink,
    pins::{PinError, Pins, names},
};

/// Where the kernel lists the devices of this network namespace.
const DEVICES: &str = "/proc/net/dev";

/// Puts these programs into every pinned link and filter that has an older one. What cannot be replaced is left to
/// whoever looks after the devices.
pub(super) fn programs(ebpf: &mut Ebpf, pins: &Pins) -> Result<(), PinError> {
    for name in names(&pins.links())? {
        let pin = pins.links().join(&name);
        // A number or `cgroup`, and the name of the program.
        let Some((_, program)) = name.split_once('_') else {
            continue;
        };
        if let Some(program) = ebpf.program(program)
            && let Err(error) = put(program, &pin)
        {
            debug!(link = name, error:err; "the program of a link is not replaced");
        }
    }
    if Mode::detect() == Mode::Clsact {
        filters(ebpf);
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

fn filters(ebpf: &mut Ebpf) {
    let devices = fs::read_to_string(DEVICES).unwrap_or_default();
    let names = devices
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    for (name, hook) in names.flat_map(|name| HOOKS.iter().map(move |hook| (name, hook))) {
        let Some(Program::SchedClassifier(program)) = ebpf.program_mut(hook.program) else {
            continue;
        };
        let old = SchedClassifierLink::attached(name, hook.place, PRIORITY, HANDLE, None);
        // Fails where there is none of ours.
        if let Ok(old) = old
            && let Ok(id) = program.attach_to_link(old)
            && let Ok(link) = program.take_link(id)
        {
            // Dropping it would detach the filter.
            std::mem::forget(link);
        }
    }
}
