//! Replies that came before: bounded in bytes, the least recently asked for goes first. Told the time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;

use super::{
    key::Key,
    packed::{Age, Kind, Packed},
};

/// How long an expired reply may still be given when no upstream answers (RFC 8767, section 5: a day is plenty).
const STALE_FOR: Duration = Duration::from_hours(24);
/// After an upstream failed, how long an expired reply is given without asking (RFC 8767, section 5).
const RECHECK: Duration = Duration::from_secs(30);
/// How long a failure without any reply is remembered (RFC 9520, section 3.2: one second at least).
const FAILURE: Duration = Duration::from_secs(1);
/// A reply that was asked for this often is fetched again before it expires.
const POPULAR: u32 = 3;
/// ... when this part of its life is left: a tenth.
const LATE: u32 = 10;
/// Bytes beside a reply: its entry in table and list.
const OVERHEAD: usize = 128;

/// What is known of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A reply that holds.
    Fresh {
        /// The reply.
        reply: Arc<Packed>,
        /// Seconds since it came.
        age: Age,
        /// It is popular and about to expire: ask again, without letting anybody wait.
        refresh: bool,
    },
    /// A reply that has expired.
    Expired {
        /// The reply.
        reply: Arc<Packed>,
        /// No upstream answered a moment ago: give this one at once.
        failed: bool,
    },
    /// No upstream answered a moment ago, and there is no older reply.
    Failed,
}

/// How full it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fill {
    /// Replies that say what there is.
    pub success: usize,
    /// Replies that say there is none.
    pub denial: usize,
    /// Bytes.
    pub bytes: usize,
    /// How many were thrown out for want of room, ever.
    pub evicted: u64,
}

#[derive(Debug)]
struct Entry {
    /// None: nobody answered, ever.
    reply: Option<Arc<Packed>>,
    came: Instant,
    /// When no upstream answered last.
    failed: Option<Instant>,
    hits: u32,
    /// Was said to be refreshed.
    refreshing: bool,
}

impl Entry {
    fn size(&self, key: &Key) -> usize {
        let reply = self.reply.as_deref().map_or(0, Packed::size);
        reply + key.bytes().len() + size_of::<Self>() + OVERHEAD
    }

    fn failed_within(&self, time: Duration, now: Instant) -> bool {
        self.failed
            .is_some_and(|failed| now.saturating_duration_since(failed) < time)
    }
}

/// Replies by question.
#[derive(Debug)]
pub(super) struct Cache {
    entries: LruCache<Key, Entry>,
    capacity: usize,
    fill: Fill,
}

