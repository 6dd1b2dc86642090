//! Frames in the file format of libpcap (IETF draft-ietf-opsawg-pcap): a header, and one before each frame.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use zerocopy::{Immutable, IntoBytes};

use crate::view::event::{EventView, bytes};

/// Times are seconds and microseconds. Readers tell the order of bytes by it.
const MAGIC: u32 = 0xa1b2_c3d4;
/// Link types: Ethernet, and IP without anything before it.
const ETHERNET: u32 = 1;
/// Bytes of an Ethernet header.
const ETHERNET_HEADER: usize = 14;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    magic: u32,
    major: u16,
    minor: u16,
    zone: u32,
    precision: u32,
    longest: u32,
    link: u32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Packet {
    seconds: u32,
    microseconds: u32,
    captured: u32,
    length: u32,
}

/// A file that is being written: complete after each frame.
#[derive(Debug)]
pub(super) struct Capture {
    path: PathBuf,
    file: File,
}

impl Capture {
    /// Makes the file, in the place of one that is there.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        let mut capture = Self {
            path: path.to_owned(),
            file,
        };
        let head = Head {
            magic: MAGIC,
            major: 2,
            minor: 4,
            zone: 0,
            precision: 0,
            longest: u32::from(u16::MAX),
            link: ETHERNET,
        };
        capture.write(head.as_bytes())?;
        Ok(capture)
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let path = &self.path;
        let written = self.file.write_all(bytes);
        written.with_context(|| format!("write {}", path.display()))
    }

    /// Adds the frame of an event, if it brings one. What begins with the IP header gets an empty Ethernet header: a file
    /// has frames of one kind.
    pub(super) fn take(&mut self, time: &str, event: &EventView) -> anyhow::Result<()> {
        let Some(frame) = event.frame.as_deref().and_then(bytes) else {
            return Ok(());
        };
        let is_bare = event.link.as_deref() == Some("ip");
        let header = if is_bare {
            ethernet(&frame).to_vec()
        } else {
            Vec::new()
        };
        let time: Timestamp = time.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let head = Packet {
            seconds: u32::try_from(time.as_second()).unwrap_or_default(),
            microseconds: u32::try_from(time.subsec_microsecond()).unwrap_or_default(),
            captured: number(header.len() + frame.len()),
            length: event.bytes.saturating_add(number(header.len())),
        };
        let mut record = head.as_bytes().to_vec();
        record.extend(header);
        record.extend(frame);
        self.write(&record)
    }
}

/// The header that a bare packet would have.
fn ethernet(packet: &[u8]) -> [u8; ETHERNET_HEADER] {
    let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
    let [high, low] = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_packet_gets_the_header_of_its_family() {
        assert_eq!(ethernet(&[0x45, 0])[12..], [0x08, 0x00]);
        assert_eq!(ethernet(&[0x60, 0])[12..], [0x86, 0xdd]);
    }
}
