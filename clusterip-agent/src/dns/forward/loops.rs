//! Whether an upstream asks us in its turn: a question with a name that nobody else can know is sent to it, and if it
//! comes back, it does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hickory_proto::{
    ProtoError,
    op::Query,
    rr::{Name, RecordType},
};
use tokio::time::sleep;

use super::{key::Key, pool::Timing, upstream::Upstream};

/// Type of the question: one that nobody asks for (`CoreDNS`'s choice).
const KIND: RecordType = RecordType::HINFO;
/// Times that an upstream is asked, which may start later than we do.
const TRIES: u32 = 3;

/// The questions that are out to find a loop.
#[derive(Default, Debug)]
pub(super) struct Loops(Mutex<HashMap<Key, Arc<Upstream>>>);

impl Loops {
    /// Whether a question is one of ours that came back. Its upstream is not asked from now on.
    pub(super) fn comes_back(&self, question: &Query) -> bool {
        if question.query_type != KIND {
            return false;
        }
        let found = self.out().get(&Key::new(question)).cloned();
        if let Some(upstream) = &found {
            upstream.close_loop();
        }
        found.is_some()
    }

    /// Looks whether an upstream, which is asked for the names of `zone`, leads back here.
    pub(super) async fn look(&self, zone: &Name, upstream: &Arc<Upstream>, timing: &Timing) {
        let question = match name(zone) {
            Ok(name) => Query::query(name, KIND),
            Err(error) => {
                log::warn!(zone:%, error:err; "the zone's name leaves no room to look for loops");
                return;
            }
        };
        let key = Key::new(&question);
        self.out().insert(key.clone(), Arc::clone(upstream));
        for _ in 0..TRIES {
            if upstream.ask(&question, timing.attempt).await.is_ok() || upstream.is_loop() {
                break;
            }
            sleep(timing.attempt).await;
        }
        self.out().remove(&key);
    }

    fn out(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Upstream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name in a zone that nobody can guess.
fn name(zone: &Name) -> Result<Name, ProtoError> {
    let label = || format!("{:016x}", rand::random::<u64>());
    zone.prepend_label(label())?.prepend_label(label())
}
