//! The only view of a frame that the packet functions have.

use core::mem::{align_of, size_of};

use network_types::{
    icmp::{Icmpv4Hdr, Icmpv6Hdr},
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use super::{
    checksum::Sum,
    neighbour::{Arp, Discovery},
    sctp,
};
use crate::abi::FlowKey;

/// A type that a frame's bytes can be read as.
///
/// # Safety
/// No padding, alignment 1, any bytes are a value.
pub unsafe trait Wire: Copy {
    /// Refuses a type that cannot stand at any offset.
    const UNALIGNED: () = assert!(align_of::<Self>() == 1);
}

// SAFETY: arrays of bytes have neither padding nor alignment.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: network-types declares this header `repr(C)` with byte arrays only.
unsafe impl Wire for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for Ipv6Hdr {}
// SAFETY: as above.
unsafe impl Wire for TcpHdr {}
// SAFETY: as above.
unsafe impl Wire for UdpHdr {}
// SAFETY: as above.
unsafe impl Wire for Icmpv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for Icmpv6Hdr {}
// SAFETY: `Unaligned` and `IntoBytes` are derived: no padding, alignment 1; `FromBytes`: any bytes are a value.
unsafe impl Wire for Arp {}
// SAFETY: as above.
unsafe impl Wire for Discovery {}

/// How an L4 checksum changes.
#[derive(Clone, Copy, Debug)]
pub struct ChecksumFix {
    /// Change of the addresses, which are in the pseudo header; zero if they stay.
    pub addresses: Sum,
    /// Change of the ports, which are not; zero if they stay.
    pub ports: Sum,
    /// UDP: 0 means "none" and stays, and a computed 0 is sent as 0xffff (D1).
    pub zero_is_none: bool,
    /// IPv6: the kernel's helper wants to know.
    pub ipv6: bool,
}

impl ChecksumFix {
    /// The checksum that a complete one becomes (RFC 1624).
    #[inline(always)]
    #[must_use]
    pub fn of_complete(self, checksum: [u8; 2]) -> [u8; 2] {
        if self.zero_is_none && checksum == [0; 2] {
            return checksum;
        }
        match self.addresses.and(self.ports).fix(checksum) {
            [0, 0] if self.zero_is_none => [0xff; 2],
            fixed => fixed,
        }
    }
}

/// A frame, from its Ethernet header on if it has one.
pub trait Frame {
    /// Where the IP header begins.
    fn network(&self) -> usize;

    /// Says where the IP header begins.
    fn enter(&mut self, network: usize);

    /// The kernel's number of the device that it is at; 1, as in the kernel's test-run, where there is none.
    fn device(&self) -> u32 {
        1
    }

    /// Bytes in it, beyond what is linear in the kernel.
    fn len(&self) -> usize;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes sure that the first `bytes` bytes can be read, as far as the frame has them.
    fn pull(&mut self, bytes: usize);

    /// Bytes of payload in each of the segments that the frame will be cut into; 0 if it stays whole.
    fn segment(&self) -> usize {
        0
    }

    /// The bytes of the frame have changed by this where no checksum of its own makes up for it: a device may have
    /// summed all of them.
    fn add_to_sum(&mut self, _change: Sum) {}

    /// A number that is as it was, and of which whoever proves the program safe knows nothing any more: many ways that
    /// meet are one from here on.
    fn forget(&self, number: usize) -> usize {
        number
    }

    /// A header at an offset.
    fn at<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// A header at an offset, to write to.
    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T>;

    /// Changes the L4 checksum at `offset`, knowing whether it is complete or only begun (D2).
    #[must_use]
    fn fix_checksum(&mut self, offset: usize, fix: ChecksumFix) -> bool;

    /// By how much the `CRC32c` over `length` bytes changes if the first four of them change by `change`.
    fn advance_crc(&self, change: u32, length: usize) -> u32 {
        sctp::advance(change, length)
    }

    /// Whether the node has a socket that packets of this tuple would come to (E8).
    fn has_socket(&self, _tuple: &FlowKey) -> bool {
        false
    }

    /// Cuts the frame to `len` bytes. False: it has the length it had.
    #[must_use]
    fn truncate(&mut self, len: usize) -> bool;

    /// Opens a gap of `bytes` bytes, a few dozen, before the IP header. What is in the gap
    /// is undefined.
    #[must_use]
    fn open_gap(&mut self, bytes: usize) -> bool;
}

/// A frame in a slice: tests, benches, `trace`.
pub struct SliceFrame<'a> {
    buffer: &'a mut [u8],
    len: usize,
    network: usize,
}

impl<'a> SliceFrame<'a> {
    /// The first `len` bytes of `buffer`; the rest is room to grow.
    ///
    /// # Panics
    /// Does not: a `len` beyond the buffer is cut to it.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], len: usize) -> Self {
        let len = len.min(buffer.len());
        Self {
            buffer,
            len,
            network: 0,
        }
    }

    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

impl Frame for SliceFrame<'_> {
    fn network(&self) -> usize {
        self.network
    }

    fn enter(&mut self, network: usize) {
        self.network = network;
    }

    fn len(&self) -> usize {
        self.len
    }

    fn pull(&mut self, _: usize) {}

    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        const { T::UNALIGNED };
        let bytes = self.bytes().get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: `bytes` has the size of a `T`, and `Wire` makes any bytes at any address one.
        Some(unsafe { &*bytes.as_ptr().cast::<T>() })
    }

    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        const { T::UNALIGNED };
        let bytes = self
            .buffer
            .get_mut(..self.len)?
            .get_mut(offset..)?
            .get_mut(..size_of::<T>())?;
        // SAFETY: as above, and the slice is borrowed mutably.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast::<T>() })
    }

    fn fix_checksum(&mut self, offset: usize, fix: ChecksumFix) -> bool {
        let Some(field) = self.at_mut::<[u8; 2]>(offset) else {
            return false;
        };
        *field = fix.of_complete(*field);
        true
    }

    fn truncate(&mut self, len: usize) -> bool {
        let shorter = len <= self.len;
        if shorter {
            self.len = len;
        }
        shorter
    }

    fn open_gap(&mut self, bytes: usize) -> bool {
        let len = self.len + bytes;
        if len > self.buffer.len() || self.len < self.network {
            return false;
        }
        self.buffer
            .copy_within(self.network..self.len, self.network + bytes);
        self.len = len;
        true
    }
}
