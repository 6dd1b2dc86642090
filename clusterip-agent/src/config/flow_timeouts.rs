//! How long flows live, as an option.

use std::time::Duration;

use clusterip_common::abi::Settings;

/// Times without a packet after which a flow has ended (C4, C5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowTimeouts {
    /// Of which only a SYN was seen.
    pub opening: Duration,
    /// That both sides talk in.
    pub established: Duration,
    /// That one side has ended.
    pub ended: Duration,
    /// That both have ended.
    pub closing: Duration,
    /// Within which a SYN keeps the backend of the flow that ended.
    pub reuse: Duration,
    /// Over UDP.
    pub datagram: Duration,
}

/// A year: no flow is that patient, and nanoseconds of it are far from running over.
const LONGEST: Duration = Duration::from_hours(365 * 24);
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

impl FlowTimeouts {
    const fn fields(&mut self) -> [(&'static str, &mut Duration); 6] {
        [
            ("opening", &mut self.opening),
            ("established", &mut self.established),
            ("ended", &mut self.ended),
            ("closing", &mut self.closing),
            ("reuse", &mut self.reuse),
            ("datagram", &mut self.datagram),
        ]
    }

    /// Writes them into settings.
    pub fn apply(&self, settings: &mut Settings) {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        settings.opening_timeout = nanoseconds(self.opening);
        settings.established_timeout = nanoseconds(self.established);
        settings.ended_timeout = nanoseconds(self.ended);
        settings.closing_timeout = nanoseconds(self.closing);
        settings.closing_reuse = nanoseconds(self.reuse);
        settings.datagram_timeout = nanoseconds(self.datagram);
    }
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            opening: Duration::from_nanos(Settings::DEFAULT.opening_timeout),
            established: Duration::from_nanos(Settings::DEFAULT.established_timeout),
            ended: Duration::from_nanos(Settings::DEFAULT.ended_timeout),
            closing: Duration::from_nanos(Settings::DEFAULT.closing_timeout),
            reuse: Duration::from_nanos(Settings::DEFAULT.closing_reuse),
            datagram: Duration::from_nanos(Settings::DEFAULT.datagram_timeout),
        }
    }
}

/// `established=24h,datagram=3m`: what is left out keeps its default.
pub(super) fn read(text: &str) -> Result<FlowTimeouts, String> {
    let mut timeouts = FlowTimeouts::default();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let (name, value) = item
            .split_once('=')
            .ok_or_else(|| format!("{item} must be NAME=TIME, such as established=24h"))?;
        let mut fields = timeouts.fields();
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let field = fields.iter_mut().find(|(known, _)| *known == name);
        let (_, field) =
            field.ok_or_else(|| format!("{name} must be one of {}", names.join(", ")))?;
        **field = time(value).ok_or_else(|| {
            format!("{item} must be a time from 1s to 365d: a number and s, m, h or d")
        })?;
    }
    Ok(timeouts)
}

fn time(text: &str) -> Option<Duration> {
    let (unit, seconds) = UNITS.into_iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let time = Duration::from_secs(number.checked_mul(seconds)?);
    (time >= Duration::from_secs(1) && time <= LONGEST).then_some(time)
}

/// All of them, in the largest unit that says it whole.
pub(super) fn text(timeouts: &FlowTimeouts) -> String {
    let mut timeouts = *timeouts;
    let all = timeouts.fields().map(|(name, time)| {
        let whole = time.as_secs();
        let (unit, seconds) = UNITS
            .into_iter()
            .find(|(_, seconds)| whole.is_multiple_of(*seconds))
            .unwrap_or(('s', 1));
        format!("{name}={}{unit}", whole / seconds)
    });
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        assert_eq!(
            text(&FlowTimeouts::default()),
            "opening=1m,established=1d,ended=1h,closing=10s,reuse=30s,datagram=3m"
        );
    }

    #[test]
    fn c5_times_are_read_and_reach_the_program() {
        let timeouts = read("established=2h, datagram=90s").expect("times");
        assert_eq!(
            read(&text(&timeouts)),
            Ok(timeouts),
            "what is written is read again"
        );
        let mut settings = Settings::DEFAULT;
        timeouts.apply(&mut settings);
        assert_eq!(settings.established_timeout, 7_200_000_000_000);
        assert_eq!(settings.datagram_timeout, 90_000_000_000);
        assert_eq!(settings.closing_timeout, Settings::DEFAULT.closing_timeout);
    }

    #[test]
    fn what_is_no_time_is_told() {
        for (wrong, told) in [
            ("established", "NAME=TIME"),
            ("etsablished=1h", "one of opening, established"),
            ("closing=0s", "from 1s to 365d"),
            ("closing=10", "from 1s to 365d"),
            ("closing=366d", "from 1s to 365d"),
            ("closing=-1s", "from 1s to 365d"),
            ("closing=99999999999999999999d", "from 1s to 365d"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
