//! Packets in pieces: the first one tells its ports, the later ones are told (D6).

use super::{env::Env, parse::Packet, translate::Piece};
use crate::abi::{Fragment, FragmentKey};

/// Completes a packet in pieces; false for a piece whose first one was not seen.
#[inline(always)]
pub(super) fn complete<E: Env>(env: &E, packet: &mut Packet, id: Option<u32>) -> bool {
    let Some(id) = id else {
        return true;
    };
    let key = FragmentKey {
        source: packet.key.source,
        destination: packet.key.destination,
        id,
        protocol: packet.key.protocol.0.into(),
    };
    if packet.piece == Piece::Later {
        let Some(first) = env.fragment(&key) else {
            return false;
        };
        packet.key.source_port = first.source_port;
        packet.key.destination_port = first.destination_port;
    } else {
        let first = Fragment {
            source_port: packet.key.source_port,
            destination_port: packet.key.destination_port,
        };
        env.set_fragment(&key, &first);
    }
    true
}
