//! Whether a file is still being written.

use std::{fs::File, io, os::fd::AsRawFd as _};

use libc::{EAGAIN, F_RDLCK, F_SETLEASE, F_UNLCK, SIGURG, c_int};

/// Which signal tells of a lease that is broken: asm-generic/fcntl.h.
const F_SETSIG: c_int = 10;

/// Whether somebody has a file open for writing that is open for reading here: the kernel gives a lease to readers only where
/// nobody has (fcntl(2), `F_SETLEASE`). False where it does not tell: of another user's file without `CAP_LEASE`, and on a
/// file system without leases.
pub(super) fn is_being_written(file: &File) -> bool {
    // Who opens the file for writing meanwhile waits for the end of the lease, and its holder is sent a signal: one that does
    // nothing, since the usual one would end the process.
    if control(file, F_SETSIG, SIGURG).is_err() {
        return false;
    }
    match control(file, F_SETLEASE, F_RDLCK) {
        Ok(()) => {
            // It ends with the file at the latest.
            drop(control(file, F_SETLEASE, F_UNLCK));
            false
        }
        Err(error) => error.raw_os_error() == Some(EAGAIN),
    }
}

fn control(file: &File, command: c_int, argument: c_int) -> io::Result<()> {
    // SAFETY: these commands take a number, and touch no memory.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_being_written_as_long_as_somebody_has_it_open_for_that() {
        let writer = tempfile::NamedTempFile::new().expect("a file");
        let reader = File::open(writer.path()).expect("the same file");
        assert!(is_being_written(&reader));
        let path = writer.into_temp_path();
        assert!(!is_being_written(&reader));
        // Other readers are no writers, and nothing is left that a writer would have to wait for.
        let other = File::open(&path).expect("the same file");
        assert!(!is_being_written(&reader) && !is_being_written(&other));
        let writer = File::options()
            .append(true)
            .open(&path)
            .expect("the same file");
        assert!(is_being_written(&reader));
        drop(writer);
        assert!(!is_being_written(&reader));
    }
}
