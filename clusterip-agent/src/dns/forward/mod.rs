//! Names outside the zone: asked of upstreams, and kept (J8).
//!
//! ```text
//! question -> cache -> flight (once at a time) -> route (stub zone or not) -> pool -> upstream -> exchange (UDP, TCP)
//! ```

pub mod address;
pub mod autopath;
mod cache;
mod exchange;
mod flights;
mod follow;
mod health;
mod key;
mod loops;
mod packed;
mod pool;
mod routes;
#[cfg(test)]
mod tests;
mod upstream;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Instant,
};

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};
use tokio::time::timeout;

pub use self::{
    cache::Fill,
    packed::{Age, Kind, Packed},
    pool::Timing,
    routes::OwnAddress,
    upstream::Upstream,
};
use self::{
    cache::{Cache, Found},
    flights::{Boarding, Flight, Flights, Outcome, Waiting},
    key::Key,
    loops::Loops,
    routes::{Routes, is_own},
};
use super::metrics::CacheFigures;

/// Parts of the cache, each with a lock of its own.
const PARTS: usize = 16;

/// Where the upstreams for names in no stub zone come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstreams {
    /// These.
    Given(Vec<SocketAddr>),
    /// Those that a file names as resolv.conf does; it is read again when it changes.
    File(PathBuf),
}

/// What a forwarder is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is asked.
    pub upstreams: Upstreams,
    /// Who is asked for the names of a zone.
    pub stubs: Vec<(Name, SocketAddr)>,
    /// Where this resolver itself answers: never an upstream.
    pub own: Vec<SocketAddr>,
    /// Bytes of replies that may be kept.
    pub cache: usize,
    /// How long things may take.
    pub timing: Timing,
}

/// The answer to a question.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    /// Whether it succeeded.
    pub code: ResponseCode,
    /// Records that answer the question, TTLs counted down.
    pub answers: Vec<Record>,
    /// The SOA of a denial.
    pub authorities: Vec<Record>,
}

impl Reply {
    /// One without records.
    #[must_use]
    pub const fn failure(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
        }
    }
}

/// A reply that is kept in its bytes, and how old it is.
type Kept = (Arc<Packed>, Age);

/// Asks upstreams and keeps what they say. Cloning gives another handle of the same one.
#[derive(Clone, Debug)]
pub struct Forwarder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    cache: [Mutex<Cache>; PARTS],
    hasher: RandomState,
    flights: Arc<Flights>,
    routes: RwLock<Arc<Routes>>,
    loops: Loops,
    figures: CacheFigures,
}

impl Forwarder {
    /// One that has asked nobody yet.
    ///
    /// # Errors
    /// An upstream is this resolver itself.
    pub fn new(settings: Settings) -> Result<Self, OwnAddress> {
        let given: &[SocketAddr] = match &settings.upstreams {
            Upstreams::Given(given) => given,
            Upstreams::File(_) => &[],
        };
        let stubs = settings.stubs.iter().map(|(_, address)| address);
        if let Some(address) = stubs.chain(given).find(|one| is_own(**one, &settings.own)) {
            return Err(OwnAddress { address: *address });
        }
        let routes = Routes::new(&settings.stubs).with_others(given);
        let part = settings.cache / PARTS;
        let forwarder = Self(Arc::new(Shared {
            cache: std::array::from_fn(|_| Mutex::new(Cache::new(part))),
            hasher: RandomState::new(),
            flights: Arc::default(),
            routes: RwLock::new(Arc::new(routes)),
            loops: Loops::default(),
            figures: CacheFigures::default(),
            settings,
        }));
        if let Upstreams::File(path) = &forwarder.0.settings.upstreams {
            follow::read(path, &forwarder);
        }
        Ok(forwarder)
    }

    /// Follows the file that names the upstreams, and looks for loops. Never ends.
    pub async fn run(&self) {
        follow::run(self).await;
    }

    /// The answer to a question of `client`'s: within some seconds, whatever happens. SERVFAIL if no upstream answers
    /// and none ever did, REFUSED if there is none.
    pub async fn resolve(&self, question: &Query, client: IpAddr) -> Reply {
        if question.query_class != DNSClass::IN
            || matches!(question.query_type, RecordType::AXFR | RecordType::IXFR)
            || self.0.loops.comes_back(question)
        {
            return Reply::failure(ResponseCode::Refused);
        }
        let key = Key::new(question);
        let found = self.find(key.bytes(), question);
        if !matches!(found, Found::Fresh { .. }) {
            self.0.figures.miss();
        }
        match found {
            Found::Fresh { reply, age, .. } => reply.reply(age),
            Found::Expired {
                reply,
                failed: true,
            } => self.stale(&reply),
            Found::Expired {
                reply,
                failed: false,
            } => {
                let outcome = self.ask(&key, question, client);
                let patience = self.0.settings.timing.stale;
                match timeout(patience, outcome).await.ok().flatten() {
                    Some(fresh) if !is_failure(&fresh) => fresh.reply(Age::Fresh(0)),
                    _ => self.stale(&reply),
                }
            }
            Found::Failed => Reply::failure(ResponseCode::ServFail),
            Found::Nothing if self.has_nobody(&question.name) => {
                Reply::failure(ResponseCode::Refused)
            }
            Found::Nothing => match self.ask(&key, question, client).await {
                Some(reply) => reply.reply(Age::Fresh(0)),
                None => Reply::failure(ResponseCode::ServFail),
            },
        }
    }

