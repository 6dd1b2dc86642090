//! Starting other programs, and with which rights.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, IsTerminal as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

/// Runs a command in view of the user.
///
/// # Errors
/// When it cannot be started or does not exit with 0; the command line is in the message.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// The command as one would type it: a program by its name, not by the path it was found at.
pub(crate) fn line(command: &Command) -> String {
    let program = command.get_program();
    let mut words = vec![Path::new(program).file_name().unwrap_or(program)];
    words.extend(command.get_args());
    words
        .into_iter()
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// This workspace's cargo.
pub(crate) fn cargo(workspace: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo
}

/// Whether a program of this name is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // A user's path often lacks these two, where `ip` is.
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).exists())
}

/// Whether nobody is there to read a SKIP: a part that cannot run is a failure then.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Whether this process belongs to root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// How a program that needs the kernel's rights is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Privilege {
    /// As it is: this process has them.
    Own,
    /// Through sudo.
    Sudo,
}

impl Privilege {
    /// The rights to load programs, make namespaces and mount: this process's own, or those sudo gives.
    ///
    /// # Errors
    /// Says what is missing.
    pub(crate) fn obtain() -> Result<Self, &'static str> {
        if has_capabilities() {
            Ok(Self::Own)
        } else if is_root() {
            Err("root here lacks CAP_BPF, CAP_NET_ADMIN or CAP_SYS_ADMIN (a container?)")
        } else if sudo_works() {
            Ok(Self::Sudo)
        } else {
            Err("not root, and sudo is missing or would ask for a password that nobody can type")
        }
    }

    /// A command with these rights.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Own => Command::new(program),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.arg("-E").arg(program);
                sudo
            }
        }
    }

    /// Cargo arguments that build as this user and start what was built with these rights.
    pub(crate) const fn runner(self) -> &'static [&'static str] {
        match self {
            Self::Own => &[],
            Self::Sudo => &["--config", "target.'cfg(all())'.runner=['sudo','-E']"],
        }
    }
}

/// Asks for a password at most once, at the terminal; sudo remembers it.
fn sudo_works() -> bool {
    let ask = |argument: &str, errors: Stdio| {
        let mut sudo = Command::new("sudo");
        sudo.args([argument, "true"]).stderr(errors);
        sudo.status().is_ok_and(|status| status.success())
    };
    on_path("sudo")
        && (ask("-n", Stdio::null()) || (io::stdin().is_terminal() && ask("-E", Stdio::inherit())))
}

fn has_capabilities() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const BPF: u64 = 1 << 39;
    let needed = NET_ADMIN | SYS_ADMIN | BPF;
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| effective(&status))
        .is_some_and(|capabilities| capabilities & needed == needed)
}

fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read_as_the_kernel_writes_them() {
        let status = "Name:\txtask\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\txtask\n"), None);
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        assert_eq!(
            line(Command::new("/usr/sbin/ip").args(["link", "show"])),
            "ip link show"
        );
    }
}
