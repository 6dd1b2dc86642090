//! What is sent, with both ends in one thread.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, bind, connect, sendmmsg,
    setsockopt, socket, sockopt,
};

use super::{
    clock::Clock,
    services::{CLIENTS, POD, Services, TCP_TARGET, UDP_TARGET},
    worker::client,
};
use crate::Namespace;

/// Bytes of a datagram, which make a frame of 64.
const DATAGRAM: usize = 22;
/// Datagrams of one call.
const BATCH: usize = 64;
/// Datagrams that are on their way before they are read.
const BURST: usize = 4 * BATCH;
/// Room for a burst, and for the kernel's account of it.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes of a request and of its answer.
const REQUEST: usize = 64;
/// Bytes that are written at once in bulk.
const CHUNK: usize = 128 << 10;
/// Requests between two looks at the clock.
const BETWEEN: u32 = 8;
/// Ports of the client.
const PORTS: std::ops::Range<u16> = 10_000..60_000;
/// Trials of the clocks, each as short as one burst: the rest of the machine does not come between in all of them.
const TRIALS: usize = 40;
const TRIAL: Duration = Duration::from_nanos(1);
/// What does not arrive within this is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// Datagrams one way.
    Datagrams,
    /// A request and its answer on a connection that stays.
    Requests,
    /// A connection for each request.
    Connections,
    /// As many bytes as go through.
    Bulk,
}

impl Load {
    pub(super) const ALL: [Self; 4] = [
        Self::Datagrams,
        Self::Requests,
        Self::Connections,
        Self::Bulk,
    ];

    /// In the language of the worker, and in names of files.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Datagrams => "udp",
            Self::Requests => "request",
            Self::Connections => "connect",
            Self::Bulk => "bulk",
        }
    }

    /// In words.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Datagrams => "UDP, frames of 64 bytes one way",
            Self::Requests => "TCP, request and answer of 64 bytes",
            Self::Connections => "TCP, connect, request, answer, close",
            Self::Bulk => "TCP, bulk",
        }
    }

    /// Of its rate.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Datagrams => "packets/s",
            Self::Requests => "requests/s",
            Self::Connections => "connections/s",
            Self::Bulk => "bytes/s",
        }
    }
}

/// Both ends.
pub(super) struct Ends {
    services: Services,
    targets: Vec<SocketAddr>,
    /// The pod's sockets.
    listener: TcpListener,
    receiver: UdpSocket,
    /// The client's, once they are wanted.
    sender: Option<UdpSocket>,
    kept: Option<(TcpStream, TcpStream)>,
    /// Counts connections: the client's address and port, and the target.
    turn: usize,
    clock: Option<Clock>,
}

impl Ends {
    /// Opens the pod's.
    pub(super) fn open(pod: &Namespace, services: Services) -> io::Result<Self> {
        let (listener, receiver) = pod.run(|| {
            let listener = TcpListener::bind((POD, TCP_TARGET))?;
            let receiver = UdpSocket::bind((POD, UDP_TARGET))?;
            setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            Ok((listener, receiver))
        })?;
        receiver.set_nonblocking(true)?;
        Ok(Self {
            services,
            targets: services.targets(),
            listener,
            receiver,
            sender: None,
            kept: None,
            turn: 0,
            clock: None,
        })
    }

