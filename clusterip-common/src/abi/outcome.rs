//! What became of a packet: the counter, the drop reason, the metric label and the monitor's word.

macro_rules! outcomes {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// What became of a packet.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Outcome {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Outcome {
            /// Every outcome, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name in metrics, `trace` and `monitor`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line of help.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),+),)+ }
            }
        }
    };
}

outcomes! {
    /// Not for a service: passed on untouched.
    NotOurs = "not-ours",
    /// A flow chose a backend.
    NewFlow = "new-flow",
    /// A request of a known flow was translated.
    Request = "request",
    /// A reply was given its service address back.
    Reply = "reply",
    /// A pod called itself through a service: its address was hidden from it, or given back (D13).
    Hairpin = "hairpin",
    /// A pod called a backend itself from a port that another flow to it has: it got another one (C12).
    Direct = "direct",
    /// The service has no endpoint: rejected.
    NoEndpoint = "no-endpoint",
    /// The service has endpoints, but none on this node as its policy wants: dropped (B8).
    NoLocalEndpoint = "no-local-endpoint",
    /// A live service address, but not this port: rejected (B9).
    NoService = "no-service",
    /// An address of the service range that belongs to no service: dropped (B9).
    Unallocated = "unallocated",
    /// A ping to a live service address: answered (B10).
    Ping = "ping",
    /// Another protocol to a service address: dropped, never sent to a backend (B10).
    OtherProtocol = "other-protocol",
    /// TCP without SYN that belongs to no flow: rejected with RST (a RST is dropped).
    NoFlow = "no-flow",
    /// An ICMP error was due, but its receiver had enough of them: dropped (D8).
    ErrorsLimited = "errors-limited",
    /// A reply of a flow whose backend was taken away: dropped, a pod address never reaches a client.
    StaleReply = "stale-reply",
    /// The header ends before it is complete.
    Truncated = "truncated",
    /// A length in the header contradicts the frame.
    Malformed = "malformed",
    /// A piece of a packet to a service address whose first piece was not seen: dropped (D6).
    Fragment = "fragment",
    /// An ICMP error about a flow was translated with it (D7).
    IcmpError = "icmp-error",
    /// Every source port that a colliding flow could take is in use: dropped (C12).
    PortsExhausted = "ports-exhausted",
    /// An IPv4-mapped IPv6 address on the wire: dropped.
    MappedAddress = "mapped-address",
    /// The flow table refused the entry: dropped, never sent untranslated.
    FlowTableFull = "flow-table-full",
    /// A slot led to no backend: dropped. The agent's order of writes makes it impossible.
    NoBackend = "no-backend",
    /// The answer could not be made in the packet's memory: dropped.
    ReplyFailed = "reply-failed",
    /// A call of a process of the node chose a backend: `connect`, or the first datagram to a service.
    SocketNewFlow = "socket-new-flow",
    /// A datagram of an unconnected socket followed the socket's flow to its backend.
    SocketRequest = "socket-request",
    /// A datagram that a socket received was given its service address back.
    SocketReply = "socket-reply",
    /// A process of the node called a service without endpoints: the call was refused.
    SocketNoEndpoint = "socket-no-endpoint",
    /// From outside the cluster to a service address, seen at an uplink: dropped (E1).
    FromOutside = "from-outside",
    /// A client from outside was given the node's address on the way to its backend, or the answer the client's (E2).
    Masqueraded = "masqueraded",
    /// A client from outside was to get the node's address, and the agent knows none of that family: dropped.
    NoNodeAddress = "no-node-address",
    /// A client outside the source ranges of a load balancer's service: dropped (E4).
    SourceRange = "source-range",
    /// A neighbour at an uplink asked for the link address of an address of the pool, and was told this node's: answered.
    Announced = "announced",
    /// By an uplink to a service, with an address of this node, of one of its pods, or of no machine as its source: dropped (E1).
    Spoofed = "spoofed",
    /// A client from outside lost the node's port towards its backend, which is somebody else's now: dropped, and the flow ended (C14).
    PortLost = "port-lost",
    /// Another node forwarded a client to a pod of this one: let pass, and the answers leave past that node (direct server return).
    Forwarded = "forwarded",
    /// An answer to such a client was given the service's address.
    Returned = "returned",
    /// Another node forwarded a client of a service that this node does not know: dropped.
    ForwardRefused = "forward-refused",
}

impl Outcome {
    /// How many there are.
    #[expect(clippy::cast_possible_truncation, reason = "a handful")]
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Index of its counter.
    #[must_use]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_an_outcome_is_its_place_in_the_list() {
        for (i, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index() as usize, i);
        }
    }
}
