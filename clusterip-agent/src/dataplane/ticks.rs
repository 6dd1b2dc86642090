//! The kernel's cheap clock: programs read the count of ticks, which the kernel puts into them as one load, where a call for the
//! time would take a twelfth of an established packet's. What a tick is, and where their count began, the agent finds out.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use clusterip_common::abi::settings::Clock;
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::links::{bpf, raw};

/// Commands and a type of `enum bpf_cmd` and `enum bpf_prog_type`.
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const SCHED_CLS: u32 = 3;
/// `bpf_jiffies64`.
const JIFFIES: i32 = 118;
/// The least that may be test-run: an Ethernet header.
const FRAME: [u8; 14] = [0; 14];
/// Readings of a pair of clocks until none of them has moved meanwhile.
const TRIES: u8 = 100;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

/// The same for `BPF_PROG_TEST_RUN`.
#[repr(C)]
struct Run {
    program: u32,
    result: u32,
    input_size: u32,
    output_size: u32,
    input: u64,
    output: u64,
    repeat: u32,
    duration: u32,
}

/// `struct bpf_insn`, with no other register than r0.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

impl Instruction {
    const fn new(code: u8, number: i32) -> Self {
        Self {
            code,
            registers: 0,
            offset: 0,
            number,
        }
    }
}

/// How ticks become time; the slow clock where that cannot be found out.
pub(super) fn clock() -> Clock {
    calibrate().unwrap_or_else(|error| {
        log::warn!(error:err; "the kernel's ticks cannot be read: programs ask for the time instead");
        Clock::SLOW
    })
}

fn calibrate() -> io::Result<Clock> {
    let tick = nanoseconds(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?);
    let (low, high) = (counter(0)?, counter(32)?);
    for _ in 0..TRIES {
        let before = coarse()?;
        let (upper, lower) = (run(&high)?, run(&low)?);
        if run(&high)? != upper || coarse()? != before {
            continue;
        }
        let ticks = u64::from(upper) << 32 | u64::from(lower);
        return Ok(Clock {
            tick,
            start: before.wrapping_sub(ticks.wrapping_mul(tick)),
        });
    }
    Err(io::Error::other("the clock never stands still"))
}

/// The clock that flows are stamped with, as it was at the last tick.
fn coarse() -> io::Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?))
}

fn nanoseconds(time: nix::sys::time::TimeSpec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(time.tv_sec()) * 1_000_000_000 + part(time.tv_nsec())
}

/// A program that answers 32 bits of the count of ticks, from `shift` on.
fn counter(shift: i32) -> io::Result<OwnedFd> {
    let instructions = [
        Instruction::new(0x85, JIFFIES), // call
        Instruction::new(0x77, shift),   // r0 >>= shift
        Instruction::new(0x95, 0),       // exit
    ];
    let mut load = Load {
        kind: SCHED_CLS,
        count: 3,
        instructions: instructions.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
    };
    let program = bpf(PROG_LOAD, &mut load)?;
    let program = i32::try_from(program).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

fn run(program: &OwnedFd) -> io::Result<u32> {
    let mut run = Run {
        program: raw(program.as_raw_fd())?,
        result: 0,
        input_size: 14,
        output_size: 0,
        input: FRAME.as_ptr().addr() as u64,
        output: 0,
        repeat: 1,
        duration: 0,
    };
    bpf(PROG_TEST_RUN, &mut run)?;
    Ok(run.result)
}
