//! What happens to flows when the world changes.

use clusterip_common::{
    abi::{BackendState, Outcome},
    packet::Verdict,
};

use crate::{
    case::{Case, case},
    packet::{tcp, udp},
    world::{World, service},
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const FIRST: &str = "10.244.1.1:8080";
const SECOND: &str = "10.244.1.2:8080";

fn tcp_world() -> World {
    service("10.96.0.10:80/tcp", &[FIRST, SECOND])
}

/// The first backend leaves: only the second is in a slot.
fn first_becomes(world: &mut World, state: BackendState) {
    world.change(0, |backend| backend.state = state);
    let slots: Vec<_> = world.tables.slots.keys().copied().collect();
    let Some(second) = world.tables.slots.values().nth(1).copied() else {
        return;
    };
    for slot in slots {
        world.tables.slots.insert(slot, second);
    }
}

fn first_is_gone(world: &mut World) {
    first_becomes(world, BackendState::GONE);
}

fn first_drains(world: &mut World) {
    first_becomes(world, BackendState::DRAINING);
}

fn first_is_another(world: &mut World) {
    world.change(0, |backend| backend.generation += 1);
}

fn first_is_free(world: &mut World) {
    first_becomes(world, BackendState::FREE);
    world.change(0, |backend| backend.generation = 1);
}

pub(super) fn cases() -> Vec<Case> {
    let open = |case: Case| case.sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, FIRST).syn());
    let mut cases = vec![
        open(case(
            "an established flow keeps a backend that left the set",
            "C1",
            tcp_world(),
        ))
        .then(first_is_gone)
        .sends(&tcp(CLIENT, VIP).ack(), REQUEST, &tcp(CLIENT, FIRST).ack())
        .receives(&tcp(FIRST, CLIENT).ack(), REPLY, &tcp(VIP, CLIENT).ack()),
        open(case(
            "a retransmitted SYN keeps a backend that drains",
            "C1 C2",
            tcp_world(),
        ))
        .then(first_drains)
        .sends(&tcp(CLIENT, VIP).syn(), REQUEST, &tcp(CLIENT, FIRST).syn()),
        open(case(
            "a SYN on an entry whose backend is gone chooses anew in place",
            "C3",
            tcp_world(),
        ))
        .then(first_is_gone)
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, SECOND).syn())
        .receives(
            &tcp(SECOND, CLIENT).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        ),
        open(case(
            "a SYN soon after the end of a flow does not keep a backend that is gone",
            "C3 C4",
            tcp_world(),
        ))
        .sends(
            &tcp(CLIENT, VIP).fin().ack(),
            REQUEST,
            &tcp(CLIENT, FIRST).fin().ack(),
        )
        .then(first_is_gone)
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, SECOND).syn()),
        open(case(
            "a SYN soon after the end of a flow keeps its backend",
            "C4",
            tcp_world(),
        ))
        .sends(
            &tcp(CLIENT, VIP).fin().ack(),
            REQUEST,
            &tcp(CLIENT, FIRST).fin().ack(),
        )
        .later(10)
        .sends(&tcp(CLIENT, VIP).syn(), REQUEST, &tcp(CLIENT, FIRST).syn()),
        open(case(
            "a SYN long after the end of a flow is a new flow",
            "C4 C5",
            tcp_world(),
        ))
        .sends(
            &tcp(CLIENT, VIP).fin().ack(),
            REQUEST,
            &tcp(CLIENT, FIRST).fin().ack(),
        )
        .later(20)
        .sends(&tcp(CLIENT, VIP).ack(), REQUEST, &tcp(CLIENT, FIRST).ack())
        .later(20)
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, SECOND).syn()),
        open(case(
            "a flow whose backend id has another owner is reset",
            "C10",
            tcp_world(),
        ))
        .then(first_is_another)
        .sends(
            &tcp(CLIENT, VIP).ack().numbers(7, 9),
            Verdict::Reply(Outcome::NoFlow),
            &tcp(VIP, CLIENT).rst().numbers(9, 0).turned(),
        )
        .receives_untouched(
            &tcp(FIRST, CLIENT).ack(),
            Verdict::Drop(Outcome::StaleReply),
        ),
        open(case(
            "a flow whose backend was freed is reset; a SYN begins anew",
            "C3 C10",
            tcp_world(),
        ))
        .then(first_is_free)
        .sends(
            &tcp(CLIENT, VIP).fin().numbers(7, 0),
            Verdict::Reply(Outcome::NoFlow),
            &tcp(VIP, CLIENT).rst().ack().numbers(0, 8).turned(),
        )
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, SECOND).syn()),
    ];
    cases.extend(datagrams());
    cases
}

fn datagrams() -> Vec<Case> {
    let world = || service("10.96.0.10:80/udp", &[FIRST, SECOND]);
    let open = |case: Case| case.sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, FIRST));
    vec![
        open(case(
            "a UDP flow moves when its backend left the serving set",
            "C8",
            world(),
        ))
        .then(first_is_gone)
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, SECOND))
        .receives(&udp(SECOND, CLIENT), REPLY, &udp(VIP, CLIENT)),
        open(case(
            "a UDP flow stays while its backend still serves",
            "C8",
            world(),
        ))
        .then(first_drains)
        .sends(&udp(CLIENT, VIP), REQUEST, &udp(CLIENT, FIRST)),
    ]
}
