//! A large hash, read by two threads at once.
//!
//! Reading one waits for memory: each entry is a miss of the processor's caches. Two that wait at the same time are done in
//! little more than half the time.

use std::{
    collections::HashSet,
    hash::Hash,
    io,
    ops::ControlFlow,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use aya::Pod;

use super::{CHUNK, Chunk, Whole, walk};

/// Batches that may wait for whoever looks at them.
const WAITING: usize = 4;
/// Fewer buckets than these are not worth a thread.
const LEAST: u32 = 1 << 16;

/// What a bucket walk found.
type Found<K, V> = Vec<(K, V)>;

impl<K, V> Whole<K, V>
where
    K: Pod + Eq + Hash + Send + Sync,
    V: Pod + Send + Sync,
{
    /// As [`Whole::visit`], of a hash with room for so many entries.
    pub(in super::super) fn visit_hash(
        &self,
        room: u32,
        blank: (K, V),
        mut each: impl FnMut(&K, &V),
    ) -> io::Result<()> {
        // The kernel has a bucket for each entry there is room for, and as many more as make a power of two.
        let middle = room.next_power_of_two() / 2;
        let is_alone = thread::available_parallelism().is_ok_and(|count| count.get() == 1);
        if middle < LEAST || is_alone {
            return self.visit(blank, each);
        }
        let (sender, receiver) = sync_channel(WAITING);
        let mut second = Second {
            receiver,
            first: None,
        };
        thread::scope(|scope| {
            let reader = thread::Builder::new()
                .name("second-half".to_owned())
                .spawn_scoped(scope, move || self.hand_over(middle, blank, &sender))?;
            let first = self.first_half(middle, blank, &mut second, &mut each);
            while first.is_ok() && second.wait(&mut each) {}
            // It ends if it still has something for us.
            drop(second);
            let rest = reader.join();
            first.and(rest.unwrap_or_else(|_panic| Err(io::Error::other("a reader ended"))))
        })
    }

    /// The buckets from one on; ends early if nobody takes what is found.
    fn hand_over(
        &self,
        from: u32,
        blank: (K, V),
        taker: &SyncSender<Found<K, V>>,
    ) -> io::Result<()> {
        let mut chunk = Chunk::of(blank, CHUNK);
        walk(
            &self.map,
            &chunk.buffers(),
            Some(from),
            usize::MAX,
            |found, _| {
                let found = chunk.entries(found).map(|(key, value)| (*key, *value));
                match taker.send(found.collect()) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_nobody) => ControlFlow::Break(()),
                }
            },
        )
    }

    /// The buckets up to one, and whatever the other half has meanwhile.
    fn first_half(
        &self,
        end: u32,
        blank: (K, V),
        second: &mut Second<K, V>,
        each: &mut impl FnMut(&K, &V),
    ) -> io::Result<()> {
        let mut chunk = Chunk::of(blank, CHUNK);
        walk(
            &self.map,
            &chunk.buffers(),
            None,
            usize::MAX,
            |found, next| {
                let found = chunk.entries(found);
                if next > end {
                    // The last batch reaches into the other half, as far as that one's first at the most.
                    let theirs = second.first(each);
                    found
                        .filter(|(key, _)| !theirs.contains(key))
                        .for_each(|(key, value)| each(key, value));
                } else {
                    found.for_each(|(key, value)| each(key, value));
                }
                second.look(each);
                if next < end {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        )
    }
}

/// What the other thread hands over.
struct Second<K, V> {
    receiver: Receiver<Found<K, V>>,
    /// The keys of its first batch; None as long as there is none.
    first: Option<HashSet<K>>,
}

impl<K: Copy + Eq + Hash, V> Second<K, V> {
    fn take(&mut self, batch: &Found<K, V>, each: &mut impl FnMut(&K, &V)) {
        if self.first.is_none() {
            self.first = Some(batch.iter().map(|(key, _)| *key).collect());
        }
        for (key, value) in batch {
            each(key, value);
        }
    }

    /// What is there already.
    fn look(&mut self, each: &mut impl FnMut(&K, &V)) {
        while let Ok(batch) = self.receiver.try_recv() {
            self.take(&batch, each);
        }
    }

    /// The next batch; false if there is none to come.
    fn wait(&mut self, each: &mut impl FnMut(&K, &V)) -> bool {
        let batch = self.receiver.recv();
        batch.is_ok_and(|batch| {
            self.take(&batch, each);
            true
        })
    }

    /// The keys of its first batch; none if there is none to come.
    fn first(&mut self, each: &mut impl FnMut(&K, &V)) -> &HashSet<K> {
        if self.first.is_none() {
            self.wait(each);
        }
        self.first.get_or_insert_default()
    }
}
