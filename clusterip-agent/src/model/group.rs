//! Names that belong together; mostly one.

use std::collections::BTreeSet;

use super::object::ObjectName;

/// Names, each once and in order. A single one takes no more than itself: a node of a tree has room for eleven.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Group {
    /// None.
    #[default]
    Nobody,
    /// One.
    One(ObjectName),
    /// Several, or what is left of them.
    Several(BTreeSet<ObjectName>),
}

impl Group {
    /// Adds a name.
    pub(super) fn insert(&mut self, name: ObjectName) {
        match self {
            Self::Nobody => *self = Self::One(name),
            Self::One(one) if *one == name => {}
            Self::One(one) => *self = Self::Several(BTreeSet::from([one.clone(), name])),
            Self::Several(names) => {
                names.insert(name);
            }
        }
    }

    /// Takes a name out.
    pub(super) fn remove(&mut self, name: &ObjectName) {
        match self {
            Self::One(one) if one == name => *self = Self::Nobody,
            Self::Nobody | Self::One(_) => {}
            Self::Several(names) => {
                names.remove(name);
            }
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Nobody => 0,
            Self::One(_) => 1,
            Self::Several(names) => names.len(),
        }
    }

    /// The names, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ObjectName> {
        let (one, several) = match self {
            Self::Nobody => (None, None),
            Self::One(name) => (Some(name), None),
            Self::Several(names) => (None, Some(names)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_set_in_order() {
        let name = |name: &str| ObjectName::new("default", name);
        let mut group = Group::default();
        let mut set = BTreeSet::new();
        for (inserts, text) in [
            (true, "b"),
            (true, "b"),
            (false, "a"),
            (true, "a"),
            (true, "c"),
            (false, "b"),
            (false, "c"),
            (false, "a"),
            (true, "d"),
            (false, "d"),
        ] {
            if inserts {
                group.insert(name(text));
                set.insert(name(text));
            } else {
                group.remove(&name(text));
                set.remove(&name(text));
            }
            assert!(group.iter().eq(&set), "{group:?}");
            assert_eq!((group.len(), group.is_empty()), (set.len(), set.is_empty()));
        }
    }
}