    /// Answers a line.
    pub(super) fn carry_out(&mut self, line: &str) -> io::Result<String> {
        let wrong = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no such order: {line}"),
            )
        };
        let (word, number) = line.split_once(' ').unwrap_or((line, "0"));
        let number: u32 = number.parse().map_err(|_not_one| wrong())?;
        let time = Duration::from_millis(number.into());
        let rate = |rate: io::Result<f64>| rate.map(|rate| rate.to_string());
        match word {
            "check" => self.check(),
            "udp" => rate(self.datagrams(time)),
            "request" => rate(self.requests(time)),
            "connect" => rate(self.connections(time)),
            "bulk" => rate(self.bulk(time)),
            "first" => {
                let times =
                    (0..number).map(|_| self.first().map(|time| time.as_nanos().to_string()));
                let times: io::Result<Vec<String>> = times.collect();
                Ok(times?.join(" "))
            }
            _ => Err(wrong()),
        }
    }

    /// That a request by TCP and one by UDP arrive at the pod's own port, and their answers at the client in the service's name.
    fn check(&mut self) -> io::Result<String> {
        let (mut client, mut server) = self.connection()?;
        exchange(&mut client, &mut server)?;
        let (called, arrived) = (client.peer_addr()?, server.local_addr()?);
        self.sender()?;
        let sender = self.sender.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let datagrams = sender.peer_addr()?;
        Ok(format!("{called} {arrived} {datagrams}"))
    }

    /// The client's UDP socket, after a datagram each way: a flow that both sides have spoken in.
    fn sender(&mut self) -> io::Result<()> {
        if self.sender.is_some() {
            return Ok(());
        }
        let sender = UdpSocket::bind((client(0), 0))?;
        sender.connect(self.services.udp())?;
        sender.send(&[0; DATAGRAM])?;
        let mut buffer = [0; REQUEST];
        let (_, from) = patiently(|| self.receiver.recv_from(&mut buffer))?;
        self.receiver.send_to(&[1; DATAGRAM], from)?;
        sender.set_read_timeout(Some(PATIENCE))?;
        sender.recv(&mut buffer)?;
        self.sender = Some(sender);
        Ok(())
    }

    /// The clock that counts: found by sending datagrams and reading both.
    fn clock(&mut self) -> io::Result<Clock> {
        if let Some(clock) = self.clock {
            return Ok(clock);
        }
        let mut parts = Vec::new();
        for _ in 0..TRIALS {
            let (wall, thread) = (Clock::Wall.now()?, Clock::Thread.now()?);
            self.datagrams_by(Clock::Wall, TRIAL)?;
            let (wall, thread) = (Clock::Wall.since(wall)?, Clock::Thread.since(thread)?);
            parts.push(thread.as_secs_f64() / wall.as_secs_f64());
        }
        let clock = Clock::fitting(&parts);
        self.clock = Some(clock);
        Ok(clock)
    }

    fn datagrams(&mut self, time: Duration) -> io::Result<f64> {
        let clock = self.clock()?;
        self.datagrams_by(clock, time)
    }

    /// The clock runs from the first datagram of a burst until the last one is in the pod's socket, and stands while they are read.
    fn datagrams_by(&mut self, clock: Clock, time: Duration) -> io::Result<f64> {
        self.sender()?;
        let sender = self.sender.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let payload = [0; DATAGRAM];
        let slices = [[IoSlice::new(&payload)]; BATCH];
        let nowhere = [None; BATCH];
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let mut buffer = [0; REQUEST];
        let (mut spent, mut count) = (Duration::ZERO, 0_u32);
        while spent < time {
            let start = clock.now()?;
            let mut out = 0;
            while out < BURST {
                let results = sendmmsg(
                    sender.as_raw_fd(),
                    &mut headers,
                    &slices,
                    nowhere,
                    [],
                    MsgFlags::empty(),
                )?;
                out += results.count();
            }
            spent += clock.since(start)?;
            for _ in 0..out {
                if self.receiver.recv(&mut buffer).is_err() {
                    // Not there yet: that is a part of its way.
                    let start = clock.now()?;
                    patiently(|| self.receiver.recv(&mut buffer))?;
                    spent += clock.since(start)?;
                }
                count += 1;
            }
        }
        Ok(f64::from(count) / spent.as_secs_f64())
    }

    fn requests(&mut self, time: Duration) -> io::Result<f64> {
        let clock = self.clock()?;
        self.keep()?;
        let (client, server) = self.kept.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        repeated(clock, time, || exchange(client, server))
    }

    fn connections(&mut self, time: Duration) -> io::Result<f64> {
        let clock = self.clock()?;
        repeated(clock, time, || {
            let (mut client, mut server) = self.connection()?;
            exchange(&mut client, &mut server)?;
            // The client ends it: the time-wait is at its port.
            drop(client);
            drop(server);
            Ok(())
        })
    }

    fn first(&mut self) -> io::Result<Duration> {
        let clock = self.clock()?;
        let socket = self.unconnected()?;
        let to = self.target()?;
        let start = clock.now()?;
        connect(socket.as_raw_fd(), &to)?;
        let time = clock.since(start)?;
        drop(self.listener.accept()?);
        Ok(time)
    }

    fn bulk(&mut self, time: Duration) -> io::Result<f64> {
        let clock = self.clock()?;
        self.keep()?;
        let (client, server) = self.kept.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let bytes = vec![0; CHUNK];
        let mut buffer = vec![0; CHUNK];
        client.set_nonblocking(true)?;
        server.set_nonblocking(true)?;
        let (mut written, mut read) = (0_u64, 0_u64);
        let start = clock.now()?;
        let mut spent = Duration::ZERO;
        while spent < time {
            written += moved(client.write(&bytes))?;
            read += moved(server.read(&mut buffer))?;
            spent = clock.since(start)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer bytes")]
        let rate = read as f64 / spent.as_secs_f64();
        // The next one begins with nothing on its way.
        while read < written {
            read += moved(patiently(|| server.read(&mut buffer)))?;
        }
        client.set_nonblocking(false)?;
        server.set_nonblocking(false)?;
        Ok(rate)
    }

    fn keep(&mut self) -> io::Result<()> {
        if self.kept.is_none() {
            let socket = self.unconnected()?;
            self.kept = Some(self.join(socket, self.services.tcp())?);
        }
        Ok(())
    }

    /// A connection to the next target.
    fn connection(&mut self) -> io::Result<(TcpStream, TcpStream)> {
        let socket = self.unconnected()?;
        let turn = self.turn.saturating_sub(1) % self.targets.len();
        let to = self.targets.get(turn).ok_or(io::ErrorKind::NotFound)?;
        self.join(socket, *to)
    }

    fn target(&self) -> io::Result<SockaddrIn> {
        let turn = self.turn.saturating_sub(1) % self.targets.len();
        sockaddr(*self.targets.get(turn).ok_or(io::ErrorKind::NotFound)?)
    }

    fn join(&self, socket: OwnedFd, to: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
        connect(socket.as_raw_fd(), &sockaddr(to)?)?;
        let (server, _) = self.listener.accept()?;
        let client = TcpStream::from(socket);
        for end in [&client, &server] {
            setsockopt(end, sockopt::TcpNoDelay, &true)?;
        }
        Ok((client, server))
    }

    /// A TCP socket at the next address and port of the client: none comes round while its time-wait lasts.
    fn unconnected(&mut self) -> io::Result<OwnedFd> {
        let (turn, ports) = (self.turn, PORTS.len());
        self.turn += 1;
        let number = u8::try_from(turn / ports % usize::from(CLIENTS)).unwrap_or_default();
        let port = PORTS.start + u16::try_from(turn % ports).unwrap_or_default();
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let address = SocketAddr::new(IpAddr::V4(client(number)), port);
        bind(socket.as_raw_fd(), &sockaddr(address)?)?;
        Ok(socket)
    }
}

