mod leaving;
mod real;
mod tls;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use serde_json::{Value, json};

use super::{Check, Job, Pods, Results, definitions};
use crate::{
    clock::Now,
    model::{
        event::Event,
        object::{Kind, Object, ObjectKey, ObjectName, Spec},
    },
};

const NODE: &str = "node-a";

/// The clock of the day leaps by decades, back and forth, each second: no probe and no grace period looks at it.
fn at(seconds: u64) -> Now {
    let leaps = [0, 2_000_000_000, -1_000_000_000, 1_000_000_000];
    let day = leaps[usize::try_from(seconds).unwrap() % leaps.len()];
    Now {
        elapsed: Duration::from_secs(seconds),
        wall: Timestamp::from_second(day).unwrap(),
    }
}

/// The running pod `default/NAME` at 10.1.0.1; `spec` and `status` are added to what it has.
fn pod_with(name: &str, container: Value, spec: Value, status: Value) -> Object {
    let mut value = json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "ports": [{ "name": "http", "containerPort": 8080 }] }] },
        "status": { "phase": "Running", "podIP": "10.1.0.1" },
    });
    let mut extend = |path: &str, more: Value| {
        let target = value.pointer_mut(path).and_then(Value::as_object_mut);
        let (Some(target), Value::Object(more)) = (target, more) else {
            panic!("{path} is no object");
        };
        target.extend(more);
    };
    extend("/spec/containers/0", container);
    extend("/spec", spec);
    extend("/status", status);
    Object {
        key: ObjectKey {
            kind: Kind::Pod,
            name: ObjectName::new("default", name),
        },
        spec: serde_json::from_value::<Pod>(value).unwrap().into(),
        origin: std::sync::Arc::default(),
    }
}

fn pod(name: &str, container: Value) -> Object {
    pod_with(name, container, json!({}), json!({}))
}

fn readiness(more: Value) -> Value {
    let mut probe = json!({ "httpGet": { "port": "http", "path": "/ready" } });
    if let (Some(probe), Value::Object(more)) = (probe.as_object_mut(), more) {
        probe.extend(more);
    }
    json!({ "readinessProbe": probe })
}

fn put(object: &Object) -> Event {
    Event::Put(Box::new(object.clone()))
}

/// Pods after a first listing without any.
fn running() -> Pods {
    let mut pods = Pods::new(NODE, Results::default());
    let out = pods.take(vec![Event::Reset, Event::Synced], at(0));
    assert_eq!(out, [Event::Reset, Event::Synced]);
    pods
}

/// What the cluster sees of each pod: `ready`, `unready`, `-` where it says nothing, `gone`; `terminating` behind it.
fn seen(events: &[Event]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for event in events {
        match event {
            Event::Put(object) => {
                let Spec::Pod(pod) = &object.spec else {
                    continue;
                };
                let mut text = match pod.ready {
                    Some(true) => "ready".to_owned(),
                    Some(false) => "unready".to_owned(),
                    None => "-".to_owned(),
                };
                if pod.deleted.is_some() {
                    text.push_str(" terminating");
                }
                all.insert(object.key.name.name.to_string(), text);
            }
            Event::Remove(key) => {
                all.insert(key.name.name.to_string(), "gone".to_owned());
            }
            _ => {}
        }
    }
    all
}

fn one(events: &[Event]) -> String {
    let all = seen(events);
    assert!(all.len() <= 1, "{all:?}");
    all.into_values().next().unwrap_or_default()
}

/// Runs what is due at each second and answers with `result`; when the cluster saw what.
fn play(
    pods: &mut Pods,
    seconds: std::ops::RangeInclusive<u64>,
    mut result: impl FnMut(u64, &Job) -> bool,
) -> Vec<(u64, String)> {
    let mut story = Vec::new();
    for second in seconds {
        let mut events = pods.expire(at(second));
        for job in pods.due(at(second)) {
            let result = result(second, &job);
            let result = if result {
                Ok(())
            } else {
                Err("refused".to_owned())
            };
            events.extend(pods.observe(&job.id, result, at(second)));
        }
        let text = one(&events);
        if !text.is_empty() {
            story.push((second, text));
        }
    }
    story
}

fn story(texts: &[(u64, &str)]) -> Vec<(u64, String)> {
    let owned = texts
        .iter()
        .map(|(second, text)| (*second, (*text).to_owned()));
    owned.collect()
}

