//! From the object in this binary to programs and maps in the kernel.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{
    features::ipv6_checksum_flag,
    footprint::footprint,
    pins::{PinError, Pins},
    raw::Raw,
    swap,
    takeover::{Takeover, TakeoverError},
    ticks,
};
use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapData, MapError},
    programs::{CgroupSockAddr, Program, ProgramError, ProgramInfo, SchedClassifier, Xdp},
    util::KernelVersion,
};
use clusterip_common::abi::{Settings, maps, maps::Shape};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/clusterip"));

/// The oldest kernel with every helper in use.
const OLDEST_KERNEL: (u8, u8, u16) = (5, 15, 0);

/// A call may be refused with an error of the program's own (`bpf_set_retval`) from this kernel on (v6.1, bed89185af0d).
const REFUSING: KernelVersion = KernelVersion::new(6, 1, 0);

/// The hooks on devices, by the names of their programs.
pub const PROGRAMS: [&str; 7] = [
    FROM_POD,
    TO_POD,
    FROM_POD_IP,
    TO_POD_IP,
    FROM_UPLINK,
    FROM_UPLINK_IP,
    UPLINK_XDP,
];
/// Those of them that the kernel is asked to verify, which takes its time, when the first device needs them.
const ON_DEMAND: [&str; 4] = [FROM_POD_IP, TO_POD_IP, FROM_UPLINK, FROM_UPLINK_IP];
/// The hooks on sockets. What gives the service address back comes before what takes it away.
pub const SOCKET_PROGRAMS: [&str; 8] = [
    "cip_recvmsg4",
    "cip_recvmsg6",
    "cip_peername4",
    "cip_peername6",
    "cip_sendmsg4",
    "cip_sendmsg6",
    "cip_connect4",
    "cip_connect6",
];
/// What a pod sends.
pub const FROM_POD: &str = "cip_from_pod";
/// What a pod receives.
pub const TO_POD: &str = "cip_to_pod";
/// What a pod sends, at a device whose frames begin with the IP header.
pub const FROM_POD_IP: &str = "cip_from_pod_ip";
/// What a pod receives, at such a device.
pub const TO_POD_IP: &str = "cip_to_pod_ip";
/// What comes in by an uplink.
pub const FROM_UPLINK: &str = "cip_from_uplink";
/// What comes in by an uplink whose frames begin with the IP header.
pub const FROM_UPLINK_IP: &str = "cip_uplink_ip";
/// What comes in by an uplink, at its driver.
pub const UPLINK_XDP: &str = "cip_uplink_xdp";
/// What the bench measures against; the agent leaves it out of the kernel.
pub const REFERENCE: &str = "cip_reference";
/// The same at drivers: a flow's translation and a turn, the turn alone, the other end of the wire, and a client's device.
pub const DRIVER_REFERENCES: [&str; 4] = [
    "cip_xdp_service",
    "cip_xdp_turn",
    "cip_xdp_sink",
    "cip_xdp_source",
];

/// Why the program is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel is too old.
    #[error("the kernel is {found}, and {}.{} is the oldest that will do", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    Kernel {
        /// Version.
        found: String,
    },
    /// Not allowed.
    #[error(
        "loading BPF programs is not permitted; run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON"
    )]
    Privileges,
    /// A pin.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Maps of another size or layout.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The object or a map.
    #[error("load the eBPF object")]
    Object(#[source] Box<EbpfError>),
    /// A program.
    #[error("load program {program}{}", remedy(program))]
    Program {
        /// Which.
        program: &'static str,
        /// Why; a refusal of the verifier has its log.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map that the object does not have, or of another type.
    #[error("map {map} of the eBPF object")]
    Map {
        /// Which.
        map: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
}

fn remedy(program: &str) -> &'static str {
    if SOCKET_PROGRAMS.contains(&program) {
        "; --socket-lb off does without it"
    } else {
        ""
    }
}

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to pin; None for tests that leave nothing behind.
    pub pins: Option<Pins>,
    /// `--max-services`
    pub max_services: u32,
    /// `--max-backends`
    pub max_backends: u32,
    /// `--max-flows`, entries
    pub max_flows: u32,
    /// Settings; what depends on the kernel is filled in here.
    pub settings: Settings,
    /// Whether the programs at the sockets are loaded too.
    pub sockets: bool,
    /// Whether the programs of uplinks are loaded too.
    pub uplinks: bool,
    /// Whether the program at the drivers of uplinks is loaded too.
    pub drivers: bool,
    /// Level of the program's own diagnostics, as aya-log numbers them; 0 is off and costs nothing.
    pub log_level: u8,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            pins: None,
            max_services: maps::capacity::SERVICES,
            max_backends: maps::capacity::BACKENDS,
            max_flows: maps::capacity::FLOWS,
            settings: Settings::DEFAULT,
            sockets: true,
            uplinks: true,
            drivers: true,
            log_level: 0,
        }
    }
}

