//! The chains of nftables as the kernel itself lists them: for where there is no program to ask, as in the image. Those of iptables
//! are among them, unless they are of its legacy back end.

use std::io;

use rtnetlink::{
    packet_core::{
        DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
        NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

/// Messages of nftables: its number among the subsystems of netfilter, and that of the message.
const NEW_CHAIN: u16 = 0x0a03;
const GET_CHAINS: u16 = 0x0a04;
/// A family, a version and a number of a resource come before the attributes.
const HEADER: usize = 4;
const TABLE: u16 = 1;
const NAME: u16 = 3;

/// One chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// `ip`, `ip6`, or another one.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// All chains of the calling thread's network namespace.
///
/// # Errors
/// The kernel has no nftables, or this process may not ask it.
pub(super) fn list() -> io::Result<Vec<Chain>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut question = NetlinkMessage::new(header, NetlinkPayload::from(Message::Get));
    question.finalize();
    let mut bytes = vec![0; question.buffer_len()];
    question.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut chains = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Message>::deserialize(rest);
            let message = message.map_err(|error| io::Error::other(error.to_string()))?;
            match message.payload {
                NetlinkPayload::InnerMessage(Message::Chain(chain)) => chains.push(chain),
                NetlinkPayload::Done(_) => return Ok(chains),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            let length = message.header.length.next_multiple_of(4) as usize;
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

enum Message {
    Get,
    Chain(Chain),
    Other,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        GET_CHAINS
    }

    fn buffer_len(&self) -> usize {
        HEADER
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // Every family.
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if header.message_type != NEW_CHAIN {
            return Ok(Self::Other);
        }
        let family = match payload.first() {
            Some(2) => "ip",
            Some(10) => "ip6",
            _ => "other",
        };
        let (mut table, mut name) = (String::new(), String::new());
        for attribute in NlasIterator::new(payload.get(HEADER..).unwrap_or_default()) {
            let attribute = attribute?;
            let text = || {
                let text = attribute.value().split(|byte| *byte == 0).next();
                String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
            };
            match attribute.kind() {
                TABLE => table = text(),
                NAME => name = text(),
                _ => {}
            }
        }
        Ok(Self::Chain(Chain {
            family,
            table,
            name,
        }))
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}
