//! The Kubernetes API as source, against a server in this process: lists, watches, and all that goes wrong with them.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod failures;
mod listener;
mod lists;
mod objects;
mod provided;
mod tls;
mod tools;
mod watches;
