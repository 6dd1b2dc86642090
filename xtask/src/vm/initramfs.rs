//! The root file system of the virtual machine: an archive that the kernel unpacks into memory.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive in the "newc" format of cpio (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).
pub(crate) struct Initramfs<W> {
    output: W,
    written: usize,
    number: usize,
    seen: BTreeSet<PathBuf>,
}

impl Initramfs<BufWriter<File>> {
    /// An empty one in a file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self::new(BufWriter::new(file)))
    }
}

impl<W: Write> Initramfs<W> {
    const fn new(output: W) -> Self {
        Self {
            output,
            written: 0,
            number: 0,
            seen: BTreeSet::new(),
        }
    }

    /// Adds a folder, and those it is in.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        let path = Path::new(path);
        let mut folders: Vec<_> = path
            .ancestors()
            .filter(|folder| folder.file_name().is_some())
            .collect();
        folders.reverse();
        for folder in folders {
            if self.seen.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let folder = Path::new(path)
            .parent()
            .and_then(Path::to_str)
            .unwrap_or_default();
        self.folder(folder)?;
        if self.seen.insert(path.into()) {
            self.entry(Path::new(path), PROGRAM, bytes)?;
        }
        Ok(())
    }

    /// Adds a program of this machine, and the libraries it is linked with.
    ///
    /// # Errors
    /// When the program or a library cannot be read, or the archive cannot be written.
    pub(crate) fn program(&mut self, path: &str, program: &Path) -> anyhow::Result<()> {
        let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
        self.file(path, &read(program)?)?;
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .context("start ldd")?;
        ensure!(
            output.status.success(),
            "ldd {}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.file(library, &read(Path::new(library))?)?;
        }
        Ok(())
    }

    /// Writes the archive's end.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn finish(mut self) -> anyhow::Result<W> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        self.output.flush().context("write the archive")?;
        Ok(self.output)
    }

    fn entry(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        // Relative to the root.
        let name = path.strip_prefix("/").unwrap_or(path).display().to_string();
        self.number += 1;
        let (links, named) = (1, name.len() + 1);
        // The fields: inode, mode, owner, group, links, time, size, device and special device by two numbers each, length of the
        // name, checksum.
        let mut header = format!("070701{:08x}{mode:08x}{:08x}{:08x}", self.number, 0, 0);
        for field in [links, 0, bytes.len(), 0, 0, 0, 0, named, 0] {
            write!(header, "{field:08x}")?;
        }
        self.write(header.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.align()?;
        self.write(bytes)?;
        self.align()
    }

    /// Headers and contents begin at multiples of four.
    fn align(&mut self) -> anyhow::Result<()> {
        while !self.written.is_multiple_of(4) {
            self.write(&[0])?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.written += bytes.len();
        self.output.write_all(bytes).context("write the archive")
    }
}

/// The paths in what `ldd` prints: of a library that was found, and of the loader. The kernel's own library has none.
fn libraries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.rsplit("=> ").next()?.trim();
        let (path, _address) = line.split_once(" (")?;
        path.starts_with('/').then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_as_the_kernel_reads_it() {
        let mut archive = Initramfs::new(Vec::new());
        archive.file("/vm/a", b"hello").unwrap();
        archive.file("/vm/a", b"again").unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        let zero = "00000000";
        let folder = format!(
            "07070100000001000041ed{zero}{zero}00000001{zero}{zero}{zero}{zero}{zero}{zero}00000003{zero}vm\0\0\0\0"
        );
        assert!(text.starts_with(&folder), "{text:?}");
        let rest = text.get(folder.len()..).unwrap();
        assert!(rest.starts_with("07070100000002000081ed"), "{rest:?}");
        assert!(
            rest.contains("0000000500000000vm/a\0\0hello\0\0\x00070701"),
            "{rest:?}"
        );
        assert!(
            rest.trim_end_matches('\0').ends_with("TRAILER!!!"),
            "{rest:?}"
        );
        assert!(!text.contains("again"));
    }

    #[test]
    fn libraries_are_read_as_ldd_prints_them() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd5d3f2000)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 \
                    (0x00007f3c4a000000)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f3c4a4f5000)\n\tstatically linked\n";
        assert_eq!(
            libraries(text).collect::<Vec<_>>(),
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
    }
}
