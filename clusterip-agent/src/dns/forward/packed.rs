//! A reply as the bytes that it travels in, which is how the cache keeps it: its size is known, and it can be sent again
//! with another id, question and age without being taken apart.

use std::time::Duration;

use clusterip_common::wire::Be32;
use hickory_proto::{
    op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
    serialize::binary::{BinDecodable as _, BinDecoder, DecodeError},
};

use super::Reply;

/// Longest that a positive reply is kept, in seconds.
pub(super) const MAX_POSITIVE: u32 = 3_600;
/// Longest that "there is none" is kept, in seconds.
pub(super) const MAX_NEGATIVE: u32 = 1_800;
/// TTL of a reply that has expired and is given for want of a better one, in seconds (RFC 8767, section 4).
pub(super) const STALE_TTL: u32 = 30;

/// Offset of a record's TTL behind its name: type and class.
const TTL_OFFSET: usize = 4;

/// Whether there is something of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// There is.
    Success,
    /// There is no such name, or nothing of that type.
    Denial,
}

/// How old a reply is when it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Age {
    /// Seconds since it came; less than it lives.
    Fresh(u32),
    /// It has expired.
    Stale,
}

impl Age {
    const fn of(self, ttl: u32) -> u32 {
        match self {
            Self::Fresh(seconds) => ttl.saturating_sub(seconds),
            Self::Stale => STALE_TTL,
        }
    }
}

/// A reply in its bytes: header (id 0), the question, answers, and the SOA of a denial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    bytes: Box<[u8]>,
    /// Where the TTLs are.
    ttls: Box<[u16]>,
    code: ResponseCode,
    kind: Kind,
    /// It has several addresses, of which every client shall find another one first.
    has_turns: bool,
    /// Seconds that it may be kept; 0 for not at all.
    life: u32,
}

impl Packed {
    /// The reply in a response to `question`.
    ///
    /// What a stub resolver has no use for is left out: records of name servers and their addresses, EDNS.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(question: &Query, response: Message) -> Result<Self, hickory_proto::ProtoError> {
        let code = response.metadata.response_code;
        let (kind, life) = keep(question, &response);
        let cap = match kind {
            Kind::Success => MAX_POSITIVE,
            Kind::Denial => MAX_NEGATIVE,
        };
        let mut metadata = Metadata::new(0, MessageType::Response, OpCode::Query);
        metadata.recursion_desired = true;
        metadata.recursion_available = true;
        metadata.response_code = code;
        let mut message = Message::response(0, OpCode::Query);
        message.metadata = metadata;
        message.queries = vec![question.clone()];
        message.answers = response.answers;
        message.authorities = response.authorities;
        message
            .authorities
            .retain(|record| kind == Kind::Denial && record.record_type() == RecordType::SOA);
        for record in message.answers.iter_mut().chain(&mut message.authorities) {
            // A TTL of more than 31 bits counts as none (RFC 2181, section 8).
            record.ttl = if record.ttl > i32::MAX.cast_unsigned() {
                0
            } else {
                record.ttl.min(cap)
            };
        }
        let addresses = message
            .answers
            .iter()
            .filter(|record| matches!(record.record_type(), RecordType::A | RecordType::AAAA));
        let has_turns = addresses.count() > 1;
        let bytes = message.to_vec()?;
        let ttls = ttl_places(&bytes).unwrap_or_default();
        // Without the places of its TTLs it could not grow old.
        let life = if ttls.len() == message.answers.len() + message.authorities.len() {
            life
        } else {
            0
        };
        Ok(Self {
            bytes: bytes.into(),
            ttls: ttls.into(),
            code,
            kind,
            has_turns,
            life,
        })
    }

    /// How long it may be kept; zero for not at all.
    #[must_use]
    pub const fn life(&self) -> Duration {
        Duration::from_secs(self.life as u64)
    }

    /// Its response code.
    #[must_use]
    pub const fn code(&self) -> ResponseCode {
        self.code
    }

    /// Whether there is something of the name.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it has several addresses, which take turns at being the first.
    #[must_use]
    pub const fn has_turns(&self) -> bool {
        self.has_turns
    }

    /// Bytes of memory.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len() + size_of::<u16>() * self.ttls.len() + size_of::<Self>()
    }

    /// The message as it is sent, but for its id, which is 0; `message` is emptied first.
    pub fn write(&self, age: Age, message: &mut Vec<u8>) {
        message.clear();
        message.extend_from_slice(&self.bytes);
        for place in &self.ttls {
            let place = usize::from(*place);
            let Some(field) = message.get_mut(place..place + size_of::<Be32>()) else {
                continue;
            };
            if let Ok(bytes) = <[u8; 4]>::try_from(&*field) {
                let ttl = age.of(Be32(bytes).get());
                field.copy_from_slice(&Be32::new(ttl).0);
            }
        }
    }

    /// Its records.
    #[must_use]
    pub fn reply(&self, age: Age) -> Reply {
        let Ok(Message {
            metadata,
            mut answers,
            mut authorities,
            ..
        }) = Message::from_vec(&self.bytes)
        else {
            return Reply::failure(ResponseCode::ServFail);
        };
        for record in answers.iter_mut().chain(&mut authorities) {
            record.ttl = age.of(record.ttl);
        }
        Reply {
            code: metadata.response_code,
            answers,
            authorities,
        }
    }
}

