//! The server in a pod: HTTP/1.1, a line protocol, bulk data and a UDP echo, all of which name the pod.
//!
//! The first word of a TCP line decides, so every port speaks everything:
//! `GET / HTTP/1.1` | `PING` | `SELECT ...` | `SEND count` | `RECEIVE count` | `QUIT`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpListener, UdpSocket},
    sync::oneshot,
};

use crate::{Pod, pattern, sctp};

/// A protocol to listen with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, which not every kernel has: see [`sctp::is_known`].
    Sctp,
}

/// A server on some ports of all addresses of a pod. Stopped when dropped: its connections are closed.
#[derive(Debug)]
pub struct Server {
    /// Dropping it is the signal to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Starts one; it listens when this returns.
    ///
    /// # Errors
    /// A port could not be opened.
    pub fn start(pod: &Pod, ports: &[(Protocol, u16)]) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, listening) = mpsc::channel();
        let name: Arc<str> = pod.name().into();
        let sockets: Vec<_> = pod
            .addresses()
            .iter()
            .flat_map(|address| {
                ports
                    .iter()
                    .map(|(protocol, port)| (*protocol, *address, *port))
            })
            .collect();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let opened = open(&sockets, &name).await;
                let failed = opened.is_err();
                // Who started this waits for it.
                drop(ready.send(opened));
                if !failed {
                    // Ends with an error when the sender is dropped: that is the signal.
                    drop(stopped.await);
                }
            });
            Ok(())
        };
        let thread = pod
            .namespace()
            .thread(format!("server {}", pod.name()), work)
            .context("start the server's thread")?;
        let server = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        listening
            .recv()
            .context("the server's thread ended")?
            .with_context(|| format!("server of pod {}", pod.name()))?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server shows in what its clients did not get.
            drop(thread.join());
        }
    }
}

/// Opens the sockets and starts a task for each.
async fn open(sockets: &[(Protocol, IpAddr, u16)], name: &Arc<str>) -> io::Result<()> {
    for &(protocol, address, port) in sockets {
        let at = SocketAddr::new(address, port);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{at}: {error}"));
        let name = name.clone();
        match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(at).await.map_err(named)?;
                tokio::spawn(accept(listener, name));
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(at).await.map_err(named)?;
                tokio::spawn(echo(socket, name));
            }
            Protocol::Sctp => {
                let listener = sctp::listener(at).and_then(TcpListener::from_std);
                tokio::spawn(accept_associations(listener.map_err(named)?, name));
            }
        }
    }
    Ok(())
}

async fn accept(listener: TcpListener, name: Arc<str>) {
    // An error of one connection (it was reset while it waited) is not one of the listener.
    loop {
        if let Ok((stream, peer)) = listener.accept().await
            && stream.set_nodelay(true).is_ok()
        {
            tokio::spawn(talk(stream, peer, name.clone()));
        }
    }
}

async fn accept_associations(listener: TcpListener, name: Arc<str>) {
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            let association = sctp::Association::new(stream);
            tokio::spawn(talk(association, peer, name.clone()));
        }
    }
}

async fn echo(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // An error here is an ICMP error for an earlier answer: the client has gone.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let mut answer = BytesMut::with_capacity(name.len() + 1 + length);
        answer.put_slice(name.as_bytes());
        answer.put_u8(b' ');
        answer.put_slice(buffer.get(..length).unwrap_or_default());
        drop(socket.send_to(&answer, peer).await);
    }
}

/// What a client is talked to by.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection, until the client closes it. A broken one ends it too: the client sees that.
async fn talk<S: Stream>(stream: S, peer: SocketAddr, name: Arc<str>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["GET", _, version] => {
                let asked_to_close = skip_headers(&mut stream).await?;
                let close = asked_to_close || version == "HTTP/1.0";
                stream.write_all(&response(&name, peer, close)).await?;
                if close {
                    return stream.shutdown().await;
                }
            }
            ["PING"] => reply(&mut stream, &format!("{name} PONG\n")).await?,
            ["SELECT", what] => reply(&mut stream, &format!("{name} {what}\n")).await?,
            ["SEND", count] => {
                let verdict = receive(&mut stream, number(count)?).await?;
                reply(&mut stream, &verdict).await?;
            }
            ["RECEIVE", count] => send(&mut stream, number(count)?).await?,
            ["QUIT"] => return stream.shutdown().await,
            _ => reply(&mut stream, &format!("{name} ERROR unknown command\n")).await?,
        }
    }
}

async fn reply(stream: &mut BufReader<impl Stream>, line: &str) -> io::Result<()> {
    stream.write_all(line.as_bytes()).await
}

/// Reads the rest of a request's head; whether the client wants the connection closed.
async fn skip_headers(stream: &mut BufReader<impl Stream>) -> io::Result<bool> {
    let mut close = false;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 || line.trim_end().is_empty() {
            return Ok(close);
        }
        close |= line.trim_end().eq_ignore_ascii_case("connection: close");
    }
}

/// The answer to a GET.
pub(crate) fn response(name: &str, client: SocketAddr, close: bool) -> Bytes {
    let length = name.len() + 1;
    let connection = if close { "close" } else { "keep-alive" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         X-Client: {client}\r\nConnection: {connection}\r\n\r\n"
    );
    let mut response = BytesMut::with_capacity(head.len() + length);
    response.put_slice(head.as_bytes());
    response.put_slice(name.as_bytes());
    response.put_u8(b'\n');
    response.freeze()
}

async fn receive(stream: &mut BufReader<impl Stream>, count: u64) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 18];
    let mut offset = 0;
    let mut wrong = None;
    let mut rest = stream.take(count);
    while offset < count {
        let length = rest.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let found = buffer.get(..length).unwrap_or_default();
        // Goes on after the first wrong byte, so that the client can read the verdict.
        wrong = wrong.or_else(|| pattern::difference(offset, found));
        offset += length as u64;
    }
    Ok(match wrong {
        None => format!("OK {count}\n"),
        Some(at) => format!("DIFFERENT byte {at}\n"),
    })
}

async fn send(stream: &mut BufReader<impl Stream>, count: u64) -> io::Result<()> {
    let mut offset = 0;
    while offset < count {
        let bytes = pattern::at(offset, count - offset);
        stream.write_all(&bytes).await?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

fn number(word: &str) -> io::Result<u64> {
    word.parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{word}: {error}")))
}
