//! The hooks on devices, the pods' and the uplinks: attached, taken over, taken away.
//!
//! Links (kernel 6.6 and later) are pinned and outlive the agent; the next one replaces the program in place. Below that the
//! filter of a clsact qdisc does the same under a fixed priority and handle.

use std::{fmt, fs, io, path::PathBuf};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};
use clusterip_common::packet::Link;
use log::{debug, warn};
use nix::net::if_::{Interface as Device, if_nameindex};

pub use super::driver::AtDriver;
use super::{
    driver,
    load::{
        FROM_POD, FROM_POD_IP, FROM_UPLINK, FROM_UPLINK_IP, LoadError, Loaded, TO_POD, TO_POD_IP,
        UPLINK_XDP, has_tcx,
    },
    pins::Pins,
};

/// A hook: its program, and where on a device it sits.
struct Hook {
    program: &'static str,
    /// The program for devices whose frames have no Ethernet header (D11).
    bare: &'static str,
    place: TcAttachType,
}

impl Hook {
    const fn program(&self, link: Link) -> &'static str {
        match link {
            Link::Ethernet => self.program,
            Link::None => self.bare,
        }
    }
}

/// What a pod sends comes in on the host's side of its device. Requests are translated before any other program sees
/// them, replies after every other: a policy of another program sees the backend's address both ways (K1).
const POD: [Hook; 2] = [
    Hook {
        program: FROM_POD,
        bare: FROM_POD_IP,
        place: TcAttachType::Ingress,
    },
    TO,
];

/// What comes from outside, and the replies to what of it was served: they leave the node here.
const UPLINK: [Hook; 2] = [
    Hook {
        program: FROM_UPLINK,
        bare: FROM_UPLINK_IP,
        place: TcAttachType::Ingress,
    },
    TO,
];

const TO: Hook = Hook {
    program: TO_POD,
    bare: TO_POD_IP,
    place: TcAttachType::Egress,
};

/// What a device leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// A pod.
    Pod,
    /// Everything that is not on this node.
    Uplink,
}

impl Role {
    const ALL: [Self; 2] = [Self::Pod, Self::Uplink];

    const fn hooks(self) -> &'static [Hook; 2] {
        match self {
            Self::Pod => &POD,
            Self::Uplink => &UPLINK,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Uplink => "uplink",
        })
    }
}

/// The kinds of devices that there are programs for.
const LINKS: [Link; 2] = [Link::Ethernet, Link::None];

/// Priority and handle of our filters on a clsact qdisc, by which the next agent finds them.
const PRIORITY: u16 = 0xc1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// How programs are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// By links, from kernel 6.6 on.
    Tcx,
    /// By filters of a clsact qdisc.
    Clsact,
}