/// What a response is, and how many seconds it may be kept.
fn keep(question: &Query, response: &Message) -> (Kind, u32) {
    let Message {
        metadata,
        answers,
        authorities,
        ..
    } = response;
    let answers_it = answers.iter().any(|record| {
        question.query_type == RecordType::ANY || record.record_type() == question.query_type
    });
    let least = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    match metadata.response_code {
        ResponseCode::NoError if answers_it => {
            let life = least(answers).unwrap_or(0);
            (Kind::Success, bounded(life, MAX_POSITIVE))
        }
        ResponseCode::NoError | ResponseCode::NXDomain => {
            // Without SOA nobody says for how long that is so (RFC 2308, section 5).
            let denied = authorities.iter().filter_map(denial).min().unwrap_or(0);
            let life = least(answers).map_or(denied, |aliases| aliases.min(denied));
            (Kind::Denial, bounded(life, MAX_NEGATIVE))
        }
        _ => (Kind::Denial, 0),
    }
}

/// A TTL of more than 31 bits counts as none (RFC 2181, section 8).
fn bounded(life: u32, most: u32) -> u32 {
    if life > i32::MAX.cast_unsigned() {
        0
    } else {
        life.min(most)
    }
}

/// Seconds that a denial with this SOA holds (RFC 2308, section 5).
fn denial(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    }
}