impl LoadOptions {
    /// Whether a program is to be loaded.
    fn wants(&self, program: &str) -> bool {
        match program {
            FROM_UPLINK | FROM_UPLINK_IP => self.uplinks,
            UPLINK_XDP => self.uplinks && self.drivers,
            _ => self.sockets || !SOCKET_PROGRAMS.contains(&program),
        }
    }

    fn entries(&self, shape: &Shape) -> u32 {
        match shape.name {
            name if name == maps::SLOTS.name => self.max_backends.saturating_mul(2),
            name if name == maps::BACKENDS.name
                || name == maps::BACKEND_COUNTERS.name
                || name == maps::LIVE_FLOWS.name =>
            {
                self.max_backends
            }
            name if name == maps::FLOWS.name => self.max_flows,
            // A quarter: they live for a minute at the most.
            name if name == maps::HALF_OPEN.name => (self.max_flows / 4).max(1),
            name if name == maps::SERVICES.name
                || name == maps::CURSORS.name
                || name == maps::SERVICE_COUNTERS.name =>
            {
                self.max_services
            }
            _ => shape.entries,
        }
    }
}

/// Programs and maps in the kernel, attached to nothing yet.
pub struct Loaded {
    ebpf: Ebpf,
    capacity: Vec<(&'static str, u32)>,
}

/// Loads maps (pinned ones are taken over) and programs.
///
/// # Errors
/// What is missing and how to get it.
pub fn load(options: &LoadOptions) -> Result<Loaded, LoadError> {
    check_kernel()?;
    let mut loader = EbpfLoader::new();
    let mut sizes = maps::ALL.map(|shape| (shape, options.entries(&shape)));
    let pins = options.pins.as_ref();
    let takeover = pins.map(|pins| Takeover::begin(pins, &mut sizes));
    let takeover = takeover.transpose()?;
    for (shape, entries) in &sizes {
        loader.map_max_entries(shape.name, *entries);
        if let Some(takeover) = &takeover {
            loader.map_pin_path(shape.name, takeover.place(shape));
        }
    }
    let mut settings = options.settings;
    settings.ipv6_checksum_flag = ipv6_checksum_flag();
    settings.clock = ticks::clock();
    settings.socket_refuses = at_least(REFUSING).into();
    let settings = Raw(settings);
    loader.override_global("SETTINGS", &settings, true);
    loader.override_global(aya_log::LEVEL, &options.log_level, false);
    let result = load_programs(&mut loader, options);
    let mut ebpf = result.inspect_err(|_| {
        if let Some(takeover) = &takeover {
            takeover.abandon();
        }
    })?;
    if let (Some(pins), Some(takeover)) = (pins, takeover.filter(Takeover::is_needed)) {
        for name in takeover.attached()? {
            // Now, since it takes its time, and not between the copy and the replacement.
            if let Err(error) = load_on_demand(&mut ebpf, &name) {
                takeover.abandon();
                return Err(LoadError::Object(Box::new(error.into())));
            }
        }
        takeover.replace()?;
        swap::programs(&mut ebpf, pins)?;
        takeover.finish()?;
    }
    let capacity = sizes
        .iter()
        .map(|(shape, entries)| (shape.name, *entries))
        .collect();
    Ok(Loaded { ebpf, capacity })
}

fn load_programs(loader: &mut EbpfLoader<'_>, options: &LoadOptions) -> Result<Ebpf, LoadError> {
    let mut ebpf = loader.load(OBJECT).map_err(object_error)?;
    let all = PROGRAMS.iter().chain(&SOCKET_PROGRAMS);
    for name in all.filter(|name| options.wants(name) && !ON_DEMAND.contains(name)) {
        let result = match ebpf.program_mut(name) {
            Some(Program::SchedClassifier(program)) => program.load(),
            Some(Program::Xdp(program)) => program.load(),
            Some(Program::CgroupSockAddr(program)) => program.load(),
            _ => Err(ProgramError::NotLoaded),
        };
        result.map_err(|source| program_error(name, source))?;
    }
    Ok(ebpf)
}

impl Loaded {
    /// Takes a map.
    pub(super) fn map<T>(&mut self, shape: &Shape) -> Result<T, LoadError>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        self.map_named(shape.name)
    }

