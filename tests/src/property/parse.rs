//! What the dataplane reads in a frame is what a second reader finds there (D4, D5).

use clusterip_common::{
    abi::{FlowKey, Outcome, Range, Settings},
    packet::Verdict,
    wire::{Addr, Be16, Proto},
};

use super::{
    choices::Choices,
    process::pass,
    reading::{Piece, read},
    scene,
};
use crate::{case::Hook, host::HostEnv, packet::dump, world::nothing};

/// Any frame, where every address is a service address and no service is there.
///
/// # Panics
/// The flow that was looked for is not the one in the frame.
pub fn parse(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let everything = |network| Range {
        network,
        mask: Addr::UNSPECIFIED,
    };
    let settings = Settings {
        service_v4: everything(Addr::UNSPECIFIED),
        service_v6: everything(Addr::UNSPECIFIED),
        ..Settings::DEFAULT
    };
    let env = HostEnv::new(nothing().tables, settings);
    let (frame, link) = scene::frame(&mut choices);
    let passage = pass(&env, (Hook::FromPod, link), &frame);
    passage.is_sound();
    let Some(packet) = read(&frame, link) else {
        let is_dropped = !matches!(passage.verdict, Verdict::Reply(_) | Verdict::Translated(_));
        assert!(is_dropped, "D4: {:?}\n{}", passage.verdict, dump(&frame));
        return;
    };
    let is_refused = passage.verdict == Verdict::Drop(Outcome::MappedAddress);
    if packet.is_icmp() || packet.piece == Piece::Later || is_refused {
        return;
    }
    let wanted = packet.ports(&frame).map(|(source, destination)| FlowKey {
        source: packet.source.into(),
        destination: packet.destination.into(),
        source_port: Be16::new(source),
        destination_port: Be16::new(destination),
        protocol: Proto(packet.protocol),
        zero: 0,
        zero_tail: 0,
    });
    assert_eq!(
        env.asked.get(),
        wanted,
        "D4, D5: {:?}\n{}",
        passage.verdict,
        dump(&frame)
    );
}
