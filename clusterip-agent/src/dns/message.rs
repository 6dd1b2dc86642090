//! Questions and answers as bytes: what may be asked, and what of an answer fits.

use clusterip_common::wire::Be16;
use hickory_proto::{
    ProtoError,
    op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Record, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable as _, BinEncoder},
};

use super::{
    forward::{Age, Packed},
    reply::Reply,
};

/// Bytes of a header: what is shorter is no message.
const HEADER: usize = 12;
/// Bits of a header's third and fourth byte.
const RECURSION_DESIRED: u8 = 1;
const CHECKING_DISABLED: u8 = 0x10;
/// What a UDP answer may have without EDNS, and at least with it.
const PLAIN: u16 = 512;
/// Bytes of a record besides its data: a name, type, class, TTL and length.
const FIXED_PART: usize = 11;
/// What it may have at most, whatever the client says; and what this server takes.
pub(super) const MOST: u16 = 4096;

/// How a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    /// In a datagram: the answer has to fit into one.
    Udp,
    /// On a connection.
    Tcp,
}

/// A question that may be answered.
#[derive(Clone, Debug)]
pub(super) struct Request {
    head: Metadata,
    /// What is asked.
    pub(super) query: Query,
    edns: Option<Edns>,
}

/// What becomes of bytes.
#[derive(Debug)]
pub(super) enum Read {
    /// They are a question.
    Request(Request),
    /// They are not, or one that is not answered: this goes back.
    Refused(Vec<u8>),
    /// Nothing goes back: it is no message, or an answer.
    Ignored,
}

/// Reads bytes from a client.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut decoder = BinDecoder::new(bytes);
    if bytes.len() < HEADER {
        return Read::Ignored;
    }
    let Ok(Header {
        metadata: head,
        counts,
    }) = Header::read(&mut decoder)
    else {
        return Read::Ignored;
    };
    // Two servers that answer answers would never stop.
    if head.message_type == MessageType::Response {
        return Read::Ignored;
    }
    if head.op_code != OpCode::Query {
        return refused(head, None, None, ResponseCode::NotImp);
    }
    if counts.queries != 1 {
        return refused(head, None, None, ResponseCode::FormErr);
    }
    let Ok(query) = Query::read(&mut decoder) else {
        return refused(head, None, None, ResponseCode::FormErr);
    };
    let mut rest = |count: u16, is_last| {
        Message::read_records(&mut decoder, count.into(), is_last, head.op_code)
    };
    let sections = rest(counts.answers, false)
        .and_then(|_| rest(counts.authorities, false))
        .and_then(|_| rest(counts.additionals, true));
    let Ok((_additionals, edns, _signature)) = sections else {
        return refused(head, Some(query), None, ResponseCode::FormErr);
    };
    let code = if edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        ResponseCode::BADVERS
    } else if query.query_class() != DNSClass::IN
        || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR)
    {
        ResponseCode::Refused
    } else {
        return Read::Request(Request { head, query, edns });
    };
    refused(head, Some(query), edns, code)
}

fn refused(head: Metadata, query: Option<Query>, edns: Option<Edns>, code: ResponseCode) -> Read {
    let mut message = Message::response(head.id, head.op_code);
    message.metadata = Metadata::response_from_request(&head);
    message.metadata.response_code = code;
    message.queries.extend(query);
    message.edns = edns.map(|edns| own_edns(&edns));
    encoded(&message, u16::MAX).map_or(Read::Ignored, Read::Refused)
}

/// What this server says of itself to a client that speaks EDNS.
fn own_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MOST);
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

impl Request {
    /// The answer as bytes: as much of it as the client takes. Of records of one kind every client finds another one
    /// first.
    pub(super) fn write(
        &self,
        reply: Reply,
        transport: Transport,
        recursion: bool,
    ) -> Option<Vec<u8>> {
        let Reply {
            code,
            authoritative,
            answers,
            authorities,
            additionals,
        } = reply;
        let mut message = Message::response(self.head.id, self.head.op_code);
        message.metadata = Metadata::response_from_request(&self.head);
        message.metadata.authoritative = authoritative;
        message.metadata.recursion_available = recursion;
        message.metadata.response_code = code;
        message.queries.push(self.query.clone());
        message.answers = answers;
        message.authorities = authorities;
        message.additionals = additionals;
        message.edns = self.edns.as_ref().map(own_edns);
        turn(&mut message.answers, self.query.query_type(), self.head.id);
        fitted(message, self.limit(transport)).ok()
    }

    /// A reply of others that is kept in its bytes, without taking it apart. None if it has to be: it does not fit, or its
    /// addresses take turns.
    pub(super) fn relay(&self, kept: &Packed, age: Age, transport: Transport) -> Option<Vec<u8>> {
        if kept.has_turns() {
            return None;
        }
        let mut bytes = Vec::with_capacity(PLAIN.into());
        kept.write(age, &mut bytes);
        let [id @ .., flags, more] = bytes.first_chunk_mut::<4>()?;
        id.copy_from_slice(&Be16::new(self.head.id).0);
        *flags = *flags & !RECURSION_DESIRED | u8::from(self.head.recursion_desired);
        *more |= u8::from(self.head.checking_disabled) * CHECKING_DISABLED;
        // The name as this client wrote it; it has the length of the one that is there.
        let mut place = HEADER;
        for label in self.query.name() {
            place += 1;
            let end = place + label.len();
            bytes.get_mut(place..end)?.copy_from_slice(label);
            place = end;
        }
        if let Some(edns) = &self.edns {
            let end = u32::try_from(bytes.len()).ok()?;
            let mut encoder = BinEncoder::with_offset(&mut bytes, end);
            own_edns(edns).emit(&mut encoder).ok()?;
            let additionals = bytes.get_mut(HEADER - 2..HEADER)?;
            additionals.copy_from_slice(&Be16::new(1).0);
        }
        (bytes.len() <= self.limit(transport).into()).then_some(bytes)
    }

