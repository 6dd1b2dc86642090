//! What a reply is kept and waited for under.

use std::{borrow::Borrow, sync::Arc};

use clusterip_common::wire::Be16;
use hickory_proto::{
    op::Query,
    rr::{Name, RecordType},
};

/// A question without its case: the labels of the name as they travel, in lower case, then the type.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    /// That of a question of class IN.
    #[must_use]
    pub(super) fn new(question: &Query) -> Self {
        Self::of(&question.name, question.query_type)
    }

    fn of(name: &Name, kind: RecordType) -> Self {
        let mut bytes = Vec::with_capacity(name.len() + size_of::<Be16>());
        for label in name {
            // A label has 63 bytes at most.
            bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            bytes.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        bytes.extend_from_slice(&Be16::new(kind.into()).0);
        Self(bytes.into())
    }

    /// Its bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packed::tests::question, *};

    #[test]
    fn case_does_not_matter_but_name_and_type_do() {
        let key = |text| Key::new(&question(text));
        assert_eq!(key("WWW.Test."), key("www.test."));
        assert_ne!(key("www.test."), key("wwwtest."));
        assert_ne!(key("www.test."), key("test."));
        let name = &question("www.test.").name;
        assert_ne!(
            Key::of(name, RecordType::A),
            Key::of(name, RecordType::AAAA)
        );
    }
}
