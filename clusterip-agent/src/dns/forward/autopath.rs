//! The search list of a pod, walked through in its place (`--dns-autopath`).
//!
//! With `ndots:5` a C library asks for `www.example.com` as `www.example.com.<namespace>.svc.<domain>` first, then with the
//! rest of its list: five questions of each type. Where the namespace is known, the first answer can be the last.

use hickory_proto::rr::Name;

/// The label between namespace and domain.
const SERVICES: &[u8] = b"svc";

/// The names that the search list of a pod in `namespace` leads to after `name`, if `name` is what its first entry leads
/// to: through `svc.<domain>`, `<domain>`, the node's own list, and the name as it was given. Those that are too long for
/// a name are left out, as the C library does.
#[must_use]
pub fn continued(name: &Name, namespace: &str, domain: &Name, node: &[Name]) -> Option<Vec<Name>> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let own = domain.iter().count() + 2;
    let given = labels.len().checked_sub(own).filter(|given| *given > 0)?;
    let (given, below) = labels.split_at_checked(given)?;
    let wanted = [namespace.as_bytes(), SERVICES]
        .into_iter()
        .chain(domain.iter());
    let is_first = below
        .iter()
        .zip(wanted)
        .all(|(label, wanted)| label.eq_ignore_ascii_case(wanted));
    if !is_first {
        return None;
    }
    let services = domain.prepend_label(SERVICES).ok();
    let suffixes = services.iter().chain([domain]).chain(node);
    let root = Name::root();
    let names = suffixes.chain([&root]).filter_map(|suffix| {
        let labels = given.iter().copied().chain(suffix.iter());
        Name::from_labels(labels).ok()
    });
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j8_the_rest_of_the_search_list_follows_its_first_entry() {
        let domain = Name::from_ascii("cluster.local.").unwrap();
        let node = [Name::from_ascii("corp.test.").unwrap()];
        let names = |asked: &str| -> Option<Vec<String>> {
            let asked = Name::from_ascii(asked).unwrap();
            let names = continued(&asked, "default", &domain, &node)?;
            Some(names.iter().map(ToString::to_string).collect())
        };
        assert_eq!(
            names("www.example.com.Default.svc.cluster.LOCAL.").unwrap(),
            [
                "www.example.com.svc.cluster.local.",
                "www.example.com.cluster.local.",
                "www.example.com.corp.test.",
                "www.example.com.",
            ]
        );
        for other in [
            // Another namespace, its second entry, no name before it, and names outside.
            "www.example.com.other.svc.cluster.local.",
            "www.example.com.svc.cluster.local.",
            "default.svc.cluster.local.",
            "cluster.local.",
            "www.example.com.",
            ".",
        ] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let label = "a".repeat(60);
        let asked = format!("{label}.{label}.{label}.{}.d.svc.c.", "a".repeat(50));
        let domain = Name::from_ascii("c.").unwrap();
        let node = [Name::from_ascii("a-rather-long-domain.test.").unwrap()];
        let asked = Name::from_ascii(asked).unwrap();
        let names = continued(&asked, "d", &domain, &node).unwrap();
        assert_eq!(names.len(), 3);
    }
}
