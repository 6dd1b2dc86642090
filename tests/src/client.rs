//! Clients. The functions connect from the network namespace of the calling thread: wrap them in [`crate::Pod::run`].

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt::ReuseAddr,
};

use crate::{pattern, sctp};

/// Bytes of the longest datagram.
const LARGEST: usize = 65_535;

/// How long a connection or an answer may take; used up by a failure only.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Name of the pod.
    pub pod: String,
    /// The client's address as the pod saw it.
    pub client: SocketAddr,
}

/// A TCP connection that stays open: HTTP/1.1 with keep-alive, or lines.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    peer: SocketAddr,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// `ConnectionRefused`, `TimedOut` and so on.
    pub fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        Self::over(stream, to)
    }

    /// Connects from an address and port of its own.
    ///
    /// # Errors
    /// As above; or they are somebody else's.
    pub fn open_from(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let family = match from {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let stream: TcpStream =
            socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?.into();
        setsockopt(&stream, ReuseAddr, &true)?;
        bind(stream.as_raw_fd(), &SockaddrStorage::from(from))?;
        // Connecting is writing, for the kernel.
        stream.set_write_timeout(Some(PATIENCE))?;
        connect(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
        stream.set_nodelay(true)?;
        Self::over(stream, to)
    }

    /// An association of SCTP, which speaks as a connection of TCP does.
    ///
    /// # Errors
    /// As those of [`sctp::associate`].
    pub fn associate(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        Self::over(sctp::associate(from, to)?, to)
    }

    fn over(stream: TcpStream, to: SocketAddr) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            peer: to,
        })
    }

    /// The client's own address.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().local_addr()
    }

    /// The peer, as `getpeername` tells it.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn remote(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().peer_addr()
    }

    /// One HTTP request: status and body.
    ///
    /// # Errors
    /// The connection broke, or what came is not HTTP.
    pub fn http(&mut self, path: &str) -> io::Result<Response> {
        let peer = self.peer;
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {peer}\r\n\r\n"))?;
        Response::read(&mut self.stream)
    }

    /// One HTTP request: which pod answered.
    ///
    /// # Errors
    /// As [`Connection::http`], or the answer is not one of [`crate::Server`].
    pub fn get(&mut self) -> io::Result<Answer> {
        let response = self.http("/")?;
        if response.status != 200 {
            return Err(bad(format!("HTTP status {}", response.status)));
        }
        let client = response
            .header("x-client")
            .and_then(|value| value.parse().ok());
        Ok(Answer {
            pod: response.body.trim_end().to_owned(),
            client: client.ok_or_else(|| bad("no header X-Client".to_owned()))?,
        })
    }

    /// One line, and the line that answers it.
    ///
    /// # Errors
    /// The connection broke.
    pub fn ask(&mut self, line: &str) -> io::Result<String> {
        self.send(&format!("{line}\n"))?;
        read_line(&mut self.stream)
    }

    /// Sends `count` bytes of the pattern; the server compares them.
    ///
    /// # Errors
    /// The connection broke, or a byte arrived wrong: the error names the first.
    pub fn upload(&mut self, count: u64) -> io::Result<()> {
        self.send(&format!("SEND {count}\n"))?;
        let mut offset = 0;
        while offset < count {
            let bytes = pattern::at(offset, count - offset);
            self.stream.get_mut().write_all(&bytes)?;
            offset += bytes.len() as u64;
        }
        let verdict = read_line(&mut self.stream)?;
        if verdict == format!("OK {count}") {
            Ok(())
        } else {
            Err(bad(verdict))
        }
    }

    /// Receives `count` bytes of the pattern and compares them.
    ///
    /// # Errors
    /// The connection broke, or a byte arrived wrong: the error names the first.
    pub fn download(&mut self, count: u64) -> io::Result<()> {
        self.send(&format!("RECEIVE {count}\n"))?;
        let mut buffer = vec![0; 1 << 16];
        let mut offset = 0;
        let mut rest = (&mut self.stream).take(count);
        while offset < count {
            let length = rest.read(&mut buffer)?;
            let found = buffer.get(..length).unwrap_or_default();
            if found.is_empty() {
                return Err(bad(format!("ended after {offset} of {count} bytes")));
            }
            if let Some(at) = pattern::difference(offset, found) {
                return Err(bad(format!("byte {at} differs")));
            }
            offset += length as u64;
        }
        Ok(())
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }
}

