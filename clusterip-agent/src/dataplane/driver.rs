//! The hook at an uplink's driver: attached where the driver has one and nobody else is there, taken over, taken away.

use std::{fmt, path::Path};

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::{
    attach::{Failure, unpin},
    netdev,
};

/// What a device has at its driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AtDriver {
    /// Nothing, and why.
    Nothing(String),
    /// A program that drops what is from outside (E1), and leaves the rest to TC; and why it does.
    Guards(String),
    /// A program that also sends on what is for backends on other nodes.
    Serves,
}

impl AtDriver {
    /// Whether there is a program.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        !matches!(self, Self::Nothing(_))
    }

    /// What there is at a device with a program.
    pub(super) fn of(index: u32, name: &str) -> Self {
        match netdev::sends(index, name) {
            Ok(true) => Self::Serves,
            Ok(false) => Self::Guards("its driver sends no frames of programs".to_owned()),
            Err(error) => Self::Guards(format!("what its driver does is not known: {error}")),
        }
    }
}

impl fmt::Display for AtDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(why) => write!(f, "none: {why}"),
            Self::Guards(why) => write!(f, "guards: {why}"),
            Self::Serves => f.write_str("serves"),
        }
    }
}

/// Attaches the program to a device's driver, or puts it in the place of an earlier agent's. Never in the kernel's generic
/// way, which takes a packet apart later than the TC hook would; never in the place of somebody else's program.
///
/// # Errors
/// The driver has no such hook, it is taken, or the device is set up in a way that it does not go with.
pub(super) fn attach(program: &mut Xdp, index: u32, pin: &Path) -> Result<(), Failure> {
    if pin.exists() {
        match replace_in_link(program, pin) {
            Ok(()) => return Ok(()),
            // The device of that number is gone, and another has it now.
            Err(error) => {
                log::debug!(index, error:err = *error; "the pinned link is of no use");
                unpin(pin.to_owned())?;
            }
        }
    }
    let id = program.attach_to_if_index(index, XdpMode::Driver)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)?;
    Ok(())
}

/// The pin stays as it is.
fn replace_in_link(program: &mut Xdp, pin: &Path) -> Result<(), Failure> {
    let link: XdpLink = FdLink::from(PinnedLink::from_pin(pin)?).try_into()?;
    let id = program.attach_to_link(link)?;
    // The pin alone holds it: when that goes, so does the attachment.
    drop(program.take_link(id)?);
    Ok(())
}
