//! The sockets: UDP and TCP, bounded in what a client may hold.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

pub use super::responder::Responder;
use super::{
    connections::Connections,
    inquiry::Inquirer,
    message::{MOST, Transport},
    responder::Response,
    state::State,
};
use crate::reconcile::Published;

/// Connections there may be, all together and of one client.
const CONNECTIONS: usize = 512;
const CONNECTIONS_OF_ONE: usize = 64;
/// How long a connection may be silent between two questions.
const IDLE: Duration = Duration::from_secs(10);
/// How long a client may take to send what it began, or to take what it asked for.
const SLOW: Duration = Duration::from_secs(4);
/// Questions of UDP that may wait for somebody else's answer.
const PENDING: usize = 2048;
/// A pause after a failure of the socket itself, which would come again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address} ({protocol}) for DNS; it must be an address of this node, and free")]
pub struct ListenError {
    address: SocketAddr,
    protocol: &'static str,
    #[source]
    source: io::Error,
}

/// Open sockets, before anybody reads them.
#[derive(Debug)]
pub struct Sockets {
    pairs: Vec<(UdpSocket, TcpListener)>,
}

impl Sockets {
    /// Opens UDP and TCP on each address.
    ///
    /// # Errors
    /// The first that could not be listened on.
    pub async fn open(addresses: &[SocketAddr]) -> Result<Self, ListenError> {
        let mut pairs = Vec::new();
        for address in addresses.iter().copied() {
            let wrong = |protocol| {
                move |source| ListenError {
                    address,
                    protocol,
                    source,
                }
            };
            let tcp = TcpListener::bind(address).await.map_err(wrong("TCP"))?;
            // The same port for both where it is left open.
            let address = tcp.local_addr().map_err(wrong("TCP"))?;
            let udp = UdpSocket::bind(address).await.map_err(wrong("UDP"))?;
            pairs.push((udp, tcp));
        }
        Ok(Self { pairs })
    }

    /// Where they are.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.pairs.iter().map(|(udp, _)| udp.local_addr());
        addresses.filter_map(Result::ok).collect()
    }
}

/// The state as a reader holds it: a look for a newer one takes no lock.
struct Current {
    states: watch::Receiver<Option<Arc<State>>>,
    state: Option<Arc<State>>,
}

impl Current {
    fn of(states: &watch::Receiver<Option<Arc<State>>>) -> Self {
        let mut states = states.clone();
        let state = states.borrow_and_update().clone();
        Self { states, state }
    }

    fn get(&mut self) -> Option<&State> {
        if self.states.has_changed().unwrap_or_default() {
            self.state.clone_from(&self.states.borrow_and_update());
        }
        self.state.as_deref()
    }
}

/// Answers until the agent ends, or one of its tasks does, which is a fault; and what asks without a socket.
pub fn start(
    sockets: Sockets,
    responder: Responder,
    seen: watch::Receiver<Published>,
) -> (impl Future<Output = ()>, Inquirer) {
    let responder = Arc::new(responder);
    let (states, state) = watch::channel(None);
    let inquirer = Inquirer::new(responder.clone(), state);
    (run(sockets, responder, seen, states), inquirer)
}

async fn run(
    sockets: Sockets,
    responder: Arc<Responder>,
    seen: watch::Receiver<Published>,
    states: watch::Sender<Option<Arc<State>>>,
) {
    let state = states.subscribe();
    let mut tasks = JoinSet::new();
    for (udp, tcp) in sockets.pairs {
        let current = Current::of(&state);
        tasks.spawn(datagrams(Arc::new(udp), responder.clone(), current));
        tasks.spawn(connections(tcp, responder.clone(), state.clone()));
    }
    tokio::select! {
        () = follow(seen, states) => {}
        Some(ended) = tasks.join_next() => {
            let reason = ended.err().map_or_else(String::new, |error| error.to_string());
            log::error!(reason; "DNS: a socket is read no more");
        }
    }
}

/// Hands on what the dataplane holds.
async fn follow(mut seen: watch::Receiver<Published>, states: watch::Sender<Option<Arc<State>>>) {
    loop {
        {
            let published = seen.borrow_and_update();
            if let Some(snapshot) = &published.held {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let state = State {
                    snapshot: snapshot.clone(),
                    unanswered: published.unanswered.clone(),
                    // It wraps around, as serial numbers do (RFC 1982).
                    serial: now.map_or(0, |it| {
                        u32::try_from(it.as_secs() & 0xffff_ffff).unwrap_or(0)
                    }),
                };
                states.send_replace(Some(Arc::new(state)));
            }
        }
        if seen.changed().await.is_err() {
            return;
        }
    }
}

async fn datagrams(socket: Arc<UdpSocket>, responder: Arc<Responder>, mut current: Current) {
    let pending = Arc::new(Semaphore::new(PENDING));
    let mut buffer = vec![0; MOST.into()];
    loop {
        let (bytes, client) = match socket.recv_from(&mut buffer).await {
            Ok((length, client)) => (buffer.get(..length).unwrap_or_default(), client),
            Err(error) => {
                log::warn!(error:err; "DNS: receive a datagram");
                sleep(PAUSE).await;
                continue;
            }
        };
        let response = responder.respond(current.get(), bytes, client.ip(), Transport::Udp);
        match response {
            Response::Now(bytes) => send(&socket, &bytes, client).await,
            Response::Later(elsewhere) => {
                // With so many waiting the client does better to ask again later.
                let Ok(permit) = pending.clone().try_acquire_owned() else {
                    continue;
                };
                let (socket, responder) = (socket.clone(), responder.clone());
                tokio::spawn(async move {
                    if let Some(bytes) = responder.ask_elsewhere(elsewhere).await {
                        send(&socket, &bytes, client).await;
                    }
                    drop(permit);
                });
            }
            Response::Never => {}
        }
    }
}

/// A client that cannot be reached asks again, or does not want to know.
async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        log::debug!(client:%, error:err; "DNS: send an answer");
    }
}

async fn connections(
    listener: TcpListener,
    responder: Arc<Responder>,
    states: watch::Receiver<Option<Arc<State>>>,
) {
    let connections = Connections::new(CONNECTIONS, CONNECTIONS_OF_ONE);
    let mut tasks = JoinSet::new();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!(error:err; "DNS: accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Some(place) = connections.admit(client.ip()) else {
            log::debug!(client:%; "DNS: too many connections, this one is closed");
            continue;
        };
        let responder = responder.clone();
        let current = Current::of(&states);
        tasks.spawn(async move {
            if let Err(error) = converse(stream, client.ip(), &responder, current).await {
                log::debug!(client:%, error:err; "DNS: a connection ended");
            }
            drop(place);
        });
    }
}

/// One question after the other: a client that asks much on one connection keeps nobody else waiting.
async fn converse(
    stream: TcpStream,
    client: IpAddr,
    responder: &Responder,
    mut current: Current,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufStream::new(stream);
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => length,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_silent) => return Ok(()),
        };
        let mut bytes = vec![0; length.into()];
        timeout(SLOW, stream.read_exact(&mut bytes)).await??;
        let response = responder.respond(current.get(), &bytes, client, Transport::Tcp);
        let bytes = match response {
            Response::Now(bytes) => bytes,
            Response::Later(elsewhere) => match responder.ask_elsewhere(elsewhere).await {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
            Response::Never => return Ok(()),
        };
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        timeout(SLOW, async {
            stream.write_u16(length).await?;
            stream.write_all(&bytes).await?;
            stream.flush().await
        })
        .await??;
    }
}
