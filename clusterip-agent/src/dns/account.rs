//! What is told of each question: figures, and lines of the log (`--dns-log`).

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::RecordType,
};

use super::{
    message::Transport,
    metrics::{Exchanged, Served},
    zone::Zone,
};
use crate::config::DnsLog;

/// The place of the response code in a message, and its bits.
const CODE: (usize, u8) = (3, 0x0f);

/// A question as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) client: IpAddr,
    pub(super) transport: Transport,
    /// Bytes.
    pub(super) size: usize,
    pub(super) at: Instant,
}

/// Tells of questions.
#[derive(Debug)]
pub struct Account {
    served: Served,
    log: DnsLog,
}

impl Account {
    /// Of a server that listens there.
    #[must_use]
    pub fn new(listen: &[SocketAddr], zone: &Zone, log: DnsLog) -> Self {
        Self {
            served: Served::new(listen, &zone.apex.to_string()),
            log,
        }
    }

    /// Its figures.
    #[must_use]
    pub const fn served(&self) -> &Served {
        &self.served
    }

    /// A question was answered by a message. What it was, and whether it is the zone's own, unless it could not be read.
    pub(super) fn note(&self, asked: &Asked, question: Option<(&Query, bool)>, answer: &[u8]) {
        let Asked {
            client,
            transport,
            size,
            at,
        } = *asked;
        let (place, bits) = CODE;
        let code = answer.get(place).map_or(0, |flags| flags & bits);
        let code = ResponseCode::from(0, code);
        let time = at.elapsed();
        self.served.count(&Exchanged {
            is_own: question.is_some_and(|(_, is_own)| is_own),
            is_tcp: transport == Transport::Tcp,
            client,
            kind: question.map_or(RecordType::ZERO, |(query, _)| query.query_type()),
            code,
            asked: size,
            answered: answer.len(),
            time,
        });
        let is_told = match self.log {
            DnsLog::Off => false,
            DnsLog::Errors => !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain),
            DnsLog::All => true,
        };
        if is_told {
            let name = question.map_or_else(String::new, |(query, _)| query.name().to_ascii());
            let kind =
                question.map_or_else(String::new, |(query, _)| query.query_type().to_string());
            let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            log::info!(
                client:%, name, kind, code:? = code, microseconds, bytes = answer.len();
                "DNS question"
            );
        }
    }
}
