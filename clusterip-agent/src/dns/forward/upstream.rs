//! One upstream: how it fares, and its recovery.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use tokio::time::{sleep_until, timeout};

use super::{
    exchange::{ExchangeError, exchange},
    health::Health,
};
use crate::dns::metrics::UpstreamFigures;

/// How long a check of its health may take.
const CHECK: Duration = Duration::from_secs(1);

/// A resolver that is asked.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    health: Mutex<Health>,
    /// A task looks whether it answers again.
    is_watched: AtomicBool,
    /// It leads back to us.
    is_loop: AtomicBool,
    figures: UpstreamFigures,
}

impl Upstream {
    /// One that is thought to be well.
    #[must_use]
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            health: Mutex::default(),
            is_watched: AtomicBool::new(false),
            is_loop: AtomicBool::new(false),
            figures: UpstreamFigures::default(),
        })
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked and how it answered.
    #[must_use]
    pub const fn figures(&self) -> &UpstreamFigures {
        &self.figures
    }

    /// Until when it rests, if it does.
    #[must_use]
    pub fn resting(&self) -> Option<Instant> {
        self.health().resting()
    }

    /// Whether it leads back to us.
    #[must_use]
    pub fn is_loop(&self) -> bool {
        self.is_loop.load(Relaxed)
    }

    /// It leads back to us: it is not asked any more.
    pub fn close_loop(&self) {
        if !self.is_loop.swap(true, Relaxed) {
            log::error!(
                upstream:% = self.address;
                "the upstream asks this resolver in its turn: it is not used; name another one with --dns-upstream or --dns-stub"
            );
        }
    }

    /// Asks, and remembers how that went.
    ///
    /// # Errors
    /// No answer within `patience`.
    pub async fn ask(
        self: &Arc<Self>,
        question: &Query,
        patience: Duration,
    ) -> Result<Message, ExchangeError> {
        self.figures.ask();
        let start = Instant::now();
        let answer = self.exchange(question, patience).await;
        match &answer {
            Ok(message) => {
                self.figures
                    .answer(message.metadata.response_code, start.elapsed());
                let is_new = self.resting().is_some();
                self.health().succeed();
                if is_new {
                    log::info!(upstream:% = self.address; "the upstream answers again");
                }
            }
            Err(error) => {
                log::debug!(upstream:% = self.address, error:err = *error; "the upstream did not answer");
                if self.health().fail(Instant::now()).is_some() {
                    self.watch();
                }
            }
        }
        answer
    }

    async fn exchange(
        &self,
        question: &Query,
        patience: Duration,
    ) -> Result<Message, ExchangeError> {
        let address = self.address;
        let answer = timeout(patience, exchange(address, question)).await;
        answer.unwrap_or(Err(ExchangeError::Timeout { address }))
    }

    /// Looks now and then whether it answers again, so that no question has to find out.
    fn watch(self: &Arc<Self>) {
        if self.is_watched.swap(true, Relaxed) {
            return;
        }
        log::warn!(upstream:% = self.address; "the upstream does not answer: it rests");
        let upstream = Arc::downgrade(self);
        tokio::spawn(async move {
            // When the configuration has no place for it any more, it is gone.
            while let Some(until) = upstream.upgrade().and_then(|upstream| upstream.resting()) {
                sleep_until(until.into()).await;
                if let Some(upstream) = upstream.upgrade() {
                    upstream.check().await;
                }
            }
            if let Some(upstream) = upstream.upgrade() {
                upstream.is_watched.store(false, Relaxed);
            }
        });
    }

    async fn check(&self) {
        let question = Query::query(Name::root(), RecordType::NS);
        if self.exchange(&question, CHECK).await.is_ok() {
            self.health().succeed();
            log::info!(upstream:% = self.address; "the upstream answers again");
        } else {
            self.figures.fail_check();
            self.health().fail(Instant::now());
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // A health is valid whatever panicked while it was held.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
