//! `dns query`

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::Record,
};
use serde::{Deserialize, Serialize};

use super::VERSION;

/// The document of `dns query -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// See [`VERSION`].
    pub version: u32,
    /// How it went: NOERROR, NXDOMAIN, ...
    pub rcode: String,
    /// Whether it is said by who knows: the zone's own data.
    pub authoritative: bool,
    /// What was asked for, aliases first.
    pub answers: Vec<RecordView>,
    /// The SOA where there is nothing to answer, or name servers.
    pub authority: Vec<RecordView>,
    /// How long the resolver took.
    pub microseconds: u64,
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordView {
    /// Whose.
    pub name: String,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// A, SRV, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// As zone files have it.
    pub data: String,
}

/// What the resolver said.
#[must_use]
pub fn lookup(message: &Message, microseconds: u64) -> Lookup {
    Lookup {
        version: VERSION,
        rcode: code(message.metadata.response_code),
        authoritative: message.metadata.authoritative,
        answers: message.answers.iter().map(record).collect(),
        authority: message.authorities.iter().map(record).collect(),
        microseconds,
    }
}

fn record(record: &Record) -> RecordView {
    RecordView {
        name: record.name.to_ascii(),
        ttl: record.ttl,
        kind: record.record_type().to_string(),
        data: record.data.to_string(),
    }
}

/// As dig writes it.
fn code(code: ResponseCode) -> String {
    format!("{code:?}").to_ascii_uppercase()
}
