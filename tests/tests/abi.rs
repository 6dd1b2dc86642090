//! The pinned layout, beside the one that is written down: an agent and a program of different age share these bytes.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::format_collect,
    reason = "a test target is nothing but tests, and this one a list"
)]

use std::{env, fmt::Write as _, fs, mem::offset_of, path::Path};

use clusterip_common::abi::{
    Affinity, AffinityKey, Announced, AnnouncedKey, Backend, BackendState, Counters, Direction,
    Event, EventKind, Flow, FlowKey, FlowState, Fragment, FragmentKey, Inside, InsideKey, Outcome,
    Scope, Service, ServiceKey, SocketFlow, SocketKey, SourcesKey, Traffic, VERSION, Watch, maps,
};

/// One line per field, and a build that fails when a field is added without a line here.
macro_rules! layout {
    ($text:ident, $type:ident { $($field:ident),+ $(,)? }) => {
        let _complete = |value: $type| { let $type { $($field: _),+ } = value; };
        writeln!($text, "{} {} bytes", stringify!($type), size_of::<$type>()).unwrap();
        $(writeln!($text, "  {:>3} {}", offset_of!($type, $field), stringify!($field)).unwrap();)+
    };
}

fn current() -> String {
    let mut text = format!("version {VERSION}\n\n");
    for maps::Shape {
        name,
        kind,
        key,
        value,
        entries: _,
        help: _,
    } in maps::ALL
    {
        writeln!(text, "{name} {kind:?} key {key} value {value}").unwrap();
    }
    text.push('\n');
    layout!(
        text,
        ServiceKey {
            address,
            port,
            protocol,
            scope,
            zero
        }
    );
    layout!(
        text,
        Service {
            id,
            first_slot,
            slot_count,
            algorithm,
            flags,
            affinity
        }
    );
    layout!(
        text,
        Backend {
            address,
            port,
            state,
            service,
            generation,
            zero
        }
    );
    layout!(
        text,
        FlowKey {
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            zero,
            zero_tail
        }
    );
    layout!(
        text,
        Flow {
            last_seen,
            address,
            port,
            direction,
            state,
            backend,
            generation,
            client_port,
            node_port
        }
    );
    layout!(
        text,
        SocketKey {
            cookie,
            address,
            port,
            direction,
            zero,
            zero_tail
        }
    );
    layout!(
        text,
        SocketFlow {
            address,
            port,
            zero,
            backend,
            generation,
            zero_tail
        }
    );
    layout!(
        text,
        AffinityKey {
            client,
            service,
            zero
        }
    );
    layout!(
        text,
        Affinity {
            last_used,
            backend,
            generation
        }
    );
    layout!(
        text,
        FragmentKey {
            source,
            destination,
            id,
            protocol
        }
    );
    layout!(
        text,
        Fragment {
            source_port,
            destination_port
        }
    );
    layout!(
        text,
        Counters {
            requests,
            replies,
            flows
        }
    );
    layout!(text, Traffic { packets, bytes });
    layout!(text, InsideKey { prefix, address });
    let (Inside(pods), Inside(node)) = (Inside::PODS, Inside::NODE);
    let Inside(own) = Inside::OWN;
    writeln!(text, "Inside pods={pods} node={node} own={own}").unwrap();
    layout!(
        text,
        SourcesKey {
            prefix,
            service,
            address
        }
    );
    layout!(
        text,
        AnnouncedKey {
            address,
            device,
            zero
        }
    );
    layout!(text, Announced { mac, zero });
    let Scope(cluster) = Scope::CLUSTER;
    let (Scope(inside), Scope(outside)) = (Scope::INSIDE, Scope::OUTSIDE);
    let Scope(loopback) = Scope::LOOPBACK;
    writeln!(
        text,
        "Scope cluster={cluster} inside={inside} outside={outside} loopback={loopback}"
    )
    .unwrap();
    let BackendState(free) = BackendState::FREE;
    let BackendState(active) = BackendState::ACTIVE;
    let BackendState(draining) = BackendState::DRAINING;
    let BackendState(gone) = BackendState::GONE;
    writeln!(
        text,
        "\nBackendState free={free} active={active} draining={draining} gone={gone}"
    )
    .unwrap();
    let (Direction(request), Direction(reply)) = (Direction::REQUEST, Direction::REPLY);
    let Direction(unmasquerade) = Direction::UNMASQUERADE;
    let Direction(masquerade) = Direction::MASQUERADE;
    let (Direction(forwarded), Direction(returned)) = (Direction::FORWARDED, Direction::RETURN);
    writeln!(
        text,
        "Direction request={request} reply={reply} unmasquerade={unmasquerade} masquerade={masquerade} forwarded={forwarded} return={returned}"
    )
    .unwrap();
    let FlowState(opening) = FlowState::OPENING;
    let FlowState(established) = FlowState::ESTABLISHED;
    let FlowState(closing) = FlowState::CLOSING;
    writeln!(
        text,
        "FlowState opening={opening} established={established} closing={closing}"
    )
    .unwrap();
    text.push_str("\nNot pinned\n");
    layout!(
        text,
        Event {
            time,
            client,
            frontend,
            backend,
            client_port,
            frontend_port,
            backend_port,
            protocol,
            kind,
            outcome,
            service,
            bytes,
            captured,
            device,
            hook,
            is_bare,
            zero
        }
    );
    layout!(
        text,
        Watch {
            until,
            outcomes,
            services,
            kinds,
            sample,
            capture,
            zero
        }
    );
    text.push_str("EventKind");
    for (EventKind(kind), name) in EventKind::ALL {
        write!(text, " {name}={kind}").unwrap();
    }
    text.push_str("\n\nOutcome\n");
    for outcome in Outcome::ALL {
        writeln!(text, "  {:>3} {}", outcome.index(), outcome.name()).unwrap();
    }
    text
}

#[test]
fn a_change_of_the_layout_needs_a_new_version() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("abi.txt");
    let written = fs::read_to_string(&file).unwrap_or_default();
    let current = current();
    if written == current {
        return;
    }
    let same_version = written.lines().next() == current.lines().next();
    let update = env::var_os("UPDATE_EXPECT").is_some();
    assert!(
        update && !same_version,
        "The layout of the pinned maps is not the one in tests/abi.txt. An agent that adopts the maps of an older one \
         would misread them, so:\n\
         1. raise VERSION in clusterip-common/src/abi/mod.rs (it is part of the pin path);\n\
         2. UPDATE_EXPECT=1 cargo test -p clusterip-tests --test abi\n\
         (A layout that was never released may keep its number: remove the file first.)\n\
         \n{}",
        difference(&written, &current)
    );
    fs::write(&file, current).unwrap();
}

/// Lines that are in one text only: `-` in the first, `+` in the second.
fn difference(written: &str, current: &str) -> String {
    let only = |sign: char, text: &str, other: &str| {
        text.lines()
            .filter(|line| !other.lines().any(|same| same == *line))
            .map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    only('-', written, current) + &only('+', current, written)
}
