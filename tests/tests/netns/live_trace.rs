//! `clusterip trace` over what the kernel holds: it says what a real packet then meets, and leaves nothing behind.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use clusterip_tests::{
    client::Connection,
    lab::{self, Lab},
    require_root, schema,
};
use serde_json::Value;

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in 11..14 {
        lab.backend("web", number)?;
    }
    lab.service("none", 20)?;
    lab.start()?;
    Ok(lab)
}

fn document(lab: &mut Lab, schema: &str, arguments: &[&str]) -> Result<Value> {
    let said = lab.agent()?.ask(&[arguments, &["-o", "json"]].concat())?;
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    let document = serde_json::from_str(&said.out).with_context(|| said.out.clone())?;
    schema::check(&schema::read(schema)?, &document).with_context(|| said.out)?;
    Ok(document)
}

/// Entries of every map and what was counted; but for packets that are nobody's, which come by all the time.
fn state(lab: &mut Lab) -> Result<String> {
    let status = document(lab, "status", &["status"])?;
    let maps = status.get("maps").context("maps")?;
    let outcomes = status
        .get("outcomes")
        .and_then(Value::as_array)
        .context("outcomes")?;
    let outcomes = outcomes
        .iter()
        .filter(|it| it.get("outcome") != Some(&Value::from("not-ours")));
    let services = document(lab, "services", &["get", "services", "-A"])?;
    let traffic: Vec<Option<&Value>> = (services.get("services").and_then(Value::as_array))
        .into_iter()
        .flatten()
        .map(|service| service.get("traffic"))
        .collect();
    let outcomes: Vec<&Value> = outcomes.collect();
    Ok(format!("{maps}\n{outcomes:?}\n{traffic:?}"))
}

struct Asked<'a> {
    from: &'a str,
    to: String,
    more: &'a [&'a str],
}

/// The trace, in which steps and program agree, and which has changed nothing.
fn trace(lab: &mut Lab, asked: &Asked<'_>) -> Result<Value> {
    let before = state(lab)?;
    let arguments = [
        &["trace", "--from", asked.from, "--to", &asked.to],
        asked.more,
    ]
    .concat();
    let trace = document(lab, "trace", &arguments)?;
    assert_eq!(state(lab)?, before, "{arguments:?} left something behind");
    let is = |field: &str| trace.pointer(&format!("/live/{field}"))?.as_bool();
    assert_eq!(is("agrees"), Some(true), "{trace:#}");
    let at_pods = !asked.more.contains(&"uplink");
    assert_eq!(is("isLoaded"), at_pods.then_some(true), "{trace:#}");
    Ok(trace)
}

fn said(trace: &Value) -> (Option<&str>, Option<&str>) {
    let text = |field: &str| trace.get(field).and_then(Value::as_str);
    (text("verdict"), text("outcome"))
}

fn chosen(trace: &Value) -> Option<&str> {
    trace.pointer("/chosen/address")?.as_str()
}

const fn of(to: SocketAddr) -> &'static str {
    if to.is_ipv4() {
        "10.244.0.2:40000"
    } else {
        "[fd00:10:244::2]:40000"
    }
}

#[test]
fn b1_a_trace_chooses_what_the_next_flow_gets_and_takes_nobodys_turn() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    for to in lab::tcp(10) {
        for _ in 0..4 {
            let asked = Asked {
                from: of(to),
                to: to.to_string(),
                more: &[],
            };
            let first = trace(&mut lab, &asked)?;
            assert_eq!(
                said(&first),
                (Some("translate"), Some("new-flow")),
                "{first:#}"
            );
            assert_eq!(first.get("service"), Some(&Value::from("default/web")));
            let again = trace(&mut lab, &asked)?;
            assert_eq!(chosen(&again), chosen(&first), "nobody's turn was taken");
            let mut connection = lab.client.run(|| Connection::open(to))?;
            let answer = connection.get()?;
            let number = answer
                .pod
                .rsplit('-')
                .next()
                .context("a number")?
                .parse::<u8>()?;
            let [v4, v6] = lab::spec("", number).addresses.try_into().expect("two");
            let real = if to.is_ipv4() { v4 } else { v6 };
            assert_eq!(
                chosen(&first),
                Some(real.to_string().as_str()),
                "what the next flow gets"
            );
            // C1: a packet of the flow that is now there.
            let from = connection.local()?.to_string();
            let more = ["--flags", "ack,psh"];
            let known = trace(
                &mut lab,
                &Asked {
                    from: &from,
                    to: to.to_string(),
                    more: &more,
                },
            )?;
            assert_eq!(
                said(&known),
                (Some("translate"), Some("request")),
                "{known:#}"
            );
            assert_eq!(chosen(&known), chosen(&first), "{known:#}");
        }
    }
    Ok(())
}

#[test]
fn every_verdict_is_the_programs_own() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let [none, none6] = lab::tcp(20);
    for (from, to, more, wanted) in [
        (
            of(none),
            none.to_string(),
            &[][..],
            ("reject", "no-endpoint"),
        ),
        (of(none6), none6.to_string(), &[], ("reject", "no-endpoint")),
        (
            "10.244.0.2",
            "10.96.0.20:53".into(),
            &["--protocol", "udp"],
            ("reject", "no-endpoint"),
        ),
        (
            "10.244.0.2",
            "10.96.0.10:81".into(),
            &[],
            ("reject", "no-service"),
        ),
        (
            "10.244.0.2",
            "10.96.0.10:80".into(),
            &["--flags", "ack"],
            ("reject", "no-flow"),
        ),
        (
            "10.244.0.2",
            "10.96.77.77:80".into(),
            &[],
            ("drop", "unallocated"),
        ),
        (
            "10.244.0.2",
            "10.96.0.10".into(),
            &["--protocol", "icmp"],
            ("answer", "ping"),
        ),
        (
            "fd00:10:244::2",
            "fd00:10:96::a".into(),
            &["--protocol", "icmp"],
            ("answer", "ping"),
        ),
        (
            "10.244.0.2",
            "10.244.0.11:9".into(),
            &[],
            ("pass", "not-ours"),
        ),
        (
            "192.0.2.1",
            "10.96.0.10:80".into(),
            &["--via", "uplink"],
            ("drop", "from-outside"),
        ),
    ] {
        let trace = trace(&mut lab, &Asked { from, to, more })?;
        assert_eq!(said(&trace), (Some(wanted.0), Some(wanted.1)), "{trace:#}");
    }
    // The kernel has no test-run for calls: the steps alone.
    let call = [
        "trace",
        "--via",
        "host",
        "--from",
        "10.244.0.1",
        "--to",
        "10.96.0.10:80",
    ];
    let trace = document(&mut lab, "trace", &call)?;
    assert_eq!(
        said(&trace),
        (Some("translate"), Some("socket-new-flow")),
        "{trace:#}"
    );
    assert_eq!(trace.get("live"), None, "{trace:#}");
    // For people.
    let said = lab
        .agent()?
        .ask(&["trace", "--from", "10.244.0.2", "--to", "10.96.0.10:80"])?;
    let program =
        "cip_from_pod, over a copy of what it would read, says the same: translate, to 10.244.0.";
    assert!(said.out.contains(program), "{said:?}");
    let agent = lab.agent()?;
    agent.stop()?;
    let said = agent.ask(&["trace", "--from", "10.244.0.2", "--to", "10.96.0.10:80"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.error.contains("no agent answers"), "{said:?}");
    Ok(())
}
