//! From a tree to a type of the API, strictly: a number is no text, and what the type does not know is reported.
//!
//! `serde` stops at the first value of a wrong type. A reader of problems wants all of them, so the value is taken out of
//! the tree and the rest is read again.

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use super::{
    reader::Reader,
    tree::{Flaw, Node},
};

/// Wrong values reported of one object: who has more wrong looks at the first ones first.
const MAX_FLAWS: usize = 20;

/// What came of reading an object.
#[derive(Debug)]
pub(super) struct Typed<T> {
    /// The object; the fields of `wrong` are empty in it. Absent if even that did not help.
    pub(super) object: Option<T>,
    /// Values of a wrong type.
    pub(super) wrong: Vec<Flaw>,
    /// Fields that the type does not have.
    pub(super) unknown: Vec<Flaw>,
}

/// Reads an object.
pub(super) fn typed<T: DeserializeOwned>(mut root: Node) -> Typed<T> {
    let mut wrong: Vec<Flaw> = Vec::new();
    loop {
        let unknown = RefCell::new(Vec::new());
        let result = T::deserialize(Reader::new(&root, &unknown));
        let unknown = unknown.into_inner();
        match result {
            Ok(object) => {
                return Typed {
                    object: Some(object),
                    wrong,
                    unknown,
                };
            }
            Err(error) => {
                let flaw = error.into_flaw(&root);
                let again = !wrong.iter().any(|w| w.field == flaw.field)
                    && wrong.len() < MAX_FLAWS
                    && !flaw.field.is_empty()
                    && root.erase(&flaw.field);
                wrong.push(flaw);
                if !again {
                    return Typed {
                        object: None,
                        wrong,
                        unknown,
                    };
                }
            }
        }
    }
}
