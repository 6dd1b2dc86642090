//! Whether an object is valid by itself (rules H), as Kubernetes 1.36 has it: what only shows beside other objects or the
//! configuration (an address that is taken or outside the range) is the allocator's.
//!
//! Pure functions from an object to its faults; each fault names the field as Kubernetes writes it, the value, and
//! what is allowed.

mod address;
mod change;
mod endpoint_slice;
mod metadata;
mod names;
mod node;
mod pod;
mod probe;
mod service;

use std::ops::RangeInclusive;

pub use address::{address, cidr};
pub use change::{endpoint_slice_change, service_change};
pub use endpoint_slice::endpoint_slice;
pub use names::{dns_name, qualified_name};
pub use node::{namespace, node};
pub use pod::pod;
pub use service::service;

use super::problem::Fault;

/// What validation needs to know beside the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The ports a service may ask for as node port (G3).
    pub node_ports: RangeInclusive<u16>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            node_ports: 30_000..=32_767,
        }
    }
}

/// Collects faults.
#[derive(Default, Debug)]
struct Faults(Vec<Fault>);

impl Faults {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "numbers and texts are handed over alike"
    )]
    fn add(&mut self, field: impl Into<String>, value: impl ToString, message: impl Into<String>) {
        self.0.push(Fault {
            field: field.into(),
            value: value.to_string(),
            message: message.into(),
        });
    }

    /// Adds a fault if a check of the syntax failed.
    fn check<T>(
        &mut self,
        field: impl Into<String>,
        value: impl ToString,
        result: Result<T, String>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.add(field, value, message);
                None
            }
        }
    }

    /// A value that must be one of a few; an absent or empty one is left to its default.
    fn one_of(&mut self, field: &str, value: Option<&str>, allowed: &[&str]) {
        if let Some(value) = given(value)
            && !allowed.contains(&value)
        {
            self.add(field, value, format!("must be {}", listed(allowed)));
        }
    }

    fn port(&mut self, field: impl Into<String>, port: i32) {
        if !(1..=65_535).contains(&port) {
            self.add(field, port, "must be a port number from 1 to 65535");
        }
    }
}

/// The protocols a port may have.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// Absent and empty are the same in the API.
fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|v| !v.is_empty())
}

/// `a, b or c`
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
