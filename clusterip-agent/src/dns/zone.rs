//! The zone of the cluster: its domain, and which names are its own.

use hickory_proto::rr::Name;
use ipnet::IpNet;

/// How long a record may be kept, in seconds, and how long the knowledge that there is none (J7).
pub const TTL: u32 = 5;

/// A domain that names cannot be made of.
#[derive(Debug, thiserror::Error)]
#[error("{domain:?} cannot be a cluster's domain")]
pub struct ZoneError {
    domain: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What the agent knows by itself, whatever the cluster holds.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The domain, in lower case, with its final dot.
    pub(super) apex: Name,
    /// Its labels, the leftmost first.
    labels: Vec<Box<[u8]>>,
    /// The server's own name.
    pub(super) server: Name,
    /// Who looks after it.
    pub(super) mailbox: Name,
    /// Ranges of services, whose reverse names are the agent's own (J3).
    pub(super) ranges: Vec<IpNet>,
    /// Whether pods have names made of their addresses.
    pub(super) pod_records: bool,
}

impl Zone {
    /// The zone of a domain such as `cluster.local`; `ranges` are those of services; the model knows those of pods.
    ///
    /// # Errors
    /// The domain is no name, or so long that no service's name fits before it.
    pub fn new(domain: &str, ranges: Vec<IpNet>, pod_records: bool) -> Result<Self, ZoneError> {
        let wrong = |source: hickory_proto::ProtoError| ZoneError {
            domain: domain.to_owned(),
            source: source.into(),
        };
        let mut apex = Name::from_ascii(domain).map_err(wrong)?.to_lowercase();
        apex.set_fqdn(true);
        let labels = apex.iter().map(Into::into).collect();
        let below = |name: &str| {
            let name = Name::from_ascii(name).map_err(wrong)?;
            name.append_domain(&apex).map_err(wrong)
        };
        let server = below("kube-dns.kube-system.svc")?;
        let mailbox = below("hostmaster")?;
        Ok(Self {
            apex,
            labels,
            server,
            mailbox,
            ranges,
            pod_records,
        })
    }

    /// The labels of a name below the domain, the leftmost first; none for a name outside.
    pub(super) fn below<'a>(&self, name: &'a Name) -> Option<Vec<&'a [u8]>> {
        let mut labels: Vec<&[u8]> = name.iter().collect();
        let depth = labels.len().checked_sub(self.labels.len())?;
        let own = labels.get(depth..)?.iter().zip(&self.labels);
        let mut own = own.map(|(label, own)| label.eq_ignore_ascii_case(own));
        if !own.all(|is_same| is_same) {
            return None;
        }
        labels.truncate(depth);
        Some(labels)
    }

    /// A name below the domain; none if it were too long.
    pub(super) fn name(&self, labels: &[&str]) -> Option<Name> {
        let labels = labels.iter().map(|label| label.as_bytes());
        Name::from_labels(labels.chain(self.labels.iter().map(|label| &**label))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_that_others_fit_before() {
        for good in ["cluster.local", "Cluster.Local.", "k8s", "a.b.c.example"] {
            assert!(Zone::new(good, Vec::new(), false).is_ok(), "{good}");
        }
        let long = vec!["a".repeat(63); 4].join(".");
        for bad in ["a..b", &long, &"a".repeat(64)] {
            let error = Zone::new(bad, Vec::new(), false).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn a_name_is_inside_by_whole_labels_in_any_case() {
        let zone = Zone::new("cluster.local", Vec::new(), false).unwrap();
        let below = |text: &str| {
            let name = Name::from_ascii(text).unwrap();
            zone.below(&name).map(|labels| labels.len())
        };
        assert_eq!(below("cluster.local."), Some(0));
        assert_eq!(below("web.default.svc.CLUSTER.Local."), Some(3));
        assert_eq!(below("mycluster.local."), None);
        assert_eq!(below("local."), None);
        assert_eq!(below("."), None);
    }
}