/// How often something is done in a second.
fn repeated(
    clock: Clock,
    time: Duration,
    mut once: impl FnMut() -> io::Result<()>,
) -> io::Result<f64> {
    let mut count = 0_u32;
    let start = clock.now()?;
    loop {
        // Reading the clock is a call into the kernel, which is not measured.
        for _ in 0..BETWEEN {
            once()?;
        }
        count += BETWEEN;
        let spent = clock.since(start)?;
        if spent >= time {
            return Ok(f64::from(count) / spent.as_secs_f64());
        }
    }
}

fn sockaddr(address: SocketAddr) -> io::Result<SockaddrIn> {
    match address {
        SocketAddr::V4(address) => Ok(address.into()),
        SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A request and its answer.
fn exchange(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; REQUEST];
    client.write_all(&[1; REQUEST])?;
    server.read_exact(&mut buffer)?;
    server.write_all(&buffer)?;
    client.read_exact(&mut buffer)
}

/// Bytes that a call has moved: none if it would have to wait.
fn moved(result: io::Result<usize>) -> io::Result<u64> {
    match result {
        Ok(count) => Ok(count as u64),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Tries again while nothing is there.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if start.elapsed() > PATIENCE {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not arrive"));
                }
                std::hint::spin_loop();
            }
            result => return result,
        }
    }
}
