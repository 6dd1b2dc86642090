//! The hooks at the sockets of a cgroup's processes.

mod call;
mod hooks;
mod table;

pub(crate) use call::{CallV4, CallV6};
