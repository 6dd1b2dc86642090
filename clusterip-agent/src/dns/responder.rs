//! From a client's bytes to an answer's: the zone's own names at once, others when somebody has said them.

use std::{net::IpAddr, time::Instant};

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{Name, Record},
};

use super::{
    access::{Access, is_host},
    account::{Account, Asked},
    answer::{Answer, answer},
    forward::{Age, Forwarder, Packed, autopath},
    message::{self, Read, Request, Transport},
    records::alias,
    reply::Reply,
    state::State,
    zone::Zone,
};

/// What answers are made with.
#[derive(Debug)]
pub struct Responder {
    /// The cluster's names.
    pub zone: Zone,
    /// Who may ask.
    pub access: Access,
    /// Who knows other names; without it they are refused.
    pub outside: Option<Outside>,
    /// Figures and log.
    pub account: Account,
}

/// Names outside the zone.
#[derive(Debug)]
pub struct Outside {
    /// Asks others.
    pub forwarder: Forwarder,
    /// The search list of the node, if those of pods are to be walked through in their place.
    pub search: Option<Vec<Name>>,
}

/// What becomes of a message.
pub(super) enum Response {
    Now(Vec<u8>),
    /// Somebody else knows.
    Later(Box<Elsewhere>),
    Never,
}

/// A question that is somebody else's.
pub(super) struct Elsewhere {
    asked: Asked,
    request: Request,
    find: Find,
}

/// How it is answered.
enum Find {
    /// By others; the aliases lead from the request's name to the question's.
    Forward {
        aliases: Vec<Record>,
        question: Query,
    },
    /// By the first of these names that exists; if none does, as was denied.
    Walk {
        names: Vec<Name>,
        denied: Reply,
        state: Box<State>,
    },
}

impl Responder {
    pub(super) fn respond(
        &self,
        state: Option<&State>,
        bytes: &[u8],
        client: IpAddr,
        transport: Transport,
    ) -> Response {
        if !is_host(client) {
            return Response::Never;
        }
        let asked = Asked {
            client,
            transport,
            size: bytes.len(),
            at: Instant::now(),
        };
        let request = match message::read(bytes) {
            Read::Request(request) => request,
            Read::Refused(bytes) => {
                self.account.note(&asked, None, &bytes);
                return Response::Now(bytes);
            }
            Read::Ignored => return Response::Never,
        };
        let snapshot = state.map(|state| &*state.snapshot);
        let reply = if self.access.allows(client, snapshot) {
            match answer(&self.zone, state, &request.query) {
                Answer::Reply(denied) if denied.code == ResponseCode::NXDomain => {
                    match self.walk(state, &request.query, client) {
                        Some((names, state)) => {
                            let find = Find::Walk {
                                names,
                                denied,
                                state: Box::new(state),
                            };
                            return later(asked, request, find);
                        }
                        None => denied,
                    }
                }
                Answer::Reply(reply) => reply,
                Answer::Elsewhere { aliases, question } => {
                    let Some((packed, age)) = self.kept(&question) else {
                        return later(asked, request, Find::Forward { aliases, question });
                    };
                    if aliases.is_empty()
                        && let Some(bytes) = request.relay(&packed, age, transport)
                    {
                        let is_own = false;
                        self.account
                            .note(&asked, Some((&request.query, is_own)), &bytes);
                        return Response::Now(bytes);
                    }
                    led(aliases, packed.reply(age).into())
                }
            }
        } else if state.is_none() {
            // Who is inside is not known yet either (J6).
            Reply::empty(ResponseCode::ServFail, false)
        } else {
            Reply::empty(ResponseCode::Refused, false)
        };
        let written = self.written(&asked, &request, reply);
        written.map_or(Response::Never, Response::Now)
    }

    pub(super) async fn ask_elsewhere(&self, elsewhere: Box<Elsewhere>) -> Option<Vec<u8>> {
        let Elsewhere {
            asked,
            request,
            find,
        } = *elsewhere;
        let reply = match find {
            Find::Forward { aliases, question } => {
                led(aliases, self.forwarded(&question, asked.client).await)
            }
            Find::Walk {
                names,
                denied,
                state,
            } => {
                let walked = self.walked(&state, names, &request.query, asked.client);
                walked.await.unwrap_or(denied)
            }
        };
        self.written(&asked, &request, reply)
    }

    /// What others say.
    async fn forwarded(&self, question: &Query, client: IpAddr) -> Reply {
        match &self.outside {
            Some(outside) => outside.forwarder.resolve(question, client).await.into(),
            None => Reply::empty(ResponseCode::Refused, false),
        }
    }

    /// What others have said before.
    fn kept(&self, question: &Query) -> Option<(std::sync::Arc<Packed>, Age)> {
        self.outside.as_ref()?.forwarder.kept(question)
    }

    /// The rest of the search list of a client's namespace, if that is to be walked through, and where it leads.
    fn walk(
        &self,
        state: Option<&State>,
        query: &Query,
        client: IpAddr,
    ) -> Option<(Vec<Name>, State)> {
        let search = self.outside.as_ref()?.search.as_ref()?;
        let state = state?;
        let pod = state.snapshot.pods_at(client.to_canonical()).next()?;
        let apex = &self.zone.apex;
        let names = autopath::continued(query.name(), &pod.namespace, apex, search)?;
        Some((names, state.clone()))
    }

    /// What is said to the first of `names` that exists. None if none does, and if one cannot be asked for: then the
    /// client goes on by itself.
    async fn walked(
        &self,
        state: &State,
        names: Vec<Name>,
        query: &Query,
        client: IpAddr,
    ) -> Option<Reply> {
        for name in names {
            let question = Query::query(name.clone(), query.query_type());
            let reply = match answer(&self.zone, Some(state), &question) {
                Answer::Reply(reply) => reply,
                Answer::Elsewhere { aliases, question } => {
                    led(aliases, self.forwarded(&question, client).await)
                }
            };
            match reply.code {
                ResponseCode::NXDomain => {}
                ResponseCode::NoError => return Some(led(vec![alias(query.name(), name)], reply)),
                _ => return None,
            }
        }
        None
    }

    fn written(&self, asked: &Asked, request: &Request, reply: Reply) -> Option<Vec<u8>> {
        let is_own = self.zone.below(request.query.name()).is_some();
        let recursion = self.outside.is_some();
        let bytes = request.write(reply, asked.transport, recursion)?;
        self.account
            .note(asked, Some((&request.query, is_own)), &bytes);
        Some(bytes)
    }
}

fn later(asked: Asked, request: Request, find: Find) -> Response {
    Response::Later(Box::new(Elsewhere {
        asked,
        request,
        find,
    }))
}

/// A reply behind the aliases that led to it.
fn led(aliases: Vec<Record>, mut reply: Reply) -> Reply {
    if !aliases.is_empty() {
        reply.answers.splice(..0, aliases);
        // The alias is the zone's own.
        reply.authoritative = true;
    }
    reply
}
