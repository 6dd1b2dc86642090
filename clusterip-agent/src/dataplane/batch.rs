//! Whole maps in a few calls: aya asks the kernel for one entry at a time.

use std::{
    io,
    marker::PhantomData,
    ops::Range,
    os::fd::{AsRawFd as _, OwnedFd},
};

use aya::Pod;

use super::links::{bpf, raw};

/// `BPF_MAP_LOOKUP_BATCH`, since Linux 5.6.
pub(super) const LOOKUP_BATCH: libc::c_long = 24;
/// Entries of one call. The kernel gives whole buckets of a hash: more than any of them has.
pub(super) const CHUNK: usize = 4096;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
pub(super) struct Batch {
    /// Where to go on: 0 is the beginning.
    pub(super) from: u64,
    /// Where to go on the next time.
    pub(super) to: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    /// How many there is room for, and then how many there are.
    pub(super) count: u32,
    pub(super) map: u32,
    pub(super) entry_flags: u64,
    pub(super) flags: u64,
}

/// A hash or an array, to be read as a whole.
pub(super) struct Whole<K, V> {
    map: OwnedFd,
    content: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Whole<K, V> {
    /// Of a map whose keys and values are these.
    pub(super) const fn new(map: OwnedFd) -> Self {
        Self {
            map,
            content: PhantomData,
        }
    }

    /// Its descriptor.
    pub(super) const fn descriptor(&self) -> &OwnedFd {
        &self.map
    }

    /// Every entry; an array's in the order of its indices. An entry that is written meanwhile may be missing or be there
    /// twice. `blank` is what the buffers are filled with before.
    pub(super) fn read(&self, blank: (K, V)) -> io::Result<Vec<(K, V)>> {
        self.read_on(None, usize::MAX, blank)
    }

    /// So many entries, after the one at a position: a bucket's number for a hash, and an index for an array, four bytes
    /// each.
    fn read_on(
        &self,
        mut position: Option<u32>,
        limit: usize,
        blank: (K, V),
    ) -> io::Result<Vec<(K, V)>> {
        let room = CHUNK.min(limit);
        let (mut keys, mut values) = (vec![blank.0; room], vec![blank.1; room]);
        let mut next = 0_u32;
        let mut all = Vec::new();
        while all.len() < limit {
            let mut batch = Batch {
                from: position
                    .as_ref()
                    .map_or(0, |position| std::ptr::from_ref(position) as u64),
                to: (&raw mut next) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: u32::try_from(room.min(limit - all.len())).map_err(io::Error::other)?,
                map: raw(self.map.as_raw_fd())?,
                entry_flags: 0,
                flags: 0,
            };
            let ended = match bpf(LOOKUP_BATCH, &mut batch) {
                Ok(_zero) => false,
                // The last entries come with this.
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error),
            };
            let found = keys.iter().zip(&values).take(batch.count as usize);
            all.extend(found.map(|(key, value)| (*key, *value)));
            if ended {
                break;
            }
            position = Some(next);
        }
        Ok(all)
    }
}

impl<V: Pod> Whole<u32, V> {
    /// The entries of an array from one index up to another.
    pub(super) fn read_range(&self, range: Range<u32>, blank: V) -> io::Result<Vec<(u32, V)>> {
        self.read_on(range.start.checked_sub(1), range.len(), (0, blank))
    }
}
