//! Many clients at once: connections that stay open, more of them than a process may have descriptors for.
//!
//! Threads of either side have tables of descriptors of their own, so there is no tokio here, which keeps one for the process.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt,
            socket,
            sockopt::{ReuseAddr, ReusePort},
        },
    },
};

use crate::{
    Namespace, Pod,
    client::{Answer, Connection},
    server, sys, wait,
};

/// Connections of one thread, which has its own descriptors for them: below the limits that machines have.
const EACH: usize = 5_000;

/// Open connections. Closed when dropped.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// To ask once more; dropping it is the signal to end.
    orders: Option<mpsc::Sender<()>>,
    answers: mpsc::Receiver<io::Result<Vec<Answer>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Crowd {
    /// Opens a connection to `to` from each of these addresses and ports. Nobody has been asked anything yet, but all are open.
    ///
    /// # Errors
    /// A connection was not opened: the error names it.
    pub fn open(namespace: &Namespace, clients: &[SocketAddr], to: SocketAddr) -> Result<Self> {
        let members = clients.chunks(EACH).enumerate();
        let members = members
            .map(|(number, clients)| Member::start(namespace, number, clients.to_vec(), to))
            .collect::<Result<_>>()?;
        let crowd = Self { members };
        crowd.collect()?;
        Ok(crowd)
    }

    /// Asks on all of them: who answered, in the order of the clients.
    ///
    /// # Errors
    /// A connection broke: the error names it.
    pub fn ask(&self) -> Result<Vec<Answer>> {
        for member in &self.members {
            let orders = member.orders.as_ref();
            orders
                .and_then(|orders| orders.send(()).ok())
                .context("a thread of the crowd has ended")?;
        }
        self.collect()
    }

    fn collect(&self) -> Result<Vec<Answer>> {
        let mut all = Vec::new();
        for member in &self.members {
            match member.answers.recv() {
                Ok(answers) => all.extend(answers?),
                Err(mpsc::RecvError) => bail!("a thread of the crowd has ended"),
            }
        }
        Ok(all)
    }
}

impl Member {
    fn start(
        namespace: &Namespace,
        number: usize,
        clients: Vec<SocketAddr>,
        to: SocketAddr,
    ) -> Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let work = move || {
            sys::own_descriptors()?;
            let opened: io::Result<Vec<_>> = clients
                .iter()
                .map(|from| {
                    let opened = Connection::open_from(*from, to);
                    Ok((*from, opened.map_err(|error| named(*from, &error))?))
                })
                .collect();
            let mut connections = match opened {
                Ok(connections) => connections,
                Err(error) => {
                    drop(answer.send(Err(error)));
                    return Ok(());
                }
            };
            let mut said = answer.send(Ok(Vec::new()));
            while said.is_ok() && ordered.recv().is_ok() {
                let asked = connections.iter_mut().map(|(from, connection)| {
                    connection.get().map_err(|error| named(*from, &error))
                });
                said = answer.send(asked.collect());
            }
            Ok(())
        };
        let thread = namespace
            .thread(format!("crowd {number}"), work)
            .context("start a thread of the crowd")?;
        Ok(Self {
            orders: Some(orders),
            answers,
            thread: Some(thread),
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // A panic shows in what was not answered.
            drop(thread.join());
        }
    }
}

fn named(from: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("from {from}: {error}"))
}

/// Servers of a pod that share a TCP port, for more connections than one of them may have. They answer requests for a page that come
/// in one piece. Stopped when dropped.
#[derive(Debug)]
pub struct Counters {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// How long a server that is to stop may go on.
const NOTICE: u8 = 50;

impl Counters {
    /// Starts so many of them at a port of all addresses of the pod. They listen when this returns.
    ///
    /// # Errors
    /// The port could not be opened.
    pub fn open(pod: &Pod, port: u16, count: usize) -> Result<Self> {
        let mut counters = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for number in 0..count {
            let at: Vec<_> = pod
                .addresses()
                .iter()
                .map(|ip| (*ip, port).into())
                .collect();
            let (stop, name) = (counters.stop.clone(), pod.name().to_owned());
            let (ready, listening) = mpsc::channel();
            let work = move || {
                let opened = sys::own_descriptors().and_then(|()| Counter::open(&at, name));
                let (said, counter) = match opened {
                    Ok(counter) => (Ok(()), Some(counter)),
                    Err(error) => (Err(error), None),
                };
                // Who started this waits for it.
                drop(ready.send(said));
                counter.map_or(Ok(()), |mut counter| counter.serve(&stop))
            };
            let thread = pod
                .namespace()
                .thread(format!("counter {number}"), work)
                .context("start a server's thread")?;
            counters.threads.push(thread);
            listening
                .recv()
                .context("a server's thread has ended")?
                .with_context(|| format!("a server of pod {}", pod.name()))?;
        }
        Ok(counters)
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A failure shows in what its clients did not get.
            drop(thread.join());
        }
    }
}

/// One of them.
struct Counter {
    name: String,
    poll: Epoll,
    listeners: BTreeMap<u64, TcpListener>,
    connections: BTreeMap<u64, (TcpStream, SocketAddr)>,
}

impl Counter {
    fn open(at: &[SocketAddr], name: String) -> io::Result<Self> {
        let mut counter = Self {
            name,
            poll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
        };
        for at in at {
            let family = match at {
                SocketAddr::V4(_) => AddressFamily::Inet,
                SocketAddr::V6(_) => AddressFamily::Inet6,
            };
            let own = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            setsockopt(&own, ReuseAddr, &true)?;
            setsockopt(&own, ReusePort, &true)?;
            // Whoever had the port before may be in a process that is only just becoming another program.
            let bound = wait::polled(wait::PATIENCE, || {
                let bound = bind(own.as_raw_fd(), &SockaddrStorage::from(*at));
                (bound != Err(Errno::EADDRINUSE)).then_some(bound)
            });
            bound.unwrap_or(Err(Errno::EADDRINUSE))?;
            listen(&own, Backlog::MAXALLOWABLE)?;
            let listener = TcpListener::from(own);
            let key = counter.watch(&listener)?;
            counter.listeners.insert(key, listener);
        }
        Ok(counter)
    }

    /// What the kernel will name it by.
    fn watch(&self, socket: &(impl std::os::fd::AsFd + std::os::fd::AsRawFd)) -> io::Result<u64> {
        let key = u64::from(socket.as_raw_fd().unsigned_abs());
        self.poll
            .add(socket, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        Ok(key)
    }

    fn serve(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        while !stop.load(Ordering::Relaxed) {
            let count = self.poll.wait(&mut events, NOTICE)?;
            for event in events.iter().take(count) {
                let key = event.data();
                if let Some(listener) = self.listeners.get(&key) {
                    let (stream, peer) = listener.accept()?;
                    stream.set_nodelay(true)?;
                    let key = self.watch(&stream)?;
                    self.connections.insert(key, (stream, peer));
                } else if !self.answer(key).unwrap_or(false) {
                    // It ended, or broke: the client sees that.
                    self.connections.remove(&key);
                }
            }
        }
        Ok(())
    }

    /// Answers on a connection that has said something. False: it has ended.
    fn answer(&mut self, key: u64) -> io::Result<bool> {
        let Some((stream, peer)) = self.connections.get_mut(&key) else {
            return Ok(false);
        };
        let mut request = [0; 512];
        let length = stream.read(&mut request)?;
        let is_whole = request
            .get(..length)
            .is_some_and(|request| request.ends_with(b"\r\n\r\n"));
        if is_whole {
            stream.write_all(&server::response(&self.name, *peer, false))?;
        }
        Ok(is_whole)
    }
}
