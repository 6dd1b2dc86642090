//! An error about a flow is translated with it, however much of the packet it quotes (D7).

use clusterip_common::{
    abi::Outcome,
    packet::{Link, Verdict},
};

use super::{choices::Choices, process::pass, reading::read, scene};
use crate::{
    case::Hook,
    host::HostEnv,
    packet::{Packet, dump, tcp, too_big, udp},
    world::{service, settings},
};

struct Ends {
    client: &'static str,
    vip: &'static str,
    pod: &'static str,
    router: &'static str,
}

const V4: Ends = Ends {
    client: "10.244.0.5:3000",
    vip: "10.96.0.10:80",
    pod: "10.244.1.7:8080",
    router: "10.0.0.1",
};
const V6: Ends = Ends {
    client: "[fd00:10:244::5]:3000",
    vip: "[fd00:10:96::a]:80",
    pod: "[fd00:10:244:1::7]:8080",
    router: "fd00::1",
};

/// A flow, and an error about one of its packets; then the same with scars.
///
/// # Panics
/// The error tells the client of another flow than its own, or a checksum is wrong.
pub fn icmp_inner(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let ends = choices.pick(&[&V4, &V6]);
    let is_udp = choices.once_in(2);
    let protocol = if is_udp { "udp" } else { "tcp" };
    let world = service(&format!("{}/{protocol}", ends.vip), &[ends.pod]);
    let env = HostEnv::new(world.tables, settings());
    let opening = if is_udp {
        udp(ends.client, ends.vip)
    } else {
        tcp(ends.client, ends.vip).syn()
    };
    let opened = pass(&env, (Hook::FromPod, Link::Ethernet), &opening.bytes());
    assert_eq!(opened.verdict, Verdict::Translated(Outcome::NewFlow));

    let payload = choices.take(40);
    let from = |source, destination| -> Packet {
        if is_udp {
            udp(source, destination).payload(payload)
        } else {
            tcp(source, destination).ack().payload(payload)
        }
    };
    let header = if is_udp { 8 } else { 20 };
    let carried = match 8 + choices.below(header + payload.len() - 7) {
        // Half a checksum is left as it is: it is no use to anybody.
        17 if !is_udp => 16,
        carried => carried,
    };
    // The client's packet came to nothing behind the node, or the backend's answer at the client.
    let (hook, quoted, wanted, to, told) = if choices.once_in(2) {
        let wanted = from(ends.client, ends.vip);
        (
            Hook::ToPod,
            from(ends.client, ends.pod),
            wanted,
            ends.client,
            ends.client,
        )
    } else {
        let wanted = from(ends.pod, ends.client);
        (
            Hook::FromPod,
            from(ends.vip, ends.client),
            wanted,
            ends.vip,
            ends.pod,
        )
    };
    let error = too_big(ends.router, &quoted, carried);
    let passage = pass(&env, (hook, Link::Ethernet), &error.bytes());
    passage.is_sound();
    assert_eq!(
        passage.verdict,
        Verdict::Translated(Outcome::IcmpError),
        "D7: to {to}"
    );
    assert_eq!(
        passage.output,
        too_big(ends.router, &wanted, carried).bytes(),
        "D7: told {told} of {}",
        dump(&passage.output)
    );

    let scarred = scene::scarred(&mut choices, &error.bytes());
    let passage = pass(&env, (hook, Link::Ethernet), &scarred);
    passage.is_sound();
    if passage.verdict == Verdict::Translated(Outcome::IcmpError) {
        let inner =
            read(&passage.output, Link::Ethernet).and_then(|outer| outer.quoted(&passage.output));
        assert!(inner.is_some(), "D7: {}", dump(&passage.output));
    }
}
