//! A resolver outside the cluster: says one address to whatever it is asked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clusterip_common::wire::{Be16, Be32};

use crate::Namespace;

/// The address that it says.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// Bytes of a header.
const HEADER: usize = 12;
/// How long it may take to see that it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A running one. It ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Upstream {
    /// Starts one on the loopback of a namespace. What it says may be kept for `ttl` seconds.
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn start(namespace: &Namespace, ttl: u32) -> Result<Self> {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Self::at(namespace, loopback, ttl)
    }

    /// As [`Upstream::start`], at an address of the caller's choice.
    ///
    /// # Errors
    /// No socket or thread could be made.
    pub fn at(namespace: &Namespace, address: SocketAddr, ttl: u32) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(address))
            .context("open the socket of an upstream")?;
        socket.set_read_timeout(Some(LOOK))?;
        let address = socket.local_addr()?;
        let (asked, end) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, ends) = (Arc::clone(&asked), Arc::clone(&end));
        let serve = move || serve(&socket, ttl, &count, &ends);
        let thread = namespace.thread("upstream".to_owned(), serve)?;
        Ok(Self {
            address,
            asked,
            end,
            thread: Some(thread),
        })
    }

    /// Where it answers.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(socket: &UdpSocket, ttl: u32, asked: &AtomicUsize, end: &AtomicBool) -> io::Result<()> {
    let mut buffer = [0; 2048];
    while !end.load(SeqCst) {
        let (length, client) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if let Some(answer) = answer(buffer.get(..length).unwrap_or_default(), ttl) {
            asked.fetch_add(1, SeqCst);
            socket.send_to(&answer, client)?;
        }
    }
    Ok(())
}

/// The answer to a question in its bytes; none to what is no question. RFC 1035, section 4.
fn answer(query: &[u8], ttl: u32) -> Option<Vec<u8>> {
    let id = query.get(..2)?;
    let mut end = HEADER;
    while let length @ 1.. = *query.get(end)? {
        end += 1 + usize::from(length);
    }
    // The final label, type and class.
    let question = query.get(HEADER..end + 5)?;
    let mut message = id.to_vec();
    // Response, recursion desired and available; one question, one answer.
    message.extend([0x81, 0x80]);
    message.extend([1, 1, 0, 0].map(|count| Be16::new(count).0).concat());
    message.extend(question);
    // The name of the question, A, IN.
    message.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    message.extend(Be32::new(ttl).0);
    message.extend([0, 4]);
    message.extend(ADDRESS.octets());
    Some(message)
}