    /// Takes a map that is of this load alone.
    pub(super) fn map_named<T>(&mut self, map: &'static str) -> Result<T, LoadError>
    where
        T: TryFrom<Map, Error = MapError>,
    {
        let fail = |source| LoadError::Map {
            map,
            source: Box::new(source),
        };
        let map = self.ebpf.take_map(map).ok_or_else(|| {
            fail(MapError::InvalidName {
                name: map.to_owned(),
            })
        })?;
        T::try_from(map).map_err(fail)
    }

    /// Another descriptor of a map that nobody took yet.
    pub(super) fn descriptor(&self, shape: &Shape) -> Result<OwnedFd, LoadError> {
        let fail = |source| LoadError::Map {
            map: shape.name,
            source: Box::new(source),
        };
        let Some(Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data)) =
            self.ebpf.map(shape.name)
        else {
            return Err(fail(MapError::InvalidName {
                name: shape.name.to_owned(),
            }));
        };
        let copy = data.fd().as_fd().try_clone_to_owned();
        copy.map_err(|error| fail(MapError::IoError(error)))
    }

    /// How many entries each map has room for.
    #[must_use]
    pub fn capacity(&self) -> &[(&'static str, u32)] {
        &self.capacity
    }

    /// Bytes of the kernel's memory by map, of those that nobody took yet.
    #[must_use]
    pub fn footprint(&self) -> BTreeMap<&'static str, u64> {
        footprint(&self.ebpf)
    }

    /// The object; its maps that nobody took are still in it.
    #[must_use]
    pub const fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The program of a hook on devices.
    ///
    /// # Errors
    /// There is no such program, or the kernel refuses it now that it is wanted.
    pub fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, LoadError> {
        load_on_demand(&mut self.ebpf, name).map_err(|source| program_error(name, source))?;
        self.find(name)
    }

    /// The program of a hook at a driver.
    ///
    /// # Errors
    /// There is no such program.
    pub fn driver_program(&mut self, name: &'static str) -> Result<&mut Xdp, LoadError> {
        self.find(name)
    }

    /// The program of a hook on sockets.
    ///
    /// # Errors
    /// There is no such program.
    pub fn socket_program(&mut self, name: &'static str) -> Result<&mut CgroupSockAddr, LoadError> {
        self.find(name)
    }

    fn find<'a, P>(&'a mut self, name: &'static str) -> Result<P, LoadError>
    where
        P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let fail = |source: ProgramError| program_error(name, source);
        self.ebpf
            .program_mut(name)
            .ok_or_else(|| fail(ProgramError::NotLoaded))?
            .try_into()
            .map_err(fail)
    }

    /// What the kernel says of a program, whichever its type is.
    ///
    /// # Errors
    /// There is no such program, or it is not loaded.
    pub fn info(&self, name: &'static str) -> Result<ProgramInfo, LoadError> {
        let info = match self.ebpf.program(name) {
            Some(Program::SchedClassifier(program)) => program.info(),
            Some(Program::Xdp(program)) => program.info(),
            Some(Program::CgroupSockAddr(program)) => program.info(),
            _ => Err(ProgramError::NotLoaded),
        };
        info.map_err(|source| program_error(name, source))
    }
}

/// Loads a program that was left for later; does nothing for any other.
pub(super) fn load_on_demand(ebpf: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    match ebpf.program_mut(name) {
        Some(Program::SchedClassifier(program))
            if ON_DEMAND.contains(&name) && program.fd().is_err() =>
        {
            program.load()
        }
        _ => Ok(()),
    }
}

/// What a map of this crate is made of.
pub(super) type Data = MapData;

fn check_kernel() -> Result<(), LoadError> {
    let (major, minor, patch) = OLDEST_KERNEL;
    if at_least(KernelVersion::new(major, minor, patch)) {
        return Ok(());
    }
    let found = KernelVersion::current().map_or_else(
        |_error| "of an unknown version".to_owned(),
        |version| format!("{version:?}"),
    );
    Err(LoadError::Kernel { found })
}

/// Whether the running kernel is `wanted` or newer. One that does not say is tried.
pub(super) fn at_least(wanted: KernelVersion) -> bool {
    KernelVersion::current().map_or(true, |found| found >= wanted)
}

/// Whether this kernel attaches TC programs by links.
pub(super) fn has_tcx() -> bool {
    at_least(KernelVersion::new(6, 6, 0))
}

fn object_error(error: EbpfError) -> LoadError {
    match &error {
        EbpfError::MapError(
            MapError::CreateError { io_error, .. }
            | MapError::SyscallError(aya::sys::SyscallError { io_error, .. }),
        ) if denied(io_error) => LoadError::Privileges,
        _ => LoadError::Object(Box::new(error)),
    }
}

fn program_error(program: &'static str, error: ProgramError) -> LoadError {
    match &error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } if denied(io_error) && verifier_log.to_string().is_empty() => LoadError::Privileges,
        _ => LoadError::Program {
            program,
            source: Box::new(error),
        },
    }
}

fn denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
