//! The kernel, what this process may do, and the file systems it needs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clusterip_common::abi;

use super::{
    super::reach,
    Finding,
    netdev::{self, NetDevice},
};
use crate::{
    dataplane::{cgroup, pins::Pins},
    interfaces::Globs,
    kube_proxy::{Chain, Installed, ProgramError, Programs},
};

/// Lowest kernel, and the one that has TCX.
const OLDEST: (u32, u32) = (5, 15);
const TCX: (u32, u32) = (6, 6);

/// Capabilities that the agent needs, by the kernel's numbers.
const CAPABILITIES: [(u32, &str); 3] =
    [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// And where it announces a pool of addresses.
const RAW: (u32, &str) = (13, "CAP_NET_RAW");
/// It stands for `CAP_BPF` and `CAP_PERFMON`.
const SYS_ADMIN: u32 = 21;
/// The first of those.
const PERFMON: u32 = 38;

/// A machine: its files below a root, and the programs on it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    root: PathBuf,
    /// Its network devices.
    devices: Vec<NetDevice>,
    /// Whether programs may be run: not on a made-up machine.
    runs: bool,
}

impl Machine {
    /// The one this runs on.
    ///
    /// # Errors
    /// The kernel does not list its devices.
    pub(super) fn this() -> anyhow::Result<Self> {
        Ok(Self {
            root: "/".into(),
            devices: reach::run(netdev::devices())??,
            runs: true,
        })
    }

    /// One of files only.
    #[cfg(test)]
    pub(super) fn of_files(root: &Path, devices: &[NetDevice]) -> Self {
        Self {
            root: root.to_owned(),
            devices: devices.to_vec(),
            runs: false,
        }
    }

    /// Whether its programs may be run, and its kernel asked.
    pub(super) const fn runs(&self) -> bool {
        self.runs
    }

    /// A file's text, without the end of its last line.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// Whether a file is there and may be read.
    fn has(&self, path: &str) -> bool {
        fs::File::open(self.root.join(path.trim_start_matches('/'))).is_ok()
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path.trim_start_matches('/')));
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// What a program prints; None if it is not there or fails.
    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> Option<String> {
        self.run(program, arguments, "").ok()
    }

    /// The devices that match.
    pub(super) fn devices(&self, globs: &[String]) -> Vec<&NetDevice> {
        let globs = Globs::new(globs);
        let all = self.devices.iter();
        all.filter(|device| globs.fit(&device.name)).collect()
    }
}

impl Programs for Machine {
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ProgramError> {
        if self.runs {
            return Installed.run(program, arguments, input);
        }
        Err(ProgramError::Missing(program.to_owned()))
    }

    fn chains(&self) -> io::Result<Vec<Chain>> {
        if self.runs {
            return Installed.chains();
        }
        Ok(Vec::new())
    }
}

/// `announces`: whether the agent is to announce a pool of addresses.
pub(super) fn findings(machine: &Machine, bpffs: &Path, announces: bool) -> Vec<Finding> {
    let mut findings = vec![
        kernel(
            &machine
                .read("/proc/sys/kernel/osrelease")
                .unwrap_or_default(),
        ),
        features(machine),
        jit(machine.read("/proc/sys/net/core/bpf_jit_enable").as_deref()),
        capabilities(
            &machine.read("/proc/self/status").unwrap_or_default(),
            announces,
        ),
        match Pins::new(bpffs).check_bpffs() {
            Ok(()) => Finding::good("bpffs", format!("{} is on one", bpffs.display())),
            Err(error) => Finding::bad(
                "bpffs",
                format!("{} is not on one", bpffs.display()),
                error.to_string(),
            ),
        },
    ];
    findings.push(match cgroup::root() {
        Some(path) => Finding::good("cgroup2", format!("mounted at {}", path.display())),
        None => Finding::bad(
            "cgroup2",
            "not mounted",
            "processes of the node itself will not reach services: mount -t cgroup2 none /sys/fs/cgroup, or --socket-lb off",
        ),
    });
    findings.push(pins(&machine.list(&bpffs.display().to_string()), bpffs));
    findings
}

/// Major and minor of `6.12.1-amd64`.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn kernel(release: &str) -> Finding {
    match number(release) {
        Some(found) if found >= TCX => {
            Finding::good("kernel", format!("{release}: programs attach by TCX links"))
        }
        Some(found) if found >= OLDEST => Finding::good(
            "kernel",
            format!("{release}: programs attach by filters of a clsact qdisc (TCX from 6.6 on)"),
        ),
        _ => Finding::bad(
            "kernel",
            format!("{release} is too old"),
            "the agent needs 5.15 or newer",
        ),
    }
}

/// What the version does not tell.
fn features(machine: &Machine) -> Finding {
    let check = "features";
    let is_there = |path: &str| machine.has(path);
    if !is_there("/proc/sys/kernel/unprivileged_bpf_disabled") {
        return Finding::bad(
            check,
            "this kernel has no bpf(2)",
            "it was built without CONFIG_BPF_SYSCALL: take a kernel of a distribution",
        );
    }
    if is_there("/sys/kernel/btf/vmlinux") {
        Finding::good(check, "bpf(2), and the kernel tells its types")
    } else {
        Finding::good(
            check,
            "bpf(2); the kernel does not tell its types, so newer helpers are not used",
        )
    }
}

fn jit(setting: Option<&str>) -> Finding {
    match setting {
        Some("0") => Finding::bad(
            "jit",
            "programs are interpreted: ten times slower",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        _ => Finding::good("jit", "programs are compiled"),
    }
}

pub(super) fn capabilities(status: &str, announces: bool) -> Finding {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let bits = bits.unwrap_or_default();
    let has = |number: u32| bits & (1 << number) != 0;
    let missing: Vec<&str> = CAPABILITIES
        .into_iter()
        .chain(announces.then_some(RAW))
        .filter(|(number, _)| !(has(*number) || has(SYS_ADMIN) && *number >= PERFMON))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        let found = if announces {
            "CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON are there"
        } else {
            "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are there"
        };
        return Finding::good("capabilities", found);
    }
    Finding::bad(
        "capabilities",
        format!("missing: {}", missing.join(", ")),
        "run the agent as root, or give it these (AmbientCapabilities= of systemd, capabilities.add of a pod)",
    )
}

/// Pins of another layout.
pub(super) fn pins(names: &[String], bpffs: &Path) -> Finding {
    let own = format!("v{}", abi::VERSION);
    let others: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| *name != own)
        .collect();
    if others.is_empty() {
        let found = if names.is_empty() {
            "nothing is pinned yet"
        } else {
            "pins are of this version's layout"
        };
        return Finding::good("pins", found);
    }
    Finding::bad(
        "pins",
        format!(
            "{} has pins of other layouts: {} (this one is {own})",
            bpffs.display(),
            others.join(", ")
        ),
        "their programs still translate: stop that agent, then `clusterip cleanup` (flows end)",
    )
}
