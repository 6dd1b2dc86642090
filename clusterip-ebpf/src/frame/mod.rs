//! The kernel's bodies of `packet::Frame`.

pub(crate) mod tc;
