//! A question of the node itself, without a socket: answered the way any client's is.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use hickory_proto::{
    ProtoError,
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use tokio::sync::watch;

use super::{
    message::Transport,
    responder::{Responder, Response},
    state::State,
};

/// Who asks: this node.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What cannot be asked, or was not answered.
#[derive(Debug, thiserror::Error)]
pub enum InquiryError {
    /// No name.
    #[error("{name:?} is no name: labels of up to 63 bytes with dots between them")]
    Name {
        /// What was given.
        name: String,
    },
    /// No type.
    #[error("{kind:?} is no type of records: A, AAAA, SRV, PTR, CNAME, TXT, SOA, NS, ...")]
    Kind {
        /// What was given.
        kind: String,
    },
    /// A question or an answer has no form on the wire.
    #[error("the resolver's message has no form on the wire")]
    Message(#[from] ProtoError),
    /// The resolver says nothing.
    #[error("the resolver does not answer this question")]
    Silence,
}

/// A name and a type as people write them. A name is absolute, with or without its final dot.
///
/// # Errors
/// One of them is none.
pub fn question(name: &str, kind: &str) -> Result<Query, InquiryError> {
    let no_name = || InquiryError::Name {
        name: name.to_owned(),
    };
    if name.is_empty() {
        return Err(no_name());
    }
    let mut parsed = Name::from_ascii(name).map_err(|_wrong| no_name())?;
    parsed.set_fqdn(true);
    let no_kind = |_| InquiryError::Kind {
        kind: kind.to_owned(),
    };
    let kind: RecordType = kind.to_ascii_uppercase().parse().map_err(no_kind)?;
    Ok(Query::query(parsed, kind))
}

/// Asks the resolver. Cloning gives another handle of it.
#[derive(Clone, Debug)]
pub struct Inquirer {
    responder: Arc<Responder>,
    states: watch::Receiver<Option<Arc<State>>>,
    /// Numbers of the questions: addresses take turns by them.
    next: Arc<AtomicU16>,
}

impl Inquirer {
    pub(super) fn new(
        responder: Arc<Responder>,
        states: watch::Receiver<Option<Arc<State>>>,
    ) -> Self {
        Self {
            responder,
            states,
            next: Arc::default(),
        }
    }

    /// The answer: whole, as over TCP.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(&self, query: Query) -> Result<Message, InquiryError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(query);
        let bytes = message.to_vec()?;
        let state = self.states.borrow().clone();
        let response = self
            .responder
            .respond(state.as_deref(), &bytes, CLIENT, Transport::Tcp);
        let bytes = match response {
            Response::Now(bytes) => Some(bytes),
            Response::Later(elsewhere) => self.responder.ask_elsewhere(elsewhere).await,
            Response::Never => None,
        };
        let bytes = bytes.ok_or(InquiryError::Silence)?;
        Ok(Message::from_vec(&bytes).map_err(ProtoError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_absolute_and_case_of_the_type_does_not_matter() {
        let bare = question("web.example", "srv").unwrap();
        assert_eq!(bare, question("web.example.", "SRV").unwrap());
        assert_eq!(bare.name().to_ascii(), "web.example.");
        assert!(question(".", "NS").unwrap().name().is_root());
        for (name, kind) in [("", "A"), ("a..b", "A"), ("web", "NONSENSE")] {
            assert!(question(name, kind).is_err(), "{name:?} {kind}");
        }
    }
}