/// An HTTP response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// 200 and so on.
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// All of it.
    pub body: String,
}

impl Response {
    /// The value of a header; its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value.as_str()))
    }

    fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let line = read_line(stream)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| bad(format!("not HTTP: {line}")))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(stream)?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let mut response = Self {
            status,
            headers,
            body: String::new(),
        };
        let length = response
            .header("content-length")
            .and_then(|value| value.parse().ok());
        let mut body = Vec::new();
        if response.header("transfer-encoding") == Some("chunked") {
            read_chunks(stream, &mut body)?;
        } else if let Some(length) = length {
            body.resize(length, 0);
            stream.read_exact(&mut body)?;
        } else {
            stream.read_to_end(&mut body)?;
        }
        response.body = String::from_utf8(body).map_err(|error| bad(error.to_string()))?;
        Ok(response)
    }
}

/// A body in parts, each behind its length.
fn read_chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let length = usize::from_str_radix(line.trim(), 16);
        let length = length.map_err(|error| bad(format!("chunk {line:?}: {error}")))?;
        let before = body.len();
        body.resize(before + length, 0);
        stream.read_exact(body.get_mut(before..).unwrap_or_default())?;
        let end = read_line(stream)?;
        if !end.is_empty() {
            return Err(bad(format!("{end:?} behind a chunk")));
        }
        if length == 0 {
            return Ok(());
        }
    }
}

/// One HTTP request on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::get`].
pub fn get(to: SocketAddr) -> io::Result<Answer> {
    Connection::open(to)?.get()
}

/// One line and its answer on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::ask`].
pub fn ask(to: SocketAddr, line: &str) -> io::Result<String> {
    Connection::open(to)?.ask(line)
}

/// A connected UDP socket: a flow of its own.
///
/// # Errors
/// The kernel refused.
pub fn udp_flow(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(to.ip())?;
    socket.connect(to)?;
    Ok(socket)
}

/// Sends a datagram on a connected socket and waits for the answer: which pod answered.
///
/// # Errors
/// `ConnectionRefused` if an ICMP error came, `WouldBlock` if nothing came.
pub fn udp_ask(socket: &UdpSocket, text: &str) -> io::Result<String> {
    socket.send(text.as_bytes())?;
    let mut buffer = vec![0; LARGEST];
    let length = socket.recv(&mut buffer)?;
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    let pod = answer
        .strip_suffix(text)
        .and_then(|pod| pod.strip_suffix(' '));
    let pod = pod.ok_or_else(|| bad(format!("answer {answer:?} to {text:?}")))?;
    Ok(pod.to_owned())
}

/// Sends a datagram on an unconnected socket: the answer and the address it came from, whichever that is.
///
/// # Errors
/// `WouldBlock` if nothing came.
pub fn udp_from(to: SocketAddr, text: &str) -> io::Result<(String, SocketAddr)> {
    udp_ask_at(&udp(to.ip())?, to, text)
}

/// As [`udp_from`], on a socket that stays.
///
/// # Errors
/// `WouldBlock` if nothing came.
pub fn udp_ask_at(
    socket: &UdpSocket,
    to: SocketAddr,
    text: &str,
) -> io::Result<(String, SocketAddr)> {
    socket.send_to(text.as_bytes(), to)?;
    let mut buffer = vec![0; LARGEST];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    Ok((answer.into_owned(), from))
}

/// A UDP socket at an address of its own.
///
/// # Errors
/// The address is taken or foreign.
pub fn udp_at(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// A UDP socket of the family of an address.
pub(crate) fn udp(to: IpAddr) -> io::Result<UdpSocket> {
    let any = match to {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    };
    udp_at(any)
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