/// I1
#[test]
fn readiness_starts_failed_until_its_first_success_after_the_initial_delay() {
    let mut pods = running();
    let slow = readiness(json!({ "initialDelaySeconds": 7, "periodSeconds": 1 }));
    let shown = pods.take(vec![put(&pod("web", slow))], at(100));
    assert_eq!(one(&shown), "unready");
    let mut asked = Vec::new();
    let told = play(&mut pods, 100..=115, |second, _| {
        asked.push(second);
        second >= 110
    });
    assert_eq!(asked.first(), Some(&107));
    assert_eq!(told, story(&[(110, "ready")]));
}

/// I1
#[test]
fn without_a_readiness_probe_nothing_is_said() {
    let mut pods = running();
    let plain = pod("web", json!({}));
    assert_eq!(pods.take(vec![put(&plain)], at(0)), [put(&plain)]);
    let alive = json!({ "livenessProbe": { "tcpSocket": { "port": 8080 } } });
    let alive = pod("web", alive);
    assert_eq!(pods.take(vec![put(&alive)], at(0)), [put(&alive)]);
    assert_eq!(
        play(&mut pods, 0..=99, |_, _| false),
        [],
        "liveness is reported only (I3)"
    );
}

/// I2, I3
#[test]
fn readiness_is_lost_after_three_failures_and_regained_by_one_success() {
    let mut pods = running();
    pods.take(
        vec![put(&pod("web", readiness(json!({ "periodSeconds": 1 }))))],
        at(0),
    );
    // A second is a period: each second has its result.
    let told = play(&mut pods, 0..=30, |second, _| {
        !(10..12).contains(&second) && !(15..20).contains(&second)
    });
    let [(0, first), (lost, unready), (back, again)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!([first, unready, again], ["ready", "unready", "ready"]);
    assert!(
        (16..=18).contains(lost),
        "the third failure in a row: {lost}"
    );
    assert!((20..=21).contains(back), "{back}");
}

/// I2
#[test]
fn defaults_are_those_of_kubernetes() {
    let object = pod("web", readiness(json!({})));
    let Spec::Pod(spec) = &object.spec else {
        panic!("a pod");
    };
    let all = definitions(spec, NODE);
    let [probe] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(probe.timing.period, Duration::from_secs(10));
    assert_eq!(probe.timing.timeout, Duration::from_secs(1));
    assert_eq!(probe.timing.initial_delay, Duration::ZERO);
    assert_eq!((probe.thresholds.success, probe.thresholds.failure), (1, 3));
    let Check::Http {
        to,
        request,
        secure: false,
    } = &probe.check
    else {
        panic!("{probe:?}");
    };
    assert_eq!(
        to.to_string(),
        "10.1.0.1:8080",
        "the named port of the container"
    );
    assert!(request.starts_with("GET /ready HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n"), "{request}");
}

#[test]
fn what_cannot_be_asked_is_a_problem_and_never_a_success() {
    let exec = json!({ "exec": { "command": ["true"] } });
    for (probe, wanted) in [
        (json!({ "grpc": { "port": 0 } }), "port must be"),
        (
            json!({ "grpc": { "port": 1, "service": "x".repeat(101) } }),
            "at most 100 characters",
        ),
        (
            json!({ "httpGet": { "port": 1, "scheme": "https" } }),
            "scheme \"https\" must be HTTP or HTTPS",
        ),
        (json!({ "httpGet": { "port": "no" } }), "port must be"),
        (
            json!({ "httpGet": { "port": 1, "path": "/a\r\nb" } }),
            "control characters",
        ),
        (json!({ "tcpSocket": { "port": 70_000 } }), "port must be"),
        (
            json!({ "tcpSocket": { "port": 1, "host": "example.com" } }),
            "must be an address",
        ),
        (exec, "clusterip.dev/netns"),
        (json!({}), "says nothing to ask"),
    ] {
        let mut pods = running();
        let object = pod("web", json!({ "readinessProbe": probe }));
        let out = pods.take(vec![Event::Problems(Vec::new()), put(&object)], at(0));
        assert_eq!(one(&out), "unready", "{probe}");
        let Some(Event::Problems(problems)) = out.last() else {
            panic!("{probe}: {out:?}");
        };
        let text = problems[0].to_string();
        assert!(text.contains("spec.containers[0].readinessProbe"), "{text}");
        assert!(text.contains(wanted), "{text}");
        assert_eq!(play(&mut pods, 0..=60, |_, _| true), []);
        let mended = pods.take(vec![put(&pod("web", json!({})))], at(61));
        assert_eq!(mended.last(), Some(&Event::Problems(Vec::new())));
    }
}

#[test]
fn a_command_runs_on_the_pods_own_node_where_the_manifest_names_its_namespace() {
    let probe = json!({ "readinessProbe": { "exec": { "command": ["true", "-v"] } } });
    let on = |node: &str, netns: &str| {
        let mut object = pod_with("db", probe.clone(), json!({ "nodeName": node }), json!({}));
        if let Spec::Pod(spec) = &mut object.spec {
            let pod = std::sync::Arc::make_mut(spec);
            pod.netns = Some(netns.into());
            return definitions(pod, NODE).remove(0).check;
        }
        panic!("a pod");
    };
    for (netns, path) in [
        ("db", "/run/netns/db"),
        ("/proc/1/ns/net", "/proc/1/ns/net"),
    ] {
        let Check::Exec { netns, command } = on(NODE, netns) else {
            panic!("{netns}");
        };
        assert_eq!(&*netns, path);
        assert_eq!(*command, ["true", "-v"]);
    }
    for (node, netns) in [("node-b", "db"), (NODE, "a/b"), (NODE, "..")] {
        assert!(
            matches!(on(node, netns), Check::Impossible { .. }),
            "{node} {netns}"
        );
    }
}

/// The rule of docs/probes.md: a pod that says its state itself is believed.
#[test]
fn a_ready_condition_in_the_status_wins_over_the_probe() {
    let mut pods = running();
    let says = json!({ "conditions": [{ "type": "Ready", "status": "False" }] });
    let object = pod_with("web", readiness(json!({})), json!({}), says);
    assert_eq!(pods.take(vec![put(&object)], at(0)), [put(&object)]);
    assert_eq!(play(&mut pods, 0..=30, |_, _| true), []);
}

#[test]
fn nothing_else_runs_before_the_startup_probe_has_succeeded() {
    let mut pods = running();
    let container = json!({
        "startupProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 1 },
        "readinessProbe": { "tcpSocket": { "port": 2 } },
        "livenessProbe": { "tcpSocket": { "port": 3 } },
    });
    let shown = pods.take(vec![put(&pod("web", container))], at(0));
    assert_eq!(one(&shown), "unready");
    let mut asked: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    let told = play(&mut pods, 0..=40, |second, job| {
        let Check::Tcp { to } = job.check else {
            panic!("{job:?}");
        };
        asked.entry(to.port()).or_default().push(second);
        second >= 20
    });
    let last = asked[&1].last().copied();
    assert_eq!(last, Some(20), "it ends with its success: {asked:?}");
    assert!(
        asked[&2][0] > 20 - 1 && asked[&2][0] <= 21,
        "at once: {asked:?}"
    );
    assert!(
        asked[&3][0] > 20 - 1 && asked[&3][0] <= 21,
        "at once: {asked:?}"
    );
    assert_eq!(told.last().map(|(_, text)| text.as_str()), Some("ready"));
}

#[test]
fn every_container_must_be_ready() {
    let mut pods = running();
    let two = json!({ "containers": [
        { "name": "a", "readinessProbe": { "tcpSocket": { "port": 1 }, "periodSeconds": 1 } },
        { "name": "b", "readinessProbe": { "tcpSocket": { "port": 2 }, "periodSeconds": 1 } },
        { "name": "c" },
    ] });
    pods.take(
        vec![put(&pod_with("web", json!({}), two, json!({})))],
        at(0),
    );
    let told = play(&mut pods, 0..=10, |second, job| {
        matches!(job.check, Check::Tcp { to } if to.port() == 1) || second >= 5
    });
    assert_eq!(told, story(&[(5, "ready")]));
}

/// I4
#[test]
fn a_pod_whose_file_is_gone_terminates_for_its_grace_period() {
    let mut pods = running();
    let ready = pod("web", readiness(json!({ "periodSeconds": 1 })));
    pods.take(vec![put(&ready)], at(0));
    play(&mut pods, 0..=5, |_, _| true);
    let remove = || vec![Event::Remove(ready.key.clone())];
    // It serves on as it was last: ready, and terminating.
    assert_eq!(one(&pods.take(remove(), at(10))), "ready terminating");
    assert_eq!(
        one(&pods.take(remove(), at(12))),
        "ready terminating",
        "again"
    );
    // It is part of every listing until it is gone, and nothing asks it any more.
    let listing = pods.take(vec![Event::Reset, Event::Synced], at(20));
    assert_eq!(one(&listing), "ready terminating");
    assert_eq!(listing.last(), Some(&Event::Synced));
    let told = play(&mut pods, 21..=60, |_, job| panic!("{job:?}"));
    assert_eq!(told, story(&[(40, "gone")]));
    assert_eq!(pods.next(), None, "nothing is left to do");

    // Its own grace period; none at all; one that comes back; one that terminates already.
    let with = |seconds: i64| {
        let grace = json!({ "terminationGracePeriodSeconds": seconds });
        pod_with("web", json!({}), grace, json!({}))
    };
    pods.take(vec![put(&with(5))], at(100));
    assert_eq!(one(&pods.take(remove(), at(100))), "- terminating");
    assert_eq!(one(&pods.take(vec![put(&with(0))], at(101))), "-");
    assert_eq!(play(&mut pods, 101..=110, |_, _| true), [], "it is back");
    assert_eq!(one(&pods.take(remove(), at(110))), "gone");
    let done = pod_with("web", json!({}), json!({}), json!({ "phase": "Succeeded" }));
    pods.take(vec![put(&done)], at(120));
    assert_eq!(one(&pods.take(remove(), at(120))), "gone");
}

/// I4: what a listing no longer holds.
#[test]
fn a_pod_that_a_listing_lacks_terminates_too() {
    let mut pods = running();
    pods.take(vec![put(&pod("web", json!({})))], at(0));
    let out = pods.take(vec![Event::Reset, Event::Synced], at(1));
    assert_eq!(one(&out), "- terminating");
    assert_eq!(play(&mut pods, 2..=40, |_, _| true), story(&[(31, "gone")]));
}

/// F1, F4: after a restart the maps keep what they have until it is known who is ready.
#[test]
fn the_first_listing_is_complete_when_every_readiness_probe_has_a_result() {
    let slow = |name| pod(name, readiness(json!({ "initialDelaySeconds": 60 })));
    let first = || {
        vec![
            Event::Reset,
            put(&slow("a")),
            put(&slow("b")),
            Event::Synced,
        ]
    };
    let is_complete = |events: &[Event]| events.contains(&Event::Synced);
    let mut pods = Pods::new(NODE, Results::default());
    assert!(!is_complete(&pods.take(first(), at(0))));
    let jobs = pods.due(at(0));
    assert_eq!(jobs.len(), 2, "the delay is over for who runs already");
    assert!(!is_complete(&pods.observe(&jobs[0].id, Ok(()), at(1))));
    let refused = Err("refused".to_owned());
    assert!(is_complete(&pods.observe(&jobs[1].id, refused, at(1))));

    // It does not wait for ever, and not in the middle of another listing.
    let mut pods = Pods::new(NODE, Results::default());
    pods.take(first(), at(0));
    assert_eq!(pods.next(), Some(Duration::ZERO));
    pods.due(at(0));
    assert!(!is_complete(&pods.expire(at(4))));
    pods.take(vec![Event::Reset, put(&slow("a"))], at(4));
    assert!(!is_complete(&pods.expire(at(6))));
    assert!(!is_complete(&pods.take(vec![Event::Synced], at(6))));
    assert!(is_complete(&pods.expire(at(11))));
}

#[test]
fn a_result_of_an_older_state_of_the_pod_is_of_nobody() {
    let mut pods = running();
    pods.take(vec![put(&pod("web", readiness(json!({}))))], at(0));
    let old = pods.due(at(0)).remove(0);
    pods.take(
        vec![put(&pod("web", readiness(json!({ "periodSeconds": 5 }))))],
        at(1),
    );
    assert_eq!(pods.observe(&old.id, Ok(()), at(1)), []);
    // An object that changed otherwise keeps what is known.
    let new = pods.due(at(1)).remove(0);
    assert_eq!(one(&pods.observe(&new.id, Ok(()), at(1))), "ready");
    let moved = json!({ "schedulerName": "another" });
    let same = pod_with(
        "web",
        readiness(json!({ "periodSeconds": 5 })),
        moved,
        json!({}),
    );
    assert_eq!(one(&pods.take(vec![put(&same)], at(2))), "ready");
}

#[test]
fn probes_are_spread_over_their_period() {
    let mut pods = running();
    let all = (0..1000).map(|number| put(&pod(&format!("web-{number}"), readiness(json!({})))));
    pods.take(all.collect(), at(0));
    let mut counts = Vec::new();
    for second in 0..=30 {
        let jobs = pods.due(at(second));
        counts.push(jobs.len());
        for job in jobs {
            pods.observe(&job.id, Ok(()), at(second));
        }
    }
    assert_eq!(
        counts[0], 1000,
        "at first all at once: nobody waits a period for readiness"
    );
    // From the second one on each pod has its own second of ten.
    for second in 16..=30 {
        assert!((60..=140).contains(&counts[second]), "{counts:?}");
    }
}
