//! One question to one upstream: over UDP, and again over TCP if the answer does not fit.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use clusterip_common::wire::Be16;
use hickory_proto::{
    ProtoError,
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    serialize::binary::DecodeError,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};

/// What a datagram may hold without being cut in pieces on the way (the choice of DNS Flag Day 2020).
const PAYLOAD: u16 = 1_232;
/// Room for a datagram; a larger one is a lie.
const LARGEST: usize = 4_096;

/// An upstream that did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The question has no form on the wire.
    #[error("write the question")]
    Encode(#[from] ProtoError),
    /// Sockets failed; a refused connection among them.
    #[error("ask {address} over {transport}")]
    Socket {
        /// Who was asked.
        address: SocketAddr,
        /// UDP or TCP.
        transport: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer over TCP cannot be read.
    #[error("read the answer of {address}")]
    Decode {
        /// Who was asked.
        address: SocketAddr,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The answer over TCP is to another question.
    #[error("{address} answered another question")]
    Foreign {
        /// Who was asked.
        address: SocketAddr,
    },
    /// Nothing came in time.
    #[error("{address} did not answer in time")]
    Timeout {
        /// Who was asked.
        address: SocketAddr,
    },
}

/// Asks. Ends only with an answer or a failed socket: the caller bounds the time.
///
/// # Errors
/// Sockets failed, or the answer over TCP makes no sense. Datagrams that make none are not the answer: a liar must not
/// keep the true one away.
pub(super) async fn exchange(
    address: SocketAddr,
    question: &Query,
) -> Result<Message, ExchangeError> {
    let answer = over_udp(address, question, true).await?;
    // An old server that knows no EDNS (RFC 6891, section 7).
    let answer = match answer.metadata.response_code {
        ResponseCode::FormErr | ResponseCode::NotImp => over_udp(address, question, false).await?,
        _ => answer,
    };
    if answer.metadata.truncation {
        return over_tcp(address, question).await;
    }
    Ok(answer)
}

async fn over_udp(
    address: SocketAddr,
    question: &Query,
    edns: bool,
) -> Result<Message, ExchangeError> {
    let (id, bytes) = ask(question, edns)?;
    let failed = |source| ExchangeError::Socket {
        address,
        transport: "UDP",
        source,
    };
    // A socket for each question: its port is a random one, and being connected it takes from `address` alone.
    let socket = UdpSocket::bind(any(address)).await.map_err(failed)?;
    socket.connect(address).await.map_err(failed)?;
    socket.send(&bytes).await.map_err(failed)?;
    let mut buffer = [0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(failed)?;
        let datagram = buffer.get(..length).unwrap_or_default();
        if let Ok(message) = Message::from_vec(datagram)
            && answers(&message, id, question)
        {
            return Ok(message);
        }
        log::debug!(upstream:% = address, name:% = question.name; "a datagram that is no answer to the question was dropped");
    }
}

async fn over_tcp(address: SocketAddr, question: &Query) -> Result<Message, ExchangeError> {
    let (id, bytes) = ask(question, true)?;
    let failed = |source| ExchangeError::Socket {
        address,
        transport: "TCP",
        source,
    };
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    // A question has some 300 bytes at most.
    let length = Be16::new(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    let mut framed = length.0.to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await.map_err(failed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await.map_err(failed)?;
    let mut bytes = vec![0; Be16(length).get().into()];
    stream.read_exact(&mut bytes).await.map_err(failed)?;
    let message =
        Message::from_vec(&bytes).map_err(|source| ExchangeError::Decode { address, source })?;
    if !answers(&message, id, question) {
        return Err(ExchangeError::Foreign { address });
    }
    Ok(message)
}

/// The local end of a socket to `address`: the kernel chooses.
const fn any(address: SocketAddr) -> SocketAddr {
    let local = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(local, 0)
}

/// A question's id and bytes.
fn ask(question: &Query, edns: bool) -> Result<(u16, Vec<u8>), ProtoError> {
    let mut message = Message::query();
    message.metadata.id = rand::random();
    message.metadata.recursion_desired = true;
    message.queries = vec![question.clone()];
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        message.edns = Some(edns);
    }
    Ok((message.metadata.id, message.to_vec()?))
}

fn answers(message: &Message, id: u16, question: &Query) -> bool {
    let metadata = &message.metadata;
    let is_response = metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query
        && metadata.id == id;
    let repeats = match message.queries.as_slice() {
        [one] => {
            one.name == question.name
                && one.query_type == question.query_type
                && one.query_class == question.query_class
        }
        // A server that could not even read the question has nothing to repeat.
        [] => metadata.response_code == ResponseCode::FormErr,
        _ => false,
    };
    is_response && repeats
}

#[cfg(test)]
mod tests {
    use super::{super::packed::tests::question, *};

    type Change = fn(&mut Message);

    #[test]
    fn an_answer_has_the_id_and_the_question() {
        let asked = question("www.test.");
        let table: [(&str, Change, bool); 7] = [
            ("the same", |_| {}, true),
            (
                "in another case",
                |m| m.queries = vec![question("WWW.test.")],
                true,
            ),
            ("another id", |m| m.metadata.id = 2, false),
            (
                "another name",
                |m| m.queries = vec![question("w3.test.")],
                false,
            ),
            ("no question", |m| m.queries.clear(), false),
            (
                "two questions",
                |m| m.queries.push(m.queries[0].clone()),
                false,
            ),
            (
                "a query",
                |m| m.metadata.message_type = MessageType::Query,
                false,
            ),
        ];
        for (what, change, wanted) in table {
            let mut message = Message::response(1, OpCode::Query);
            message.queries = vec![asked.clone()];
            change(&mut message);
            assert_eq!(answers(&message, 1, &asked), wanted, "{what}");
        }
    }

    #[test]
    fn ids_are_random() {
        let ids: std::collections::BTreeSet<u16> = (0..64)
            .map(|_| ask(&question("www.test."), true).unwrap().0)
            .collect();
        assert!(ids.len() > 48, "{ids:?}");
    }
}