impl Mode {
    /// What this kernel has.
    #[must_use]
    pub fn detect() -> Self {
        if has_tcx() { Self::Tcx } else { Self::Clsact }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// A network device of the agent's namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it leads to.
    pub role: Role,
    /// What its frames begin with.
    pub link: Link,
}

/// A hook that could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The attachment.
    #[error("attach {program} to {interface} ({mode})")]
    Attach {
        /// Which program.
        program: &'static str,
        /// To which device.
        interface: String,
        /// How.
        mode: Mode,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pin of a link.
    #[error("{operation} {path}")]
    Pin {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// The programs, and where they are attached.
pub struct Hooks {
    loaded: Loaded,
    pins: Pins,
    mode: Mode,
    at_drivers: bool,
}

impl Hooks {
    /// Programs that are loaded and not attached yet.
    #[must_use]
    pub const fn new(loaded: Loaded, pins: Pins, mode: Mode) -> Self {
        Self {
            loaded,
            pins,
            mode,
            at_drivers: false,
        }
    }

    /// The same, and `at_drivers`: at the drivers of uplinks too, where that can be had.
    #[must_use]
    pub const fn at_drivers(mut self, at_drivers: bool) -> Self {
        self.at_drivers = at_drivers;
        self
    }

    /// How they are attached.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Attaches the programs, or puts them in the place of an earlier agent's. What there is at the driver: what speaks
    /// against a program there is said in the log, and the device does without.
    ///
    /// # Errors
    /// Which program could not be attached, and why.
    pub fn attach(&mut self, interface: &Interface) -> Result<AtDriver, AttachError> {
        self.attach_filters(interface)?;
        let pin = self.pin(interface.index, UPLINK_XDP);
        let against = match interface {
            Interface { role, .. } if *role != Role::Uplink => Some("not an uplink"),
            _ if !self.at_drivers => Some("not asked for (--uplink-mode)"),
            Interface { link, .. } if *link != Link::Ethernet => Some("not an Ethernet device"),
            _ => None,
        };
        if let Some(why) = against {
            unpin(pin)?;
            return Ok(AtDriver::Nothing(why.to_owned()));
        }
        let program = self.loaded.driver_program(UPLINK_XDP)?;
        if let Err(error) = driver::attach(program, interface.index, &pin) {
            let cause = error.source().map(ToString::to_string);
            log::info!(interface = interface.name, error:err = *error, cause:?; "no program at the driver: TC does all of it");
            return Ok(AtDriver::Nothing(
                cause.unwrap_or_else(|| error.to_string()),
            ));
        }
        Ok(AtDriver::of(interface.index, &interface.name))
    }

    /// What a driver does may depend on what is beyond it: asked anew.
    pub fn look_again(&self, index: u32, name: &str, known: &mut AtDriver) {
        if known.is_there() {
            *known = AtDriver::of(index, name);
        }
    }

    fn attach_filters(&mut self, interface: &Interface) -> Result<(), AttachError> {
        let hooks = interface.role.hooks();
        // What the device was before: a filter is replaced in its place, a link has one of its own.
        let wanted = hooks.iter().map(|hook| hook.program(interface.link));
        for old in every_program() {
            if !wanted.clone().any(|program| program == old) {
                unpin(self.pin(interface.index, old))?;
            }
        }
        for hook in hooks {
            let name = hook.program(interface.link);
            let pin = self.pin(interface.index, name);
            let program = self.loaded.program(name)?;
            let result = match self.mode {
                Mode::Tcx => attach_link(program, interface, hook, &pin),
                Mode::Clsact => attach_filter(program, interface, hook).map_err(Into::into),
            };
            result.map_err(|source| AttachError::Attach {
                program: name,
                interface: interface.name.clone(),
                mode: self.mode,
                source,
            })?;
        }
        Ok(())
    }

    /// Takes the programs from a device that is to be left alone or is gone.
    ///
    /// # Errors
    /// A pin could not be removed.
    pub fn detach(&self, interface: &Interface) -> Result<(), AttachError> {
        for program in every_program().chain([UPLINK_XDP]) {
            unpin(self.pin(interface.index, program))?;
        }
        if self.mode == Mode::Clsact {
            let _found = detach_filters(&interface.name);
        }
        Ok(())
    }

    /// The devices that an earlier agent may be attached to: a link's pin tells, a filter is not known before it is
    /// looked for.
    #[must_use]
    pub fn adopted(&self) -> Vec<u32> {
        if self.mode == Mode::Clsact {
            let devices = if_nameindex();
            return devices.map_or_else(
                |_| Vec::new(),
                |all| all.iter().map(Device::index).collect(),
            );
        }
        let Ok(entries) = fs::read_dir(self.pins.links()) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut indices: Vec<u32> = names
            .filter_map(|name| name.split('_').next()?.parse().ok())
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// A bpffs allows no dot in a name, a device does: hence the number.
    fn pin(&self, index: u32, program: &str) -> PathBuf {
        self.pins.links().join(format!("{index}_{program}"))
    }
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The programs of TC, whatever the device.
pub fn every_program() -> impl Iterator<Item = &'static str> {
    let hooks = Role::ALL.iter().flat_map(|role| role.hooks());
    hooks.flat_map(|hook| LINKS.map(|link| hook.program(link)))
}

fn attach_link(
    program: &mut SchedClassifier,
    interface: &Interface,
    hook: &Hook,
    pin: &PathBuf,
) -> Result<(), Failure> {
    match replace_in_link(program, pin) {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        // The device of that number is gone, and another has it now.
        Err(error) => {
            debug!(interface = interface.name, error:err = *error; "the pinned link is of no use");
            unpin(pin.clone())?;
        }
    }
    let order = match hook.place {
        TcAttachType::Egress => LinkOrder::last(),
        _ => LinkOrder::first(),
    };
    let options = TcAttachOptions::TcxOrder(order);
    let id = program.attach_with_options(&interface.name, hook.place, options)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(())
}

/// Puts the program into the link of an earlier agent; false if there is none. The pin stays as it is.
fn replace_in_link(program: &mut SchedClassifier, pin: &PathBuf) -> Result<bool, Failure> {
    if !pin.exists() {
        return Ok(false);
    }
    let link: SchedClassifierLink = FdLink::from(PinnedLink::from_pin(pin)?).try_into()?;
    let id = program.attach_to_link(link)?;
    // The pin alone holds it: when that goes, so does the attachment.
    drop(program.take_link(id)?);
    Ok(true)
}

fn attach_filter(
    program: &mut SchedClassifier,
    interface: &Interface,
    hook: &Hook,
) -> Result<(), ProgramError> {
    match tc::qdisc_add_clsact(&interface.name) {
        Ok(()) => {}
        // aya 0.14 has a variant for it that it never makes.
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let old = SchedClassifierLink::attached(&interface.name, hook.place, PRIORITY, HANDLE, None)?;
    let id = match program.attach_to_link(old) {
        Ok(id) => id,
        Err(_there_was_none) => {
            let options = NlOptions {
                priority: PRIORITY,
                handle: HANDLE,
                classid: None,
            };
            program.attach_with_options(
                &interface.name,
                hook.place,
                TcAttachOptions::Netlink(options),
            )?
        }
    };
    // A filter has no pin: dropping its link would detach it when the agent ends.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Takes our filters from a device; says whether there were any.
#[must_use = "a count of devices is what cleanup tells"]
pub fn detach_filters(interface: &str) -> bool {
    let mut found = false;
    for hook in Role::ALL.iter().flat_map(|role| role.hooks()) {
        for program in LINKS.map(|link| hook.program(link)) {
            match tc::qdisc_detach_program(interface, hook.place, program) {
                Ok(()) => found = true,
                Err(error) => debug!(interface, error:err; "no filter of ours"),
            }
        }
    }
    found
}

pub(super) fn unpin(path: PathBuf) -> Result<(), AttachError> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path:% = path.display(), error:err; "unpin link");
            Err(AttachError::Pin {
                operation: "unpin",
                path,
                source: error,
            })
        }
        _ => Ok(()),
    }
}
