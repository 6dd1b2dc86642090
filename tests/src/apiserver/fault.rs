//! What goes wrong, as tests want it.

use std::time::Duration;

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A status; `again` is the header Retry-After, in seconds.
    Status {
        /// The number.
        code: u16,
        /// Its reason, as a Status has it.
        reason: &'static str,
        /// For people.
        message: String,
        /// When it may be asked again.
        again: Option<u64>,
    },
    /// 200 and this text.
    Text(&'static str),
    /// Nothing, for ever.
    Nothing,
    /// The connection breaks after so many bytes of the answer.
    Broken(usize),
}

/// A rule: what becomes of some requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// list, watch, get, create, update or delete; empty for any.
    pub verb: &'static str,
    /// Such as services; empty for any.
    pub resource: &'static str,
    /// For how many requests.
    pub times: u32,
    /// What they get.
    pub answer: Answer,
}

impl Fault {
    /// For every request, until the rules are cleared.
    pub const ALWAYS: u32 = u32::MAX;

    /// RBAC says no, in its words.
    #[must_use]
    pub fn forbidden(verb: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            resource,
            times: Self::ALWAYS,
            answer: Answer::Status {
                code: 403,
                reason: "Forbidden",
                message: format!(
                    "{resource} is forbidden: User \"system:serviceaccount:kube-system:clusterip\" cannot {verb} resource \
                     \"{resource}\" in API group \"\" at the cluster scope"
                ),
                again: None,
            },
        }
    }

    /// A status, so many times.
    #[must_use]
    pub fn status(resource: &'static str, code: u16, times: u32) -> Self {
        Self {
            verb: "",
            resource,
            times,
            answer: Answer::Status {
                code,
                reason: "",
                message: format!("a {code} that a test wants"),
                again: None,
            },
        }
    }
}

/// How a server is that is not as others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Streaming {
    /// It has lists that a watch begins with.
    #[default]
    Supported,
    /// It refuses them.
    Refused,
    /// It does not know of them, and sends what it has without ever saying that this was all.
    Unknown,
}

/// What a server is like.
#[derive(Clone, Debug, Default)]
pub(super) struct Manners {
    pub(super) faults: Vec<Fault>,
    pub(super) streaming: Streaming,
    /// Who has another token is not known.
    pub(super) token: Option<String>,
    /// Between two lines of a watch.
    pub(super) pause: Option<Duration>,
    /// A page of a list has no more objects than this, whatever is asked for.
    pub(super) page: Option<usize>,
}

impl Manners {
    /// What becomes of a request, if not what ought to.
    pub(super) fn answer(&mut self, verb: &str, resource: &str) -> Option<Answer> {
        let fits = |fault: &Fault| {
            fault.times > 0
                && (fault.verb.is_empty() || fault.verb == verb)
                && (fault.resource.is_empty() || fault.resource == resource)
        };
        let fault = self.faults.iter_mut().find(|fault| fits(fault))?;
        if fault.times != Fault::ALWAYS {
            fault.times -= 1;
        }
        Some(fault.answer.clone())
    }
}
