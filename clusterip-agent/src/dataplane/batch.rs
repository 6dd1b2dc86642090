//! Whole maps in a few calls: aya asks the kernel for one entry at a time.

mod halves;

use std::{
    io,
    marker::PhantomData,
    ops::{AddAssign, ControlFlow, Range},
    os::fd::{AsRawFd as _, OwnedFd},
};

use aya::Pod;

use super::{
    links::{bpf, raw},
    raw::Raw,
};

/// `BPF_MAP_LOOKUP_BATCH`, since Linux 5.6.
pub(super) const LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_MAP_UPDATE_BATCH`, of as old a kernel.
const UPDATE_BATCH: libc::c_long = 26;
/// Entries of one call. The kernel gives whole buckets of a hash: more than any of them has.
pub(super) const CHUNK: usize = 4096;
/// Bytes of a buffer for the values of many CPUs: a machine may have hundreds of them.
const BYTES: usize = 1 << 20;

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
        let mut all = Vec::new();
        self.visit(blank, |key, value| all.push((*key, *value)))?;
        Ok(all)
    }

    /// As [`Whole::read`], without keeping them: a table of flows is larger than the processor's caches.
    pub(super) fn visit(&self, blank: (K, V), mut each: impl FnMut(&K, &V)) -> io::Result<()> {
        let mut chunk = Chunk::of(blank, CHUNK);
        walk(&self.map, &chunk.buffers(), None, usize::MAX, |found, _| {
            chunk
                .entries(found)
                .for_each(|(key, value)| each(key, value));
            ControlFlow::Continue(())
        })
    }
}

/// An entry that was not written; those before it were.
pub(super) struct Unwritten<K> {
    pub(super) key: Option<K>,
    pub(super) source: io::Error,
}

impl<K: Pod, V: Pod> Whole<K, V> {
    /// Writes entries in their order, some thousand with one call.
    pub(super) fn write(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Unwritten<K>> {
        let mut entries = entries.into_iter();
        loop {
            let (keys, values): (Vec<K>, Vec<V>) = entries.by_ref().take(CHUNK).unzip();
            if keys.is_empty() {
                return Ok(());
            }
            update(&self.map, &keys, values.as_ptr() as u64)?;
        }
    }
}

/// Writes entries with one call; `values` is where theirs are, in the same order.
fn update<K: Copy>(map: &OwnedFd, keys: &[K], values: u64) -> Result<(), Unwritten<K>> {
    let failed = |written: usize, source| Unwritten {
        key: keys.get(written).copied(),
        source,
    };
    let none = |error| failed(0, error);
    let count = u32::try_from(keys.len()).map_err(io::Error::other);
    let mut batch = Batch {
        from: 0,
        to: 0,
        keys: keys.as_ptr() as u64,
        values,
        count: count.map_err(none)?,
        map: raw(map.as_raw_fd()).map_err(none)?,
        entry_flags: 0,
        flags: 0,
    };
    bpf(UPDATE_BATCH, &mut batch).map_err(|error| failed(batch.count as usize, error))?;
    Ok(())
}

impl<V: Pod> Whole<u32, V> {
    /// The entries of an array from one index up to another.
    pub(super) fn read_range(&self, range: Range<u32>, blank: V) -> io::Result<Vec<(u32, V)>> {
        let (position, limit) = (range.start.checked_sub(1), range.len());
        let room = CHUNK.min(limit);
        let mut chunk = Chunk::of((0, blank), room);
        let mut all = Vec::with_capacity(limit);
        walk(&self.map, &chunk.buffers(), position, limit, |found, _| {
            all.extend(chunk.entries(found).map(|(key, value)| (*key, *value)));
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }
}

/// An array with a value for each CPU, to be read as a whole.
pub(super) struct PerCpu<V> {
    map: OwnedFd,
    cpus: usize,
    content: PhantomData<V>,
}

impl<V: Copy + Default + AddAssign> PerCpu<V>
where
    Raw<V>: Pod,
{
    /// Of a map whose values are these; their size is a multiple of 8, as that of all counters is.
    ///
    /// # Errors
    /// The kernel does not say how many CPUs there may be.
    pub(super) fn new(map: OwnedFd) -> io::Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(_file, error)| error)?;
        Ok(Self {
            map,
            cpus,
            content: PhantomData,
        })
    }

    /// The values of the first so many indices, all CPUs together.
    pub(super) fn sums(&self, count: u32) -> io::Result<Vec<V>> {
        let limit = usize::try_from(count).map_err(io::Error::other)?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let room = self.room().min(limit);
        let (mut keys, mut values) = (vec![0_u32; room], vec![Raw(V::default()); room * self.cpus]);
        let buffers = Buffers {
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            room,
        };
        let mut sums = Vec::with_capacity(limit);
        walk(&self.map, &buffers, None, limit, |found, _| {
            for values in values.chunks(self.cpus).take(found) {
                let mut sum = V::default();
                for Raw(value) in values {
                    sum += *value;
                }
                sums.push(sum);
            }
            ControlFlow::Continue(())
        })?;
        Ok(sums)
    }

    /// Sets the values of these indices to nothing, on all CPUs.
    pub(super) fn clear(
        &self,
        indices: impl IntoIterator<Item = u32>,
    ) -> Result<(), Unwritten<u32>> {
        let indices: Vec<u32> = indices.into_iter().collect();
        let room = self.room().min(indices.len());
        let zero = vec![Raw(V::default()); room * self.cpus];
        let mut chunks = indices.chunks(room.max(1));
        chunks.try_for_each(|some| update(&self.map, some, zero.as_ptr() as u64))
    }

    /// Entries of one call.
    fn room(&self) -> usize {
        (BYTES / (size_of::<V>() * self.cpus)).clamp(1, CHUNK)
    }
}

/// Memory for some entries.
struct Chunk<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Pod, V: Pod> Chunk<K, V> {
    fn of(blank: (K, V), room: usize) -> Self {
        Self {
            keys: vec![blank.0; room],
            values: vec![blank.1; room],
        }
    }

    /// Where the kernel writes them.
    fn buffers(&mut self) -> Buffers {
        Buffers {
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            room: self.keys.len(),
        }
    }

    /// The first so many.
    fn entries(&self, found: usize) -> impl Iterator<Item = (&K, &V)> {
        self.keys.iter().zip(&self.values).take(found)
    }
}

/// Where the kernel writes, and for how many entries there is room.
struct Buffers {
    keys: u64,
    values: u64,
    room: usize,
}

/// Reads so many entries after the one at a position: a bucket's number for a hash, and an index for an array, four bytes
/// each. `take` is told how many are in the buffers, and where the next ones begin.
fn walk(
    map: &OwnedFd,
    &Buffers { keys, values, room }: &Buffers,
    mut position: Option<u32>,
    limit: usize,
    mut take: impl FnMut(usize, u32) -> ControlFlow<()>,
) -> io::Result<()> {
    let (mut next, mut left) = (0_u32, limit);
    while left > 0 {
        let mut batch = Batch {
            from: position
                .as_ref()
                .map_or(0, |position| std::ptr::from_ref(position) as u64),
            to: (&raw mut next) as u64,
            keys,
            values,
            count: u32::try_from(room.min(left)).map_err(io::Error::other)?,
            map: raw(map.as_raw_fd())?,
            entry_flags: 0,
            flags: 0,
        };
        let ended = match bpf(LOOKUP_BATCH, &mut batch) {
            Ok(_zero) => false,
            // The last entries come with this.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        let found = batch.count as usize;
        if take(found, next).is_break() || ended {
            return Ok(());
        }
        left = left.saturating_sub(found);
        position = Some(next);
    }
    Ok(())
}
