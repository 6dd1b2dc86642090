//! A rule, broken in one place.

/// Where a broken rule must be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seen {
    /// By tests that need no kernel.
    Host,
    /// By these tests in namespaces: the name that they have in common.
    Netns(&'static str),
}

/// One rule, broken in one place.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) rule: &'static str,
    /// What is wrong then.
    pub(super) what: &'static str,
    /// The file, from the workspace's root.
    pub(super) file: &'static str,
    /// A text that stands there once.
    pub(super) text: &'static str,
    /// What is put in its place.
    pub(super) instead: &'static str,
    pub(super) seen: Seen,
}

pub(super) const fn breach(
    rule: &'static str,
    what: &'static str,
    file: &'static str,
    (text, instead): (&'static str, &'static str),
) -> Breach {
    Breach {
        rule,
        what,
        file,
        text,
        instead,
        seen: Seen::Host,
    }
}

pub(super) const fn in_namespaces(mut breach: Breach, tests: &'static str) -> Breach {
    breach.seen = Seen::Netns(tests);
    breach
}
