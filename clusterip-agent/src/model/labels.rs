//! Selectors.

use std::collections::BTreeMap;

/// Labels, or a selector: equal pairs.
pub type Labels = BTreeMap<String, String>;

/// Whether a selector picks an object with these labels. An empty selector picks nothing: a service without one has
/// its endpoints from elsewhere.
#[must_use]
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty()
        && selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_selector_wants_every_pair_and_an_empty_one_picks_nothing() {
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        assert!(selects(&labels(&[("app", "web")]), &pod));
        assert!(selects(&labels(&[("app", "web"), ("tier", "front")]), &pod));
        assert!(!selects(&labels(&[("app", "web"), ("tier", "back")]), &pod));
        assert!(!selects(&labels(&[]), &pod));
    }
}
