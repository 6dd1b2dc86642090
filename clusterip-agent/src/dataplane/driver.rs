//! The hook at an uplink's driver: attached where the driver has one and nobody else is there, taken over, taken away.

use std::path::Path;

use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};

use super::attach::{Failure, unpin};

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
