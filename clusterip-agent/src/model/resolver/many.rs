//! Many services at once, as after a start: two threads resolve them, because each is a function of the objects alone.

use std::{panic, thread};

/// So few are not worth a thread.
const FEW: usize = 1_000;

/// What `work` makes of each, in their order.
pub(super) fn each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    // To ask for the processors costs some reads of files: not with each change.
    let is_alone = || thread::available_parallelism().is_ok_and(|count| count.get() == 1);
    if all.len() < FEW || is_alone() {
        return all.iter().map(work).collect();
    }
    let (first, second) = all.split_at(all.len() / 2);
    thread::scope(|scope| {
        let other = thread::Builder::new()
            .name("resolve".to_owned())
            .spawn_scoped(scope, || second.iter().map(&work).collect());
        let mut made: Vec<R> = first.iter().map(&work).collect();
        match other.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(rest)) => made.extend::<Vec<R>>(rest),
            Ok(Err(cause)) => panic::resume_unwind(cause),
            // No thread is to be had.
            Err(_) => made.extend(second.iter().map(&work)),
        }
        made
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_done_once_and_in_order() {
        for count in [0, 1, FEW - 1, FEW, FEW + 1] {
            let all: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = (0..count).map(|number| 2 * number).collect();
            assert_eq!(each(&all, |number| 2 * number), doubled);
        }
    }
}
