//! What is said to a question, before it has a form on the wire.

use hickory_proto::{op::ResponseCode, rr::Record};

use super::forward;

/// The records of an answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// How it went.
    pub code: ResponseCode,
    /// Whether it is said by who knows (the zone's own data), not by hearsay.
    pub authoritative: bool,
    /// What was asked for, aliases first.
    pub answers: Vec<Record>,
    /// The SOA where there is nothing to answer (RFC 2308), or name servers.
    pub authorities: Vec<Record>,
    /// What will be asked next.
    pub additionals: Vec<Record>,
}

impl Reply {
    /// No records.
    #[must_use]
    pub const fn empty(code: ResponseCode, authoritative: bool) -> Self {
        Self {
            code,
            authoritative,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

impl From<forward::Reply> for Reply {
    fn from(said: forward::Reply) -> Self {
        let forward::Reply {
            code,
            answers,
            authorities,
        } = said;
        Self {
            code,
            authoritative: false,
            answers,
            authorities,
            additionals: Vec::new(),
        }
    }
}
