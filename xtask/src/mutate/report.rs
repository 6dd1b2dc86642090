//! What the tests said of a breach.

use std::{fmt, process::Output};

/// How it ended.
#[derive(Debug)]
pub(super) enum Finding {
    /// The compiler saw it, which says nothing of the tests.
    Unbuilt(String),
    /// The tests ran.
    Ran(Failures),
}

/// Tests that failed, and packet cases with the rules that they show.
#[derive(Debug, Default)]
pub(super) struct Failures {
    tests: Vec<String>,
    cases: Vec<String>,
}

impl Failures {
    /// Reads what test programs print.
    pub(super) fn of(output: &str) -> Self {
        let mut failures = Self::default();
        for line in output.lines() {
            let test = line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... FAILED"));
            if let Some(test) = test {
                let name = test.rsplit("::").next().unwrap_or(test);
                failures.tests.push(name.to_owned());
            }
            // The case's name, its rules, and where it failed.
            let case = line
                .rsplit_once("), step ")
                .and_then(|(case, _)| case.rsplit_once('('));
            if let Some((_name, rules)) = case {
                failures.cases.push(rules.to_owned());
            }
        }
        failures
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// Tests whose name begins with the rule, and cases that show it.
    fn own(&self, rule: &str) -> (Vec<&str>, usize) {
        let number = rule.to_lowercase();
        let is_number = |word: &&str| {
            let mut letters = word.chars();
            letters
                .next()
                .is_some_and(|letter| letter.is_ascii_lowercase())
                && !letters.as_str().is_empty()
                && letters.all(|digit| digit.is_ascii_digit())
        };
        let tests = self.tests.iter().map(String::as_str).filter(|test| {
            let mut numbers = test.split('_').take_while(is_number);
            numbers.any(|own| own == number)
        });
        let shows = |rules: &&String| {
            let mut words = rules.split(|c: char| !c.is_ascii_alphanumeric());
            words.any(|word| word == rule)
        };
        (tests.collect(), self.cases.iter().filter(shows).count())
    }
}

impl Finding {
    pub(super) fn unbuilt(built: &Output) -> Self {
        let errors = String::from_utf8_lossy(&built.stderr);
        let first = errors.lines().find(|line| line.starts_with("error"));
        Self::Unbuilt(first.unwrap_or("no error").to_owned())
    }

    /// Whether a test of the rule's number failed.
    pub(super) fn shows(&self, rule: &str) -> bool {
        match self {
            Self::Unbuilt(_) => false,
            Self::Ran(failures) => {
                let (tests, cases) = failures.own(rule);
                !tests.is_empty() || cases > 0
            }
        }
    }

    /// In words.
    pub(super) fn of(&self, rule: &str) -> String {
        let Self::Ran(failures) = self else {
            return self.to_string();
        };
        let (tests, cases) = failures.own(rule);
        let mut words: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        if cases > 0 {
            words.push(format!("packet cases: {cases}"));
        }
        match (failures.is_empty(), words.is_empty()) {
            (true, _) => "**nothing**".to_owned(),
            (_, true) => format!(
                "**no test of its number**, but {}",
                failures.tests.join(", ")
            ),
            _ => words.join(", "),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbuilt(error) => write!(f, "**does not build**: {error}"),
            Self::Ran(failures) => write!(f, "{}", failures.tests.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_as_tests_and_cases_of_a_rule() {
        let failures = Failures::of(
            "test tests::c6_without_room ... FAILED\ntest b1_fine ... ok\n\
             a ping (with brackets) is answered (B9 B10), step 2:\n\
             test a1_c6_d2_a_frame ... FAILED\n",
        );
        let found = Finding::Ran(failures);
        assert!(
            found.shows("C6") && found.shows("B10") && !found.shows("B1") && !found.shows("C1")
        );
        assert_eq!(found.of("C6"), "`c6_without_room`, `a1_c6_d2_a_frame`");
        assert_eq!(found.of("B10"), "packet cases: 1");
        assert!(found.of("D9").starts_with("**no test of its number**"));
    }
}
