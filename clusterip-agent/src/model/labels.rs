//! Labels and selectors.

use std::{collections::BTreeMap, sync::Arc};

use super::facts::Names;

/// Labels, or a selector: equal pairs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The labels of an object, which may have none.
    #[must_use]
    pub fn of(labels: Option<&BTreeMap<String, String>>, names: &mut Names) -> Self {
        let pairs = labels.into_iter().flatten();
        Self(
            pairs
                .map(|(key, value)| (names.share(key), names.share(value)))
                .collect(),
        )
    }

    /// The pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = &(Arc<str>, Arc<str>)> {
        self.0.iter()
    }

    /// The first pair.
    #[must_use]
    pub fn first(&self) -> Option<&(Arc<str>, Arc<str>)> {
        self.0.first()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this, as a selector, picks an object with these labels. An empty selector picks nothing: a service without one
    /// has its endpoints from elsewhere.
    #[must_use]
    pub fn selects(&self, labels: &Self) -> bool {
        !self.is_empty()
            && self
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    fn get(&self, key: &str) -> Option<&Arc<str>> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(key));
        self.0.get(place.ok()?).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs = pairs.iter();
        let all = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Labels::of(Some(&all.collect()), &mut Names::default())
    }

    #[test]
    fn a_selector_wants_every_pair_and_an_empty_one_picks_nothing() {
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        assert!(labels(&[("app", "web")]).selects(&pod));
        assert!(labels(&[("tier", "front"), ("app", "web")]).selects(&pod));
        assert!(!labels(&[("app", "web"), ("tier", "back")]).selects(&pod));
        assert!(!labels(&[("app", "web"), ("zone", "a")]).selects(&pod));
        assert!(!labels(&[]).selects(&pod));
    }
}
