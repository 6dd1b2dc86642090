//! Sockets of SCTP, one association each: they read and write as those of TCP do, and the standard library takes them for such.
//!
//! Each is bound to one address. One that is not tells its peer of all it has, and the peer may send to any of them.

use std::{
    io,
    net::{self, SocketAddr, TcpListener},
    os::fd::{AsRawFd as _, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
        connect, listen, recv, setsockopt, socket, sockopt::ReuseAddr,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Whether the kernel has SCTP, as a part of it or as a module that is loaded.
///
/// # Errors
/// A socket cannot be had for another reason.
pub fn is_known() -> io::Result<bool> {
    match open(AddressFamily::Inet) {
        Ok(_socket) => Ok(true),
        Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A socket that takes associations at an address.
///
/// # Errors
/// The address is taken, or is none of this namespace.
pub fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(at)?;
    listen(&socket, Backlog::MAXCONN)?;
    let listener = TcpListener::from(socket);
    // Who accepts waits for many at a time.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// An association from an address (port 0: any) to another.
///
/// # Errors
/// As those of a TCP connection.
pub fn associate(from: SocketAddr, to: SocketAddr) -> io::Result<net::TcpStream> {
    let socket = bound(from)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(net::TcpStream::from(socket))
}

fn bound(at: SocketAddr) -> nix::Result<OwnedFd> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = open(family)?;
    // Several associations may begin at one port (C12).
    setsockopt(&socket, ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(socket)
}

fn open(family: AddressFamily) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(family, SockType::Stream, flags, SockProtocol::Sctp)
}

/// An association for tasks. A read gives one message at most, so one that fills no buffer does not mean that nothing else has come, as
/// tokio takes it to mean of a stream.
#[derive(Debug)]
pub struct Association(TcpStream);

impl Association {
    /// Takes what a listener accepted.
    #[must_use]
    pub const fn new(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl AsyncRead for Association {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self(stream) = &*self;
        let space = buffer.initialize_unfilled();
        loop {
            ready!(stream.poll_read_ready(context))?;
            let read = stream.try_io(Interest::READABLE, || {
                Ok(recv(stream.as_raw_fd(), space, MsgFlags::MSG_DONTWAIT)?)
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|count| buffer.advance(count))),
            }
        }
    }
}

impl AsyncWrite for Association {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// An association ends as a whole, when it is closed.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