    /// A reply that is kept for a question and holds, in its bytes: for who answers
    /// without waiting.
    #[must_use]
    pub fn kept(&self, question: &Query) -> Option<Kept> {
        if question.query_class != DNSClass::IN {
            return None;
        }
        let key = Key::new(question);
        match self.find(key.bytes(), question) {
            Found::Fresh { reply, age, .. } => Some((reply, age)),
            Found::Nothing | Found::Expired { .. } | Found::Failed => None,
        }
    }

    /// What the cache knows; counts what it has, and has a reply fetched again that is popular and about to expire.
    fn find(&self, key: &[u8], question: &Query) -> Found {
        let found = self.part(key).get(key, Instant::now());
        if let Found::Fresh { reply, refresh, .. } = &found {
            self.0.figures.hit(reply.kind());
            if *refresh {
                self.0.figures.prefetch();
                drop(self.board(&Key::new(question), question, None));
            }
        }
        found
    }

    fn stale(&self, reply: &Packed) -> Reply {
        self.0.figures.stale();
        reply.reply(Age::Stale)
    }

    async fn ask(&self, key: &Key, question: &Query, client: IpAddr) -> Outcome {
        self.board(key, question, Some(client))?.outcome().await
    }

    /// Has a question asked, unless it is on its way already. `client` is on whose behalf.
    fn board(&self, key: &Key, question: &Query, client: Option<IpAddr>) -> Option<Waiting> {
        match self.0.flights.board(key) {
            Boarding::Passenger(waiting) => Some(waiting),
            Boarding::Pilot(flight, waiting) => {
                // A task of its own: who asked first may go away while others wait.
                tokio::spawn(
                    self.clone()
                        .fly(flight, key.clone(), question.clone(), client),
                );
                Some(waiting)
            }
            Boarding::Full => {
                log::debug!(name:% = question.name, client:?; "too many questions are on their way upstream: refused");
                None
            }
        }
    }

    async fn fly(self, flight: Flight, key: Key, question: Query, client: Option<IpAddr>) {
        let routes = self.routes();
        let pool = routes.pool(&question.name);
        let answer = pool.ask(&question, &self.0.settings.timing).await;
        let packed = answer.map(|message| Packed::new(&question, message));
        let outcome = match packed {
            Ok(Ok(packed)) => Some(Arc::new(packed)),
            Ok(Err(error)) => {
                log::warn!(name:% = question.name, error:err; "an answer cannot be passed on");
                None
            }
            Err(error) => {
                log::debug!(name:% = question.name, kind:% = question.query_type, client:?, error:err; "no answer from upstream");
                None
            }
        };
        let now = Instant::now();
        let mut part = self.part(key.bytes());
        match &outcome {
            Some(reply) if !is_failure(reply) => part.put(key, Arc::clone(reply), now),
            _ => part.fail(key, now),
        }
        drop(part);
        flight.land(outcome);
    }

    fn part(&self, key: &[u8]) -> std::sync::MutexGuard<'_, Cache> {
        let Shared { cache, hasher, .. } = &*self.0;
        let place = hasher.hash_one(key) % PARTS as u64;
        let [first, ..] = cache;
        let place = usize::try_from(place).unwrap_or_default();
        let part = cache.get(place).unwrap_or(first);
        // Nothing panics while it is held; what is kept is valid even then.
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> Arc<Routes> {
        let routes = self.0.routes.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&routes)
    }

    fn set_routes(&self, routes: Routes) {
        let mut place = self
            .0
            .routes
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(routes);
    }

    /// Whether there is nobody to ask for a name.
    fn has_nobody(&self, name: &Name) -> bool {
        self.routes().pool(name).upstreams().is_empty()
    }

    /// How full the cache is.
    #[must_use]
    pub fn fill(&self) -> Fill {
        let mut total = Fill::default();
        for part in &self.0.cache {
            let Fill {
                success,
                denial,
                bytes,
                evicted,
            } = part.lock().unwrap_or_else(PoisonError::into_inner).fill();
            total.success += success;
            total.denial += denial;
            total.bytes += bytes;
            total.evicted += evicted;
        }
        total
    }

    /// What became of questions to the cache.
    #[must_use]
    pub fn cache_figures(&self) -> &CacheFigures {
        &self.0.figures
    }

    /// The upstreams, each once.
    #[must_use]
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        let mut found: Vec<Arc<Upstream>> = Vec::new();
        for (_, upstream) in self.routes().all() {
            if found
                .iter()
                .all(|known| known.address() != upstream.address())
            {
                found.push(Arc::clone(upstream));
            }
        }
        found
    }
}

/// Whether a reply says nothing about the name.
const fn is_failure(reply: &Packed) -> bool {
    !matches!(reply.code(), ResponseCode::NoError | ResponseCode::NXDomain)
}
