//! Waiting for a condition, never for a time.

use std::{
    env,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::interrupt;

/// How long a condition may take to come true: long enough for a loaded machine, and only used up by a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(5);

/// How many times longer everything may take on this machine: an emulated one is slow, and knows it.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let factor = env::var("CLUSTERIP_TEST_SLOWNESS").ok();
    factor.and_then(|text| text.parse().ok()).unwrap_or(1)
});

/// Asks again and again until there is an answer.
///
/// # Errors
/// There was none within [`PATIENCE`], or the user wants to stop.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> Result<T> {
    until_or(what, PATIENCE, ask)
}

/// As [`until`], within a time of the caller's choice.
///
/// # Errors
/// There was no answer in that time, or the user wants to stop.
pub fn until_or<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Option<T>,
) -> Result<T> {
    let found = polled(patience, || match ask() {
        Some(answer) => Some(Some(answer)),
        None => interrupt::requested().then_some(None),
    });
    match found {
        Some(Some(answer)) => Ok(answer),
        Some(None) => bail!("interrupted while waiting until {what}"),
        None => bail!("waited {:?} in vain until {what}", patience * *SLOWNESS),
    }
}

/// The first answer within a time. Not cut short by a wish to stop: taking down needs it too.
pub(crate) fn polled<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience * *SLOWNESS;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_the_wait() {
        let mut left = 3;
        let answer = until("the third question is asked", || {
            left -= 1;
            (left == 0).then_some("yes")
        });
        assert_eq!(answer.unwrap(), "yes");
    }

    #[test]
    fn a_wait_in_vain_names_what_it_waited_for() {
        let error = until_or("pigs fly", Duration::ZERO, || None::<()>).unwrap_err();
        assert!(error.to_string().contains("until pigs fly"), "{error}");
    }
}
