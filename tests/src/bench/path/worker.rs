//! The process that sends and receives: one thread, pinned to one processor, has both ends.
//!
//! What a packet costs on its way is spent in the sender's call, since a veth hands it on in a soft interrupt of the same
//! processor. With both ends in one thread nothing has to be woken, and what is measured is the way.
//!
//! It is a process of its own because a socket belongs to the cgroup of the process that makes it. It reads a line and answers
//! with one.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{
    services::Services,
    traffic::{Ends, Load},
};
use crate::{Cgroup, Namespace, Pod};

/// The client's further addresses.
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 1);

/// One of them.
pub(super) fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_CLIENT.to_bits() + u32::from(number))
}

/// How many processors there are.
pub(super) fn processors() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The arguments of the process.
#[derive(Args, Clone, Debug)]
pub struct WorkerArguments {
    /// The network namespace of the pod that is called
    #[arg(long)]
    pod: PathBuf,
    /// How many services there are; 0 calls the pod itself
    #[arg(long)]
    services: u32,
}

/// A handle of the process. Killed when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one in the client, in a cgroup if there is one.
    ///
    /// # Errors
    /// It could not be started.
    pub(super) fn start(
        program: &Path,
        client: &Pod,
        pod: &Pod,
        cgroup: Option<&Cgroup>,
        services: Services,
    ) -> Result<Self> {
        let mut command = client.namespace().command(program);
        command
            .arg("worker")
            .arg("--pod")
            .arg(pod.netns())
            .args(["--services", &services.0.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("start the worker")?;
        let input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        let worker = Self {
            child,
            input,
            output,
        };
        if let Some(cgroup) = cgroup {
            // It makes no socket before it is asked to.
            cgroup
                .add(worker.child.id())
                .context("put the worker into the cgroup")?;
        }
        Ok(worker)
    }

    /// One request by TCP and one by UDP: where they arrived, as the pod saw it, and whom the client thinks it spoke with.
    ///
    /// # Errors
    /// One did not come through.
    pub(super) fn check(&mut self) -> Result<String> {
        self.tell("check")
    }

    /// Things done in a second.
    ///
    /// # Errors
    /// Something was lost.
    pub(super) fn rate(&mut self, load: Load, time: Duration) -> Result<f64> {
        let answer = self.tell(&format!("{} {}", load.word(), time.as_millis()))?;
        answer.parse().with_context(|| format!("answer {answer:?}"))
    }

    /// Nanoseconds from a SYN until its answer was there, of so many connections.
    ///
    /// # Errors
    /// One was not answered.
    pub(super) fn first(&mut self, count: u32) -> Result<Vec<f64>> {
        let answer = self.tell(&format!("first {count}"))?;
        let numbers = answer.split(' ').map(str::parse);
        let numbers: Result<Vec<f64>, _> = numbers.collect();
        numbers.with_context(|| format!("answer {answer:?}"))
    }

    fn tell(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}").context("speak with the worker")?;
        let mut answer = String::new();
        self.output
            .read_line(&mut answer)
            .context("listen to the worker")?;
        match answer.trim_end().split_once(' ') {
            Some(("ok", answer)) => Ok(answer.to_owned()),
            Some(("failed", why)) => bail!("{line}: {why}"),
            _ => bail!("{line}: the worker ended"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The process itself: answers until its input ends.
///
/// # Errors
/// Who started it is gone, or the sockets could not be made.
pub fn serve(arguments: &WorkerArguments) -> Result<()> {
    pin_to_last().context("keep to one processor")?;
    let pod = File::open(&arguments.pod).context("open the pod's namespace")?;
    let pod = Namespace::of(pod);
    let mut ends: Option<Ends> = None;
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        // Not before the first line: by then this process is in its cgroup.
        let answer = match &mut ends {
            Some(ends) => ends.carry_out(&line),
            none => Ends::open(&pod, Services(arguments.services))
                .and_then(|opened| none.insert(opened).carry_out(&line)),
        };
        match answer {
            Ok(answer) => writeln!(output, "ok {answer}")?,
            Err(error) => writeln!(output, "failed {error}")?,
        }
        output.flush()?;
    }
    Ok(())
}

/// The last processor: interrupts and the agent are elsewhere, where there is a second one.
pub(in crate::bench) fn pin_to_last() -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(processors().saturating_sub(1))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}
