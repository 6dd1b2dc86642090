//! Reading a whole hash map, many entries to a call: aya asks for one at a time, which is thirteen times slower.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Pod, maps::MapData};

/// `BPF_MAP_LOOKUP_BATCH`, kernel 5.6.
const LOOKUP_BATCH: libc::c_long = 24;
/// Entries to a call. A bucket that holds more makes the kernel say so.
const ENTRIES: u32 = 4096;
/// More is no bucket but a broken map.
const MOST_ENTRIES: u32 = 1 << 20;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Hands over every entry of a hash map (LRU or not, not per CPU) as it is when its bucket is read: none twice, and none
/// is missed that was there all the time.
///
/// # Errors
/// The kernel refused.
pub(super) fn for_each<K: Pod, V: Pod>(
    map: &MapData,
    mut each: impl FnMut(K, V),
) -> io::Result<()> {
    let fd = map.fd().as_fd().as_raw_fd();
    let map = u32::try_from(fd).map_err(io::Error::other)?;
    let mut room = ENTRIES;
    let (mut keys, mut values) = (blank::<K>(room)?, blank::<V>(room)?);
    // Where the kernel goes on: the number of a bucket.
    let (mut from, mut next) = (None::<u32>, 0_u32);
    loop {
        let mut batch = Batch {
            from: from.as_ref().map_or(0, |from| &raw const *from as u64),
            next: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room,
            map,
            element_flags: 0,
            flags: 0,
        };
        let result = lookup(&mut batch);
        let is_last = match result {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < MOST_ENTRIES => {
                room *= 2;
                (keys, values) = (blank(room)?, blank(room)?);
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = usize::try_from(batch.count).map_err(io::Error::other)?;
        for (key, value) in keys.iter().zip(&values).take(count) {
            each(*key, *value);
        }
        if is_last {
            return Ok(());
        }
        from = Some(next);
    }
}

fn blank<T: Pod>(count: u32) -> io::Result<Vec<T>> {
    // SAFETY: `Pod` says that any bytes are a value.
    let zero: T = unsafe { std::mem::zeroed() };
    let count = usize::try_from(count).map_err(io::Error::other)?;
    Ok(vec![zero; count])
}

/// Fills the buffers; `count` says how many entries were written.
fn lookup(batch: &mut Batch) -> io::Result<()> {
    let length = size_of::<Batch>();
    // SAFETY: the buffers have room for `count` entries of the map's shape, and they and the two numbers live until the
    // call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut *batch, length) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
