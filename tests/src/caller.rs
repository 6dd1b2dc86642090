//! A process of its own that makes calls when it is told to: which cgroup a socket belongs to is settled when its
//! process makes it, so threads of the test will not do.
//!
//! It reads a line and answers with one: `tcp ADDRESS`, `connect ADDRESS`, `peer`, `ask`, `open ADDRESS`,
//! `send ADDRESS`.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, UdpSocket},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    Cgroup, Namespace,
    client::{self, Connection},
};

/// The program to start: `CLUSTERIP_CALLER` where the machine is not the one that built it, else `built`.
#[must_use]
pub fn program(built: &str) -> OsString {
    env::var_os("CLUSTERIP_CALLER").unwrap_or_else(|| built.into())
}

/// What came of a TCP connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Called {
    /// The pod that answered.
    pub pod: String,
    /// The peer, as `getpeername` tells it.
    pub peer: SocketAddr,
}

/// A process in a network namespace and a cgroup. Killed when dropped.
#[derive(Debug)]
pub struct Caller {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Caller {
    /// Starts `program`, the binary `caller` of this crate. It dies with the calling thread.
    ///
    /// # Errors
    /// It could not be started, or not be put into the cgroup.
    pub fn start(
        program: impl AsRef<OsStr>,
        namespace: &Namespace,
        cgroup: &Cgroup,
    ) -> Result<Self> {
        Self::run(namespace.command(program), cgroup)
    }

    /// As [`Caller::start`], by a command that comes to [`serve`].
    ///
    /// # Errors
    /// As [`Caller::start`].
    pub(crate) fn run(mut command: Command, cgroup: &Cgroup) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the caller")?;
        let input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        let caller = Self {
            child,
            input,
            output,
        };
        // It makes no socket before it is asked to.
        cgroup
            .add(caller.child.id())
            .context("put the caller into the cgroup")?;
        Ok(caller)
    }

    /// One HTTP request on a TCP connection of its own.
    ///
    /// # Errors
    /// What the caller got.
    pub fn tcp(&mut self, to: SocketAddr) -> io::Result<Called> {
        let answer = self.tell(&format!("tcp {to}"))?;
        let (pod, peer) = pair(&answer)?;
        Ok(Called { pod, peer })
    }

    /// Makes a UDP socket that is connected, and keeps it: its peer as `getpeername` tells it.
    ///
    /// # Errors
    /// What the caller got.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<SocketAddr> {
        self.tell(&format!("connect {to}"))?
            .parse()
            .map_err(io::Error::other)
    }

    /// The peer of the socket it keeps, as `getpeername` tells it.
    ///
    /// # Errors
    /// What the caller got.
    pub fn peer(&mut self) -> io::Result<SocketAddr> {
        self.tell("peer")?.parse().map_err(io::Error::other)
    }

    /// Sends a datagram on the socket it keeps: the pod that answered.
    ///
    /// # Errors
    /// What the caller got.
    pub fn ask(&mut self) -> io::Result<String> {
        self.tell("ask")
    }

    /// Makes a UDP socket of the family of `like` that is not connected, and keeps it.
    ///
    /// # Errors
    /// What the caller got.
    pub fn open(&mut self, like: SocketAddr) -> io::Result<()> {
        self.tell(&format!("open {like}")).map(drop)
    }

    /// Sends a datagram to an address on the socket it keeps: the pod that answered, and the address of the answer.
    ///
    /// # Errors
    /// What the caller got.
    pub fn send(&mut self, to: SocketAddr) -> io::Result<(String, SocketAddr)> {
        pair(&self.tell(&format!("send {to}"))?)
    }

    /// Connects a UDP socket again and again: nanoseconds of one call.
    ///
    /// # Errors
    /// What the caller got.
    pub fn time(&mut self, count: u32, to: SocketAddr) -> io::Result<u64> {
        self.tell(&format!("time {count} {to}"))?
            .parse()
            .map_err(io::Error::other)
    }

    fn tell(&mut self, line: &str) -> io::Result<String> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        if self.output.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match answer.trim_end().split_once(' ') {
            Some(("ok", answer)) => Ok(answer.to_owned()),
            Some(("error", number)) => Err(io::Error::from_raw_os_error(
                number.parse().map_err(io::Error::other)?,
            )),
            _ => Err(io::Error::other(answer)),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn pair(answer: &str) -> io::Result<(String, SocketAddr)> {
    let (pod, address) = answer.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
    Ok((pod.to_owned(), address.parse().map_err(io::Error::other)?))
}

/// The process itself: answers until its input ends.
///
/// # Errors
/// Who started it is gone.
pub fn serve(input: impl io::BufRead, mut output: impl io::Write) -> io::Result<()> {
    let mut socket = None;
    for line in input.lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match carry_out(&words, &mut socket) {
            Ok(answer) => writeln!(output, "ok {answer}")?,
            Err(error) => match error.raw_os_error() {
                Some(number) => writeln!(output, "error {number}")?,
                None => writeln!(output, "failed: {error}")?,
            },
        }
        output.flush()?;
    }
    Ok(())
}

fn carry_out(words: &[&str], kept: &mut Option<UdpSocket>) -> io::Result<String> {
    let address = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
    let none = || io::Error::other("no socket is kept");
    match *words {
        ["tcp", to] => {
            let mut connection = Connection::open(address(to)?)?;
            let pod = connection.get()?.pod;
            Ok(format!("{pod} {}", connection.remote()?))
        }
        ["connect", to] => {
            let socket = client::udp_flow(address(to)?)?;
            let peer = socket.peer_addr()?;
            *kept = Some(socket);
            Ok(peer.to_string())
        }
        ["peer"] => {
            let socket = kept.as_ref().ok_or_else(none)?;
            Ok(socket.peer_addr()?.to_string())
        }
        ["ask"] => client::udp_ask(kept.as_ref().ok_or_else(none)?, "hello"),
        ["open", like] => {
            *kept = Some(client::udp(address(like)?.ip())?);
            Ok("done".to_owned())
        }
        ["send", to] => {
            let socket = kept.as_ref().ok_or_else(none)?;
            let (answer, from) = client::udp_ask_at(socket, address(to)?, "hello")?;
            let pod = answer.split(' ').next().unwrap_or_default();
            Ok(format!("{pod} {from}"))
        }
        ["time", count, to] => {
            let (count, to) = (
                count.parse::<u32>().map_err(io::Error::other)?,
                address(to)?,
            );
            let socket = client::udp(to.ip())?;
            let start = Instant::now();
            for _ in 0..count {
                socket.connect(to)?;
            }
            let time = start.elapsed().as_nanos() / u128::from(count.max(1));
            Ok(time.to_string())
        }
        _ => Err(io::Error::other("unknown command")),
    }
}
