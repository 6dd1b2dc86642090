//! The series of requests, who answered, and what the maps counted of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
};

use anyhow::{Result, bail};

use super::{
    outside::Way,
    screen::{Screen, Tone},
    stage::{Stage, find, full_name},
};
use crate::{
    interrupt,
    metrics::{Frontend, Metrics},
};

/// Width of a bar that stands for all requests.
const BAR: u64 = 40;

/// What became of the requests to one service port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tally {
    sent: u64,
    /// Answers by the pod's name.
    answers: BTreeMap<String, u64>,
    /// Connections that were refused.
    refused: u64,
    /// The first error that is not a refusal.
    error: Option<String>,
}

/// The service table.
pub(super) fn table(frontends: &[Frontend], stage: &Stage, screen: &mut Screen) -> Result<()> {
    let metrics = stage.metrics()?;
    let mut rows = vec![["SERVICE", "ADDRESS", "PORT", "BACKENDS"].map(ToOwned::to_owned)];
    for frontend in frontends {
        let backends: Vec<_> = backends(&metrics, frontend)
            .keys()
            .map(|backend| name_of(stage, *backend))
            .collect();
        let port = &frontend.port;
        let name = if port.name.is_empty() {
            String::new()
        } else {
            format!(" ({})", port.name)
        };
        let backends = if backends.is_empty() {
            "none".to_owned()
        } else {
            backends.join(" ")
        };
        rows.push([
            port.service.clone(),
            frontend.address.ip().to_string(),
            format!("{}/{}{name}", frontend.address.port(), port.protocol),
            backends,
        ]);
    }
    let width = |column: usize| {
        let lengths = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(String::len);
        lengths.max().unwrap_or(0)
    };
    let (first, second, third) = (width(0), width(1), width(2));
    screen.line("")?;
    for (i, [service, address, port, backends]) in rows.iter().enumerate() {
        let row = format!("  {service:first$}  {address:second$}  {port:third$}  {backends}");
        let row = if i == 0 {
            screen.tone(Tone::Faint, row)
        } else {
            row
        };
        screen.line(row)?;
    }
    Ok(())
}

/// Sends `requests` to each service port and shows who answered: whether all was as it should be.
pub(super) fn run(
    frontends: &[Frontend],
    requests: u32,
    stage: &Stage,
    screen: &mut Screen,
) -> Result<bool> {
    let client = stage.client.name();
    let heading = format!("{requests} requests from {client} to each service port, one flow each");
    screen.line(format_args!("\n{}", screen.tone(Tone::Strong, heading)))?;
    let mut good = true;
    for frontend in frontends {
        let port = &frontend.port;
        let (name, number) = (full_name(frontend), frontend.address.port());
        let what = format!("{name}:{number}/{}  {}", port.protocol, frontend.address);
        let from_pod = |work: Asking<'_>| stage.client.run(work);
        let call = (what, None, requests);
        good &= ask(frontend, call, || find(frontend), from_pod, (stage, screen))?;
    }
    Ok(good)
}

/// The same from outside of the cluster, to node ports and addresses of load balancers.
pub(super) fn run_outside(
    ways: &[Way],
    requests: u32,
    stage: &Stage,
    screen: &mut Screen,
) -> Result<bool> {
    if ways.is_empty() {
        return Ok(true);
    }
    let heading = format!("{requests} requests from outside of the cluster, one flow each");
    screen.line(format_args!("\n{}", screen.tone(Tone::Strong, heading)))?;
    let mut good = true;
    for Way { frontend, told } in ways {
        let (to, port) = (frontend.address, &frontend.port);
        let what = format!("{}  {to}/{}", port.service, port.protocol);
        let from_outside = |work: Asking<'_>| stage.outside().run(work);
        let call = (what, Some(told.as_str()), requests);
        good &= ask(frontend, call, || Ok(to), from_outside, (stage, screen))?;
    }
    Ok(good)
}

/// What a client does in its namespace.
type Asking<'a> = Box<dyn FnOnce() -> io::Result<Tally> + Send + 'a>;

/// Sends requests to one service port from a namespace, and shows who answered.
fn ask(
    frontend: &Frontend,
    (what, told, requests): (String, Option<&str>, u32),
    find: impl Fn() -> io::Result<SocketAddr> + Sync + Send,
    enter: impl FnOnce(Asking<'_>) -> io::Result<Tally>,
    (stage, screen): (&Stage, &mut Screen),
) -> Result<bool> {
    let before = stage.metrics()?;
    let dialect = stage.dialect(frontend, &backends(&before, frontend));
    let tally = enter(Box::new(|| {
        let mut tally = Tally::default();
        let mut open = Vec::new();
        for _ in 0..requests {
            if interrupt::requested() {
                break;
            }
            let answer = find().and_then(|to| dialect.request(to, &mut open));
            tally.note(answer);
        }
        Ok(tally)
    }))?;
    if interrupt::requested() {
        bail!("interrupted");
    }
    let counted = Counted::between(&before, &stage.metrics()?, frontend);
    let what = screen.tone(Tone::Strong, what);
    let told = told.unwrap_or_else(|| dialect.told());
    screen.line(format_args!(
        "\n  {what}  {}",
        screen.tone(Tone::Faint, told)
    ))?;
    show(&tally, &counted, stage, screen)?;
    let faults = faults(&tally, &counted, stage);
    verdict(&tally, &counted, &faults, screen)?;
    Ok(faults.is_empty())
}

/// The last word.
pub(super) fn conclude(good: bool, screen: &mut Screen) -> Result<()> {
    let (tone, word) = if good {
        (
            Tone::Good,
            "Every answer came, the spread is even, and the maps counted what was sent.",
        )
    } else {
        (Tone::Bad, "Not everything was as it should be.")
    };
    screen.line(format_args!("\n{}\n", screen.tone(tone, word)))
}

/// What the maps counted in between.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Counted {
    service: u64,
    backends: BTreeMap<SocketAddr, u64>,
}

