//! When the agent saw a service first: its age, where its object does not say when it was made.

use std::time::{Duration, SystemTime};

use rpds::RedBlackTreeMapSync;
use tokio::{sync::watch, time::sleep};

use crate::{
    model::{object::ObjectName, snapshot::Snapshot},
    reconcile::Published,
    view::{Clock, FirstSeen},
};

/// Ages are told in seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Seconds since 1970 by service. Cloning costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Ages(RedBlackTreeMapSync<ObjectName, i64>);

impl FirstSeen for Ages {
    fn first_seen(&self, service: &ObjectName) -> Option<i64> {
        self.0.get(service).copied()
    }
}

impl Ages {
    /// To tell ages by, now.
    pub(super) fn clock(&self) -> Clock<'_> {
        Clock {
            now: wall_clock(),
            first_seen: self,
        }
    }

    /// Notes who came and who is gone.
    fn see(&mut self, snapshot: &Snapshot, now: i64) {
        for name in snapshot.services.keys() {
            if !self.0.contains_key(name) {
                self.0.insert_mut(name.clone(), now);
            }
        }
        if self.0.size() > snapshot.services.size() {
            let is_gone = |name: &&ObjectName| !snapshot.services.contains_key(*name);
            let gone: Vec<ObjectName> = self.0.keys().filter(is_gone).cloned().collect();
            for name in gone {
                self.0.remove_mut(&name);
            }
        }
    }
}

/// Seconds since 1970.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    i64::try_from(seconds).unwrap_or_default()
}

pub(super) async fn follow(mut published: watch::Receiver<Published>, ages: watch::Sender<Ages>) {
    loop {
        let snapshot = published.borrow_and_update().snapshot.clone();
        ages.send_modify(|ages| ages.see(&snapshot, wall_clock()));
        // Many changes in a second are one look.
        sleep(PAUSE).await;
        if published.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::service::ResolvedService;

    fn snapshot(names: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for name in names {
            let name = ObjectName::new("default", name);
            let service = ResolvedService::nothing(name.clone());
            snapshot.set_service(&name, Some(Arc::new(service)));
        }
        snapshot
    }

    #[test]
    fn a_service_has_its_age_until_it_goes_and_another_when_it_is_back() {
        let mut ages = Ages::default();
        let age = |ages: &Ages, name| ages.first_seen(&ObjectName::new("default", name));
        ages.see(&snapshot(&["a", "b"]), 10);
        ages.see(&snapshot(&["b", "c"]), 20);
        assert_eq!(age(&ages, "a"), None);
        assert_eq!(age(&ages, "b"), Some(10));
        assert_eq!(age(&ages, "c"), Some(20));
        ages.see(&snapshot(&["a", "b", "c"]), 30);
        assert_eq!(age(&ages, "a"), Some(30));
    }
}