    fn limit(&self, transport: Transport) -> u16 {
        match (transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN, MOST),
        }
    }
}

/// Lets the addresses of an answer begin with another one, by the number of the question.
fn turn(answers: &mut [Record], kind: RecordType, id: u16) {
    if !matches!(kind, RecordType::A | RecordType::AAAA) {
        return;
    }
    let mut runs = answers.chunk_by_mut(|one, other| one.record_type() == other.record_type());
    if let Some(alike) = runs.find(|run| run.iter().all(|it| it.record_type() == kind)) {
        let by = usize::from(id).checked_rem(alike.len());
        alike.rotate_left(by.unwrap_or_default());
    }
}

/// A message of at most `limit` bytes. What nobody asked for goes first; then TC is set, and what fits of the answers
/// stays, as there are clients that never ask again by TCP (musl before 1.2.4).
fn fitted(mut message: Message, limit: u16) -> Result<Vec<u8>, ProtoError> {
    let bytes = encoded(&message, u16::MAX)?;
    if fits(&bytes, limit) {
        return Ok(bytes);
    }
    message.additionals.clear();
    let bytes = encoded(&message, u16::MAX)?;
    if fits(&bytes, limit) {
        return Ok(bytes);
    }
    message.authorities.clear();
    let answers = std::mem::take(&mut message.answers);
    // No record is shorter than its fixed part; the longest row that fits is looked for by halves.
    let (mut some, mut too_many) = (0, answers.len().min(usize::from(limit) / FIXED_PART) + 1);
    while some + 1 < too_many {
        let half = some.midpoint(too_many);
        message.answers = answers.get(..half).unwrap_or(&answers).to_vec();
        if fits(&encoded(&message, u16::MAX)?, limit) {
            some = half;
        } else {
            too_many = half;
        }
    }
    message.metadata.truncation = true;
    message.answers = answers.get(..some).unwrap_or_default().to_vec();
    encoded(&message, u16::MAX)
}

/// Whether a message is short enough and whole: the encoder leaves out what would make it longer than any message, and
/// says so by TC.
fn fits(bytes: &[u8], limit: u16) -> bool {
    let is_cut = bytes.get(2).is_some_and(|flags| flags & 2 != 0);
    !is_cut && bytes.len() <= limit.into()
}

fn encoded(message: &Message, limit: u16) -> Result<Vec<u8>, ProtoError> {
    let mut bytes = Vec::with_capacity(usize::from(PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    message.emit(&mut encoder)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RData, rdata::A};

    use super::*;

    fn request(name: &str, edns: Option<u16>, change: fn(&mut Message)) -> Request {
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        message.edns = edns.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload).set_dnssec_ok(true);
            edns
        });
        change(&mut message);
        match read(&message.to_vec().unwrap()) {
            Read::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn kept(addresses: u8) -> Packed {
        let name = Name::from_ascii("www.example.test.").unwrap();
        let mut message = Message::response(0, OpCode::Query);
        message.answers = (0..addresses)
            .map(|last| {
                let data = RData::A(A::new(192, 0, 2, last));
                Record::from_rdata(name.clone(), 60, data)
            })
            .collect();
        Packed::new(&Query::query(name, RecordType::A), message).unwrap()
    }

    #[test]
    fn what_is_relayed_is_what_would_be_written() {
        let kept = kept(1);
        let plain: fn(&mut Message) = |_| {};
        for (name, edns, change) in [
            ("www.example.test.", None, plain),
            ("WWW.Example.TEST.", Some(1232), plain),
            ("wWw.example.test.", None, |m| {
                m.metadata.recursion_desired = false;
            }),
            ("www.example.test.", Some(4096), |m| {
                m.metadata.checking_disabled = true;
            }),
        ] {
            let request = request(name, edns, change);
            let age = Age::Fresh(20);
            let relayed = request.relay(&kept, age, Transport::Udp).unwrap();
            let written = request.write(kept.reply(age).into(), Transport::Udp, true);
            let [relayed, written] =
                [relayed, written.unwrap()].map(|bytes| Message::from_vec(&bytes).unwrap());
            assert_eq!(relayed, written, "{name}");
            assert!(relayed.queries[0].name().eq_case(request.query.name()));
            assert_eq!(relayed.answers[0].ttl, 40);
        }
    }

    #[test]
    fn what_takes_turns_or_does_not_fit_is_not_relayed() {
        let request = request("www.example.test.", None, |_| {});
        let relay = |kept: &Packed, transport| request.relay(kept, Age::Stale, transport);
        assert_eq!(relay(&kept(2), Transport::Tcp), None);
        let mut long = Message::response(0, OpCode::Query);
        let text = hickory_proto::rr::rdata::TXT::new(vec!["x".repeat(250); 3]);
        let name = Name::from_ascii("www.example.test.").unwrap();
        long.answers = vec![Record::from_rdata(name, 60, RData::TXT(text))];
        let long = Packed::new(&request.query, long).unwrap();
        assert_eq!(relay(&long, Transport::Udp), None);
        assert!(relay(&long, Transport::Tcp).is_some());
    }
}
