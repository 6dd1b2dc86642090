//! Texts that many objects have.

use std::{collections::HashSet, sync::Arc};

/// The texts there are: of nodes, zones, namespaces, ports and labels. Whoever has one of them has the same one.
#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<Arc<str>>,
    /// How many there were when the last look for those that nobody has any more was over.
    kept: usize,
}

impl Names {
    /// Below this number nothing is worth a look.
    const FEW: usize = 1024;

    /// The text, sharing what others have already.
    #[must_use]
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if text.is_empty() {
            return Arc::default();
        }
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= Self::FEW.max(self.kept * 2) {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.kept = self.known.len();
        }
        let name: Arc<str> = text.into();
        self.known.insert(name.clone());
        name
    }

    /// The same of a text that may be missing.
    #[must_use]
    pub fn share_some(&mut self, text: Option<&str>) -> Option<Arc<str>> {
        text.map(|text| self.share(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_text_has_the_same_one() {
        let mut names = Names::default();
        let [one, other] = ["node-a", "node-a"].map(|text| names.share(text));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(&*names.share(""), "");
    }

    #[test]
    fn texts_that_nobody_has_are_forgotten() {
        let mut names = Names::default();
        let kept = names.share("kept");
        for number in 0..100_000 {
            drop(names.share(&format!("pod-{number}")));
        }
        assert!(names.known.len() <= Names::FEW, "{}", names.known.len());
        assert!(Arc::ptr_eq(&names.share("kept"), &kept));
    }
}
