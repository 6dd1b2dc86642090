//! What may go wrong between the agent and an API server, said so that it can be mended.

use std::{error::Error as StdError, fmt, time::Duration};

use rustls::{AlertDescription, CertificateError};

use super::Resource;

/// In every word about a certificate of ours that is refused.
pub(super) const OWN_CERTIFICATE: &str = "this agent's own certificate";

/// What was being done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Verb {
    List,
    Watch,
}

impl Verb {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// No answer came: no connection, no trust, no word in time.
    Unreachable(String),
    /// The server says no.
    Refused {
        code: u16,
        message: String,
        /// When it wants to be asked again.
        again: Option<Duration>,
    },
    /// What was known last is older than what the server remembers: everything is listed again (F9).
    Expired,
    /// The answer broke off.
    Broken(String),
    /// The answer did not go on.
    Silent(Duration),
    /// The answer is none.
    Nonsense(String),
    /// A watch ended as soon as it had begun.
    Short,
}

impl Cause {
    /// No answer, because of an error of the connection.
    pub(super) fn unreachable(error: &(dyn StdError + 'static)) -> Self {
        Self::Unreachable(explain(error))
    }

    /// No whole answer, because of an error of the connection.
    pub(super) fn broken(error: &(dyn StdError + 'static)) -> Self {
        Self::Broken(explain(error))
    }

    /// What there is to say of it.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Refused { code, message, .. } => format!("{code} {message}"),
            Self::Unreachable(why) | Self::Broken(why) | Self::Nonsense(why) => why.clone(),
            Self::Expired | Self::Silent(_) | Self::Short => self.label(),
        }
    }

    /// When the server wants to be asked again.
    pub(super) const fn again(&self) -> Option<Duration> {
        match self {
            Self::Refused { again, .. } => *again,
            _ => None,
        }
    }

    /// A word for a label: the status, or what took its place.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Unreachable(_) => "unreachable".to_owned(),
            Self::Refused { code, .. } => code.to_string(),
            Self::Expired => "410".to_owned(),
            Self::Broken(_) | Self::Short => "broken".to_owned(),
            Self::Silent(_) => "silent".to_owned(),
            Self::Nonsense(_) => "nonsense".to_owned(),
        }
    }
}

/// A request that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub(super) verb: Verb,
    pub(super) resource: Resource,
    pub(super) cause: Cause,
}

impl Failure {
    /// Waiting does not mend it: the server knows who asks and says no.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self.cause,
            Cause::Refused {
                code: 403 | 404,
                ..
            }
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            resource,
            cause,
        } = self;
        let (verb, name) = (verb.name(), resource.name());
        write!(f, "cannot {verb} {name}: ")?;
        match cause {
            Cause::Unreachable(why) | Cause::Broken(why) => f.write_str(why),
            Cause::Refused { code, message, .. } => {
                write!(f, "{code} {message}")?;
                match code {
                    401 => f.write_str(
                        "; the API server does not know who asks: renew the token or the client certificate",
                    ),
                    403 => write!(
                        f,
                        "; let the agent's account get, list and watch {} (a ClusterRole and its binding)",
                        resource.in_a_role()
                    ),
                    404 => f.write_str("; is this the address of an API server?"),
                    _ => Ok(()),
                }
            }
            Cause::Expired => {
                f.write_str("the server does not remember that far back; all is listed again")
            }
            Cause::Silent(patience) => write!(f, "nothing came for {} s", patience.as_secs()),
            Cause::Nonsense(why) => write!(f, "the answer is none of an API server: {why}"),
            Cause::Short => f.write_str("the server ended it at once"),
        }
    }
}

/// An error with its causes, and what can be done about those that are known.
pub(super) fn explain(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut advice = None;
    // The client's own words say that it is a client.
    let mut next = match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Service(cause)) => Some(&**cause as &(dyn StdError + 'static)),
        _ => Some(error),
    };
    while let Some(error) = next {
        let text = error.to_string();
        // Many an error repeats its cause.
        if !words.iter().any(|known| known.contains(&text)) {
            words.push(text);
        }
        advice = advice.or_else(|| remedy(error));
        next = inner(error).or_else(|| error.source());
    }
    words.extend(advice.map(str::to_owned));
    words.join(": ")
}

/// What an I/O error was made of, which it does not give as its source.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let error = error.downcast_ref::<std::io::Error>()?.get_ref()?;
    Some(error)
}

fn remedy(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    use CertificateError as Bad;
    match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => Some(
            "the API server's certificate has run out: renew it (kubeadm certs renew apiserver), or set this node's clock right",
        ),
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            Some("the API server's certificate is not valid yet: set this node's clock right")
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => Some(
            "the API server's certificate is from another authority than the kubeconfig's certificate-authority or the \
             service account's ca.crt",
        ),
        rustls::Error::InvalidCertificate(
            Bad::NotValidForName | Bad::NotValidForNameContext { .. },
        ) => Some(
            "the API server's certificate is for other names: use one of them in --kube-api-server, or set tls-server-name \
             in the kubeconfig",
        ),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            Some("this agent's own certificate has run out: renew it in the kubeconfig")
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        ) => Some(
            "the API server does not accept this agent's own certificate: renew it in the kubeconfig",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_verb_resource_and_remedy() {
        let failure = Failure {
            verb: Verb::Watch,
            resource: Resource::EndpointSlices,
            cause: Cause::Refused {
                code: 403,
                message: "Forbidden".to_owned(),
                again: None,
            },
        };
        assert_eq!(
            failure.to_string(),
            "cannot watch endpointslices: 403 Forbidden; let the agent's account get, list and watch \
             endpointslices.discovery.k8s.io (a ClusterRole and its binding)"
        );
        assert!(failure.is_refusal());
    }

    #[test]
    fn a_certificate_that_has_run_out_is_found_below_other_errors() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, tls);
        let text = explain(&error);
        assert!(text.contains("has run out"), "{text}");
        assert_eq!(
            text.matches("invalid peer certificate").count(),
            1,
            "{text}"
        );
    }
}
