//! How long to wait before the server is asked again: longer each time, and never the same on two nodes.

use std::time::Duration;

/// The first time; an agent that lost its server among many others does not ask at once.
const FIRST: Duration = Duration::from_millis(200);
/// At most; client-go's.
const LAST: Duration = Duration::from_secs(30);

/// The wait, which grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self(FIRST)
    }

    /// How long to wait this time. `random` is from 0 to 1; `asked` is what the server asks for.
    pub(super) fn pause(&mut self, random: f64, asked: Option<Duration>) -> Duration {
        let pause = self.0.mul_f64(0.5 + random.clamp(0.0, 1.0));
        self.0 = (self.0 * 2).min(LAST);
        // Never earlier than asked, and not all at once then either.
        asked.map_or(pause, |asked| asked + pause.min(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_to_its_limit_is_scattered_and_honours_what_the_server_asks() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..10)
            .map(|_| backoff.pause(0.5, None).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [
                200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000
            ]
        );
        let (mut low, mut high) = (Backoff::new(), Backoff::new());
        assert_eq!(low.pause(0.0, None), FIRST / 2);
        assert_eq!(high.pause(1.0, None), FIRST * 3 / 2);
        let asked = Backoff::new().pause(0.5, Some(Duration::from_secs(7)));
        assert_eq!(asked, Duration::from_millis(7200));
    }
}
