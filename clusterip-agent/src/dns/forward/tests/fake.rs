//! An upstream for tests, on loopback, that does as it is told.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{A, SOA},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    sync::Notify,
    task::JoinSet,
};

use super::super::{Forwarder, Timing};

/// How a question over UDP is answered.
#[derive(Clone, Debug)]
pub(super) enum Manner {
    /// One address, for so many seconds.
    Answer(u32),
    /// Not at all.
    Silence,
    /// A response code and nothing else.
    Code(ResponseCode),
    /// There is no such name, for so many seconds.
    Denial(u32),
    /// Cut short; the whole answer comes over TCP.
    CutShort,
    /// Lies: another id, another question, no message, a question. Then nothing.
    Lies,
    /// Lies first, then the truth.
    LiesFirst,
    /// FORMERR as long as there is EDNS in the question.
    NoEdns,
    /// The truth, once it is let go.
    Held(Arc<Notify>),
    /// It asks us in its turn.
    Back(Forwarder),
}

/// How often it was asked; checks of its health (the root) apart.
#[derive(Default, Debug)]
pub(super) struct Asked {
    pub(super) udp: AtomicUsize,
    pub(super) tcp: AtomicUsize,
    pub(super) checks: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) address: SocketAddr,
    pub(super) asked: Arc<Asked>,
    manner: Arc<Mutex<Manner>>,
    /// Stopped when dropped.
    _tasks: JoinSet<io::Result<()>>,
}

impl Fake {
    pub(super) async fn start(manner: Manner) -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Asked::default());
        let manner = Arc::new(Mutex::new(manner));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&manner), Arc::clone(&asked)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&asked)));
        Self {
            address,
            asked,
            manner,
            _tasks: tasks,
        }
    }

    pub(super) fn becomes(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(super) fn udp(&self) -> usize {
        self.asked.udp.load(SeqCst)
    }
}

/// An address at which nobody listens.
pub(super) async fn closed() -> SocketAddr {
    let (udp, _tcp) = sockets().await;
    udp.local_addr().unwrap()
}

/// UDP and TCP on one port.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn serve_udp(
    socket: UdpSocket,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<Asked>,
) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut buffer = [0; 2_048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await?;
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let is_check = query.queries[0].name.is_root();
        let count = if is_check { &asked.checks } else { &asked.udp };
        count.fetch_add(1, SeqCst);
        let manner = manner.lock().unwrap().clone();
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            for answer in datagrams(manner, &query).await {
                socket.send_to(&answer, from).await.unwrap();
            }
        });
    }
}

async fn datagrams(manner: Manner, query: &Message) -> Vec<Vec<u8>> {
    let bytes = |message: Message| message.to_vec().unwrap();
    let question = &query.queries[0];
    let code = |code| {
        let mut message = answer(query);
        message.answers.clear();
        message.metadata.response_code = code;
        message
    };
    match manner {
        Manner::Answer(ttl) => {
            let mut message = answer(query);
            message.answers[0].ttl = ttl;
            vec![bytes(message)]
        }
        Manner::Silence => vec![],
        Manner::Code(refused) => vec![bytes(code(refused))],
        Manner::Denial(ttl) => {
            let mut message = code(ResponseCode::NXDomain);
            let root = Name::root();
            let soa = RData::SOA(SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, ttl));
            message.authorities = vec![Record::from_rdata(root, ttl, soa)];
            vec![bytes(message)]
        }
        Manner::CutShort => {
            let mut message = code(ResponseCode::NoError);
            message.metadata.truncation = true;
            vec![bytes(message)]
        }
        Manner::Lies => lies(query),
        Manner::LiesFirst => [lies(query), vec![bytes(answer(query))]].concat(),
        Manner::NoEdns if query.edns.is_some() => vec![bytes(code(ResponseCode::FormErr))],
        Manner::NoEdns => vec![bytes(answer(query))],
        Manner::Held(gate) => {
            gate.notified().await;
            vec![bytes(answer(query))]
        }
        Manner::Back(forwarder) => {
            let reply = forwarder
                .resolve(question, Ipv4Addr::LOCALHOST.into())
                .await;
            vec![bytes(code(reply.code))]
        }
    }
}

fn lies(query: &Message) -> Vec<Vec<u8>> {
    let lie = |change: fn(&mut Message)| {
        let mut message = answer(query);
        message.answers[0].data = RData::A(A(Ipv4Addr::new(192, 0, 2, 66)));
        change(&mut message);
        message.to_vec().unwrap()
    };
    vec![
        lie(|message| message.metadata.id = message.metadata.id.wrapping_add(1)),
        lie(|message| message.queries[0].name = Name::from_ascii("evil.test.").unwrap()),
        lie(|message| message.queries.clear()),
        lie(|message| message.metadata.message_type = MessageType::Query),
        vec![0xff; 40],
    ]
}

/// The truth: one address.
fn answer(query: &Message) -> Message {
    let question: Query = query.queries[0].clone();
    let mut message = Message::response(query.metadata.id, OpCode::Query);
    let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
    message.answers = vec![Record::from_rdata(question.name.clone(), 60, data)];
    message.queries = vec![question];
    message
}

async fn serve_tcp(listener: TcpListener, asked: Arc<Asked>) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await?;
        asked.tcp.fetch_add(1, SeqCst);
        let query = Message::from_vec(&bytes).unwrap();
        let mut message = answer(&query);
        let record = message.answers[0].clone();
        message.answers = vec![record; 100];
        let bytes = message.to_vec().unwrap();
        stream
            .write_u16(u16::try_from(bytes.len()).unwrap())
            .await?;
        stream.write_all(&bytes).await?;
    }
}

/// Times for upstreams that answer: only a failure uses them up.
pub(super) const PATIENT: Timing = Timing {
    attempt: Duration::from_secs(10),
    total: Duration::from_secs(30),
    stale: Duration::from_secs(10),
};

/// Times for upstreams that do not.
pub(super) const HASTY: Timing = Timing {
    attempt: Duration::from_millis(100),
    total: Duration::from_secs(10),
    stale: Duration::from_millis(50),
};

/// Asks again and again until it is so.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain until {what}");
}