/// Where the TTLs are in a message; none if it is too long for such offsets.
fn ttl_places(bytes: &[u8]) -> Result<Vec<u16>, DecodeError> {
    let mut decoder = BinDecoder::new(bytes);
    let header = hickory_proto::op::Header::read(&mut decoder)?;
    let counts = header.counts;
    for _ in 0..counts.queries {
        Query::read(&mut decoder)?;
    }
    let mut places = Vec::new();
    for _ in 0..u32::from(counts.answers) + u32::from(counts.authorities) {
        Name::read(&mut decoder)?;
        let Ok(place) = u16::try_from(decoder.index() + TTL_OFFSET) else {
            return Ok(Vec::new());
        };
        places.push(place);
        decoder.read_u32()?;
        decoder.read_u32()?;
        let length = decoder.read_u16()?.unverified();
        decoder.read_slice(length.into())?;
    }
    Ok(places)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn question(name: &str) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
    }

    fn a(name: &str, ttl: u32) -> Record {
        let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
        Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
    }

    fn cname(name: &str, to: &str, ttl: u32) -> Record {
        let data = RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
        Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let name = |text| Name::from_ascii(text).unwrap();
        let soa = SOA::new(name("ns.test."), name("root.test."), 1, 2, 3, 4, minimum);
        Record::from_rdata(name("test."), ttl, RData::SOA(soa))
    }

    fn response(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Message {
        let mut message = Message::response(7, OpCode::Query);
        message.metadata.response_code = code;
        message.answers = answers;
        message.authorities = authorities;
        message
    }

    /// A positive reply of one address.
    pub(in super::super) fn positive(name: &str, ttl: u32) -> Packed {
        let response = response(ResponseCode::NoError, vec![a(name, ttl)], vec![]);
        Packed::new(&question(name), response).unwrap()
    }

    fn packed(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> Packed {
        Packed::new(&question("www.test."), response(code, answers, authorities)).unwrap()
    }

    #[test]
    fn a_reply_lives_as_long_as_its_shortest_record_up_to_the_cap() {
        use ResponseCode::{NXDomain, NoError, Refused, ServFail};
        let www = || a("www.test.", 60);
        let alias = || cname("www.test.", "web.test.", 20);
        let table = [
            ("an address", packed(NoError, vec![www()], vec![]), 60),
            (
                "an alias",
                packed(NoError, vec![alias(), a("web.test.", 60)], vec![]),
                20,
            ),
            (
                "a day",
                packed(NoError, vec![a("www.test.", 86_400)], vec![]),
                MAX_POSITIVE,
            ),
            (
                "a TTL of 32 bits",
                packed(NoError, vec![a("www.test.", u32::MAX)], vec![]),
                0,
            ),
            ("a denial", packed(NXDomain, vec![], vec![soa(60, 30)]), 30),
            (
                "a denial whose SOA is short",
                packed(NXDomain, vec![], vec![soa(10, 30)]),
                10,
            ),
            (
                "a day's denial",
                packed(NXDomain, vec![], vec![soa(86_400, 86_400)]),
                MAX_NEGATIVE,
            ),
            (
                "nothing of the type",
                packed(NoError, vec![], vec![soa(60, 40)]),
                40,
            ),
            (
                "an alias to nothing",
                packed(NXDomain, vec![alias()], vec![soa(60, 40)]),
                20,
            ),
            ("a denial without SOA", packed(NXDomain, vec![], vec![]), 0),
            ("a failure", packed(ServFail, vec![], vec![]), 0),
            ("a refusal", packed(Refused, vec![], vec![soa(60, 40)]), 0),
        ];
        for (what, packed, life) in table {
            assert_eq!(packed.life().as_secs(), u64::from(life), "{what}");
        }
    }

    #[test]
    fn ttls_count_down_in_records_and_in_bytes() {
        let answers = vec![cname("www.test.", "web.test.", 20), a("web.test.", 60)];
        let packed = packed(ResponseCode::NoError, answers, vec![soa(9, 9)]);
        let mut bytes = Vec::new();
        for (age, wanted) in [
            (Age::Fresh(0), [20, 60]),
            (Age::Fresh(5), [15, 55]),
            (Age::Stale, [STALE_TTL; 2]),
        ] {
            let reply = packed.reply(age);
            let ttls: Vec<u32> = reply.answers.iter().map(|record| record.ttl).collect();
            assert_eq!(ttls, wanted, "{age:?}");
            assert_eq!(reply.authorities, [], "name servers are not for stubs");
            packed.write(age, &mut bytes);
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!(message.answers, reply.answers, "{age:?}");
            assert_eq!(message.metadata.id, 0);
        }
    }

    proptest! {
        #[test]
        fn bytes_and_records_agree_at_any_age(ttls in prop::collection::vec(0_u32..100_000, 1..20), age in 0_u32..100_000) {
            let answers = ttls.iter().map(|ttl| a("www.test.", *ttl)).collect();
            let packed = packed(ResponseCode::NoError, answers, vec![]);
            let mut bytes = Vec::new();
            packed.write(Age::Fresh(age), &mut bytes);
            let message = Message::from_vec(&bytes).unwrap();
            for (record, ttl) in message.answers.iter().zip(&ttls) {
                prop_assert_eq!(record.ttl, (*ttl).min(MAX_POSITIVE).saturating_sub(age));
            }
            prop_assert_eq!(packed.reply(Age::Fresh(age)).answers, message.answers);
        }
    }
}
