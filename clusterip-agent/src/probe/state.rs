//! From results to a verdict: thresholds (I1-I3). No clock: who asks knows when.

/// How many results in a row change the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// Successes, at least 1.
    pub success: u32,
    /// Failures, at least 1.
    pub failure: u32,
}

impl Default for Thresholds {
    /// I2
    fn default() -> Self {
        Self {
            success: 1,
            failure: 3,
        }
    }
}

/// What a probe has found so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    thresholds: Thresholds,
    passes: bool,
    /// Successes in a row, or failures in a row; the other one is 0.
    successes: u32,
    failures: u32,
}

impl Verdict {
    /// Before the first result: readiness and startup have failed (I1), liveness has passed.
    #[must_use]
    pub const fn new(thresholds: Thresholds, passes: bool) -> Self {
        Self {
            thresholds,
            passes,
            successes: 0,
            failures: 0,
        }
    }

    /// Whether it passes now.
    #[must_use]
    pub const fn passes(&self) -> bool {
        self.passes
    }

    /// Whether there was a result at all.
    #[must_use]
    pub const fn has_result(&self) -> bool {
        self.successes > 0 || self.failures > 0
    }

    /// Takes a result in; true if the verdict is another one now.
    pub const fn observe(&mut self, success: bool) -> bool {
        if success {
            self.successes = self.successes.saturating_add(1);
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.successes = 0;
        }
        let before = self.passes;
        if self.successes >= self.thresholds.success {
            self.passes = true;
        } else if self.failures >= self.thresholds.failure {
            self.passes = false;
        }
        self.passes != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` is a success, `-` a failure; what the verdict is after each, `y` or `n`.
    fn verdicts(success: u32, failure: u32, passes: bool, results: &str) -> String {
        let mut verdict = Verdict::new(Thresholds { success, failure }, passes);
        let after = |result| {
            let before = verdict.passes();
            let changed = verdict.observe(result == '+');
            assert_eq!(changed, before != verdict.passes());
            if verdict.passes() { 'y' } else { 'n' }
        };
        results.chars().map(after).collect()
    }

    /// I1, I2, I3
    #[test]
    fn so_many_results_in_a_row_change_the_verdict() {
        for (success, failure, passes, results, wanted, why) in [
            (
                1,
                3,
                false,
                "--+",
                "nny",
                "readiness starts failed until its first success (I1)",
            ),
            (
                1,
                3,
                false,
                "+--+---",
                "yyyyyyn",
                "three failures in a row, with the defaults (I2, I3)",
            ),
            (1, 3, false, "+---+", "yyyny", "one success, and it is back"),
            (1, 1, false, "+-+-", "ynyn", "one of each"),
            (3, 1, false, "++-+++", "nnnnny", "three successes in a row"),
            (1, 3, true, "--+---", "yyyyyn", "liveness starts passed"),
        ] {
            assert_eq!(verdicts(success, failure, passes, results), wanted, "{why}");
        }
    }

    #[test]
    fn counts_do_not_wrap() {
        let mut verdict = Verdict::new(Thresholds::default(), false);
        verdict.failures = u32::MAX;
        assert!(!verdict.observe(false));
        assert!(verdict.has_result());
    }
}