impl Cache {
    /// An empty one that keeps `capacity` bytes at most.
    #[must_use]
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            entries: LruCache::unbounded(),
            capacity,
            fill: Fill::default(),
        }
    }

    /// How full it is.
    #[must_use]
    pub(super) const fn fill(&self) -> Fill {
        self.fill
    }

    /// What is known of a question now.
    pub(super) fn get(&mut self, key: &[u8], now: Instant) -> Found {
        let Some(entry) = self.entries.get_mut(key) else {
            return Found::Nothing;
        };
        let Some(reply) = &entry.reply else {
            return if entry.failed_within(FAILURE, now) {
                Found::Failed
            } else {
                Found::Nothing
            };
        };
        let age = now.saturating_duration_since(entry.came);
        let life = reply.life();
        if age < life {
            entry.hits = entry.hits.saturating_add(1);
            let is_late = life.saturating_sub(age) <= life / LATE;
            let refresh = is_late && entry.hits >= POPULAR && !entry.refreshing;
            entry.refreshing |= refresh;
            Found::Fresh {
                reply: Arc::clone(reply),
                // Less than a life, which is some hours at most.
                age: Age::Fresh(u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
                refresh,
            }
        } else if age < life.saturating_add(STALE_FOR) {
            Found::Expired {
                reply: Arc::clone(reply),
                failed: entry.failed_within(RECHECK, now),
            }
        } else {
            Found::Nothing
        }
    }

    /// Keeps a reply, if it may be kept.
    pub(super) fn put(&mut self, key: Key, reply: Arc<Packed>, now: Instant) {
        if reply.life().is_zero() {
            // What was kept before is older, and still something if upstreams fail.
            return;
        }
        self.insert(
            key,
            Entry {
                reply: Some(reply),
                came: now,
                failed: None,
                hits: 0,
                refreshing: false,
            },
        );
    }

    /// No upstream answered a question.
    pub(super) fn fail(&mut self, key: Key, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.failed = Some(now);
            entry.refreshing = false;
            return;
        }
        self.insert(
            key,
            Entry {
                reply: None,
                came: now,
                failed: Some(now),
                hits: 0,
                refreshing: false,
            },
        );
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        self.count(&key, &entry, true);
        if let Some((key, old)) = self.entries.push(key, entry) {
            self.count(&key, &old, false);
        }
        while self.fill.bytes > self.capacity {
            let Some((key, old)) = self.entries.pop_lru() else {
                return;
            };
            self.count(&key, &old, false);
            self.fill.evicted += 1;
        }
    }

    fn count(&mut self, key: &Key, entry: &Entry, comes: bool) {
        let add = |figure: &mut usize, number: usize| {
            *figure = if comes {
                *figure + number
            } else {
                figure.saturating_sub(number)
            };
        };
        add(&mut self.fill.bytes, entry.size(key));
        match entry.reply.as_deref().map(Packed::kind) {
            Some(Kind::Success) => add(&mut self.fill.success, 1),
            Some(Kind::Denial) => add(&mut self.fill.denial, 1),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{
        super::packed::tests::{positive, question},
        *,
    };

    const ROOM: usize = 1 << 20;

    fn key(name: &str) -> Key {
        Key::new(&question(name))
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn kept(name: &str, ttl: u32) -> (Cache, Instant, Arc<Packed>) {
        let (mut cache, start) = (Cache::new(ROOM), Instant::now());
        let reply = Arc::new(positive(name, ttl));
        cache.put(key(name), Arc::clone(&reply), start);
        (cache, start, reply)
    }

    #[test]
    fn j8_a_reply_is_kept_for_its_life_and_grows_old() {
        let (mut cache, start, reply) = kept("a.test.", 60);
        let fresh = |seconds| Found::Fresh {
            reply: Arc::clone(&reply),
            age: Age::Fresh(seconds),
            refresh: false,
        };
        let name = key("a.test.");
        assert_eq!(cache.get(name.bytes(), start), fresh(0));
        assert_eq!(cache.get(name.bytes(), after(start, 50)), fresh(50));
        assert_eq!(cache.get(key("b.test.").bytes(), start), Found::Nothing);
        let expired = Found::Expired {
            reply: Arc::clone(&reply),
            failed: false,
        };
        assert_eq!(cache.get(name.bytes(), after(start, 60)), expired);
        let last = 60 + STALE_FOR.as_secs();
        assert_eq!(cache.get(name.bytes(), after(start, last - 1)), expired);
        assert_eq!(cache.get(name.bytes(), after(start, last)), Found::Nothing);
    }

    #[test]
    fn a_popular_reply_is_refreshed_once_before_it_expires() {
        let (mut cache, start, reply) = kept("a.test.", 60);
        let name = key("a.test.");
        let mut refresh = |seconds| match cache.get(name.bytes(), after(start, seconds)) {
            Found::Fresh { refresh, .. } => refresh,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [refresh(1), refresh(2), refresh(53)],
            [false; 3],
            "too early"
        );
        assert_eq!([refresh(54), refresh(55)], [true, false]);
        // A refresh that failed is tried again.
        cache.fail(key("a.test."), after(start, 56));
        let again = cache.get(name.bytes(), after(start, 57));
        assert!(
            matches!(again, Found::Fresh { refresh: true, .. }),
            "{again:?}"
        );
        cache.put(name.clone(), reply, after(start, 58));
        let rare = cache.get(name.bytes(), after(start, 58 + 59));
        assert!(
            matches!(rare, Found::Fresh { refresh: false, .. }),
            "{rare:?}"
        );
    }

    #[test]
    fn after_a_failure_an_expired_reply_is_given_at_once_for_a_while() {
        let (mut cache, start, reply) = kept("a.test.", 60);
        let name = key("a.test.");
        cache.fail(name.clone(), after(start, 70));
        let expired = |failed| Found::Expired {
            reply: Arc::clone(&reply),
            failed,
        };
        assert_eq!(cache.get(name.bytes(), after(start, 99)), expired(true));
        assert_eq!(cache.get(name.bytes(), after(start, 100)), expired(false));
    }

    #[test]
    fn a_failure_without_a_reply_is_remembered_for_a_second() {
        let (mut cache, start) = (Cache::new(ROOM), Instant::now());
        let name = key("a.test.");
        cache.fail(name.clone(), start);
        assert_eq!(cache.get(name.bytes(), start), Found::Failed);
        assert_eq!(cache.get(name.bytes(), after(start, 1)), Found::Nothing);
        assert_eq!((cache.fill().success, cache.fill().denial), (0, 0));
    }

    #[test]
    fn what_may_not_be_kept_does_not_displace_what_was() {
        let (mut cache, start, reply) = kept("a.test.", 60);
        cache.put(key("a.test."), Arc::new(positive("a.test.", 0)), start);
        let found = cache.get(key("a.test.").bytes(), start);
        assert!(matches!(found, Found::Fresh { reply: kept, .. } if kept == reply));
    }

    proptest! {
        /// The bound holds after every step; what is found is what was put last, and was not thrown out for nothing.
        #[test]
        fn memory_is_bounded_and_the_last_reply_wins(
            capacity in 500_usize..20_000,
            steps in prop::collection::vec((0_u8..40, 1_u32..100, 0_u64..20, any::<bool>()), 1..200),
        ) {
            let mut cache = Cache::new(capacity);
            let mut now = Instant::now();
            let mut model: HashMap<u8, (Arc<Packed>, Instant)> = HashMap::new();
            for (name, ttl, pause, fails) in steps {
                now += Duration::from_secs(pause);
                let text = format!("n{name}.test.");
                if fails {
                    cache.fail(key(&text), now);
                } else {
                    let reply = Arc::new(positive(&text, ttl));
                    cache.put(key(&text), Arc::clone(&reply), now);
                    model.insert(name, (reply, now));
                }
                prop_assert!(cache.fill().bytes <= capacity);
                match (cache.get(key(&text).bytes(), now), model.get(&name)) {
                    (Found::Fresh { reply, age: Age::Fresh(age), .. }, Some((wanted, came))) => {
                        prop_assert_eq!(&reply, wanted);
                        let passed = now - *came;
                        prop_assert_eq!(u64::from(age), passed.as_secs());
                        prop_assert!(passed < reply.life());
                    }
                    (Found::Expired { reply, .. }, Some((wanted, came))) => {
                        prop_assert_eq!(&reply, wanted);
                        prop_assert!(now - *came >= reply.life());
                    }
                    (Found::Fresh { age: Age::Stale, .. }, _) => prop_assert!(false, "stale and fresh"),
                    (Found::Fresh { .. } | Found::Expired { .. }, None) => prop_assert!(false, "nobody put that"),
                    (Found::Nothing | Found::Failed, _) => {}
                }
            }
            let Fill { success, denial, bytes, evicted } = cache.fill();
            prop_assert_eq!(success, cache.entries.iter().filter(|(_, entry)| entry.reply.is_some()).count());
            prop_assert_eq!(denial, 0);
            let total: usize = cache.entries.iter().map(|(key, entry)| entry.size(key)).sum();
            prop_assert_eq!(bytes, total);
            prop_assert!(evicted > 0 || model.len() <= cache.entries.len());
        }
    }
}
