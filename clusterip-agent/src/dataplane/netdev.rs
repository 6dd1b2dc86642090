//! What the driver of a network device can do with frames of programs, as the kernel tells from 6.3 on (the family `netdev` of
//! generic netlink).
#![expect(
    clippy::host_endian_bytes,
    reason = "messages of netlink are in the byte order of the machine"
)]

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
        socket,
    },
};

/// `GENL_ID_CTRL`, which knows the numbers of families; its command and its attributes.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The family, its command and its attributes.
const FAMILY: &[u8] = b"netdev\0";
const GET_DEVICE: u8 = 1;
const DEVICE: u16 = 1;
const FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`
const SENDS: u64 = 4;

/// `NLM_F_REQUEST`; the types of an error's message; bytes of the headers of a message and of an attribute.
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const HEADERS: usize = 16 + 4;
const ATTRIBUTE: usize = 4;
const ROOM: usize = 8 << 10;

/// Whether a driver sends frames that programs give to it, back by its own device too. A kernel that does not tell is believed
/// of devices that are machines: of pairs in memory, which need something at the other end, it is not known there.
///
/// # Errors
/// The kernel refuses to tell.
pub(super) fn sends(index: u32, name: &str) -> io::Result<bool> {
    match features(index) {
        Ok(features) => Ok(features & SENDS != 0),
        Err(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) => {
            Ok(fs::exists(format!("/sys/class/net/{name}/device"))?)
        }
        Err(error) => Err(error.into()),
    }
}

fn features(index: u32) -> Result<u64, Errno> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )?;
    let answer = ask(&socket, CONTROL, GET_FAMILY, (FAMILY_NAME, FAMILY))?;
    let family = attribute(&answer, FAMILY_ID).and_then(|value| value.first_chunk());
    let family = u16::from_ne_bytes(*family.ok_or(Errno::ENOENT)?);
    let answer = ask(&socket, family, GET_DEVICE, (DEVICE, &index.to_ne_bytes()))?;
    let features = attribute(&answer, FEATURES).and_then(|value| value.first_chunk());
    Ok(features.map_or(0, |value| u64::from_ne_bytes(*value)))
}

/// A question with one attribute; the attributes of the answer.
fn ask(
    socket: &OwnedFd,
    family: u16,
    command: u8,
    (kind, value): (u16, &[u8]),
) -> Result<Vec<u8>, Errno> {
    let mut message = vec![0; 4];
    message.extend_from_slice(&family.to_ne_bytes());
    message.extend_from_slice(&REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[command, 1, 0, 0]);
    let length = u16::try_from(ATTRIBUTE + value.len()).map_err(|_error| Errno::EINVAL)?;
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u32::try_from(message.len()).map_err(|_error| Errno::EINVAL)?;
    message.splice(..4, length.to_ne_bytes());
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = vec![0; ROOM];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    let kind = answer.get(4..).and_then(|rest| rest.first_chunk());
    if kind.map(|kind| u16::from_ne_bytes(*kind)) == Some(ERROR) {
        let number = answer.get(16..).and_then(|rest| rest.first_chunk());
        let number = number.map_or(0, |number| i32::from_ne_bytes(*number));
        return Err(Errno::from_raw(-number));
    }
    Ok(answer.split_off(HEADERS.min(answer.len())))
}

/// The value of an attribute.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(ATTRIBUTE..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others() {
        let mut text = Vec::new();
        for (kind, value) in [(7_u16, &b"abc"[..]), (3, &[9; 8])] {
            text.extend_from_slice(&u16::to_ne_bytes(u16::try_from(4 + value.len()).unwrap()));
            text.extend_from_slice(&kind.to_ne_bytes());
            text.extend_from_slice(value);
            text.resize(text.len().next_multiple_of(4), 0);
        }
        assert_eq!(attribute(&text, 3), Some(&[9; 8][..]));
        assert_eq!(attribute(&text, 7), Some(&b"abc"[..]));
        assert_eq!(attribute(&text, 1), None);
        assert_eq!(attribute(&text[..9], 3), None);
        assert_eq!(attribute(&[0; 8], 3), None);
    }

    #[test]
    fn a_device_that_is_none_is_said_to_be_none() {
        // Of a kernel without the family nothing is known of it either.
        let known = sends(u32::MAX, "no-such-device");
        assert!(!known.unwrap_or(false));
    }
}