impl Counted {
    fn between(before: &Metrics, after: &Metrics, frontend: &Frontend) -> Self {
        let (old, new) = (backends(before, frontend), backends(after, frontend));
        let grown = |(backend, now): (SocketAddr, u64)| {
            let then = old.get(&backend).copied().unwrap_or(0);
            (backend, now.saturating_sub(then))
        };
        let port = &frontend.port;
        Self {
            service: after
                .service_flows(port)
                .saturating_sub(before.service_flows(port)),
            backends: new.into_iter().map(grown).collect(),
        }
    }
}

impl Tally {
    fn note(&mut self, answer: io::Result<String>) {
        self.sent += 1;
        match answer {
            Ok(pod) => *self.answers.entry(pod).or_default() += 1,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.refused += 1,
            Err(error) => {
                self.error.get_or_insert(error.to_string());
            }
        }
    }

    fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// The backends of a frontend's own family.
pub(super) fn backends(metrics: &Metrics, frontend: &Frontend) -> BTreeMap<SocketAddr, u64> {
    let mut backends = metrics.backend_flows(&frontend.port);
    backends.retain(|backend, _flows| backend.is_ipv4() == frontend.address.is_ipv4());
    backends
}

fn name_of(stage: &Stage, backend: SocketAddr) -> String {
    match stage.pod_at(backend.ip()) {
        Some(pod) => pod.name.clone(),
        None => backend.to_string(),
    }
}

fn show(tally: &Tally, counted: &Counted, stage: &Stage, screen: &mut Screen) -> Result<()> {
    for (backend, flows) in &counted.backends {
        let name = name_of(stage, *backend);
        let answers = tally.answers.get(&name).copied().unwrap_or(0);
        let bar = screen.bar(answers, tally.sent, BAR);
        let address = backend.to_string();
        screen.line(format_args!(
            "    {name:12} {address:22} {answers:>6} answered {flows:>6} counted  {bar}"
        ))?;
    }
    Ok(())
}

/// What is wrong, a sentence each.
fn faults(tally: &Tally, counted: &Counted, stage: &Stage) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(error) = &tally.error {
        faults.push(format!("a request failed: {error}"));
    }
    if counted.backends.is_empty() {
        if tally.refused != tally.sent {
            faults.push("a service without endpoints has to refuse (B7)".to_owned());
        }
        return faults;
    }
    let answered = tally.answered();
    if answered != tally.sent {
        faults.push(format!(
            "{answered} of {} requests were answered",
            tally.sent
        ));
    }
    if counted.service != tally.sent {
        faults.push(format!("the service counted {} flows", counted.service));
    }
    let known: BTreeSet<_> = counted
        .backends
        .keys()
        .map(|backend| name_of(stage, *backend))
        .collect();
    for stranger in tally.answers.keys().filter(|name| !known.contains(*name)) {
        faults.push(format!("{stranger} answered and is no backend"));
    }
    let mut spread = Vec::new();
    for (backend, flows) in &counted.backends {
        let name = name_of(stage, *backend);
        let answers = tally.answers.get(&name).copied().unwrap_or(0);
        if *flows != answers {
            faults.push(format!(
                "{name} answered {answers} times and the maps counted {flows}"
            ));
        }
        spread.push(answers);
    }
    let uneven = spread
        .iter()
        .max()
        .zip(spread.iter().min())
        .map_or(0, |(max, min)| max - min);
    if uneven > 1 {
        faults.push(format!("the counts differ by {uneven}: more than 1 (B1)"));
    }
    faults
}

fn verdict(tally: &Tally, counted: &Counted, faults: &[String], screen: &mut Screen) -> Result<()> {
    for fault in faults {
        let fault = screen.tone(Tone::Bad, format_args!("fault: {fault}"));
        screen.line(format_args!("    {fault}"))?;
    }
    if faults.is_empty() {
        let told = if counted.backends.is_empty() {
            format!("{} refused: no endpoint", tally.refused)
        } else {
            format!(
                "{} sent, {} answered, {} counted",
                tally.sent,
                tally.answered(),
                counted.service
            )
        };
        let told = screen.tone(Tone::Good, told);
        screen.line(format_args!("    {told}"))?;
    }
    Ok(())
}
