//! What goes on: `clusterip top` on a terminal, elsewhere a table of flows and rates; and the commands to try beside it.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    outside::Way,
    screen::{Screen, Tone},
    series::backends,
    stage::{Dialect, Stage, find},
};
use crate::{
    interrupt,
    metrics::{Frontend, Metrics, ServicePort},
    process, wait,
};

/// How often somebody looks; the table is written every tenth time.
const TICK: Duration = Duration::from_secs(1);
/// The pause between two requests of the demo's own.
const PACE: Duration = Duration::from_millis(200);
/// Width of a bar.
const BAR: u64 = 24;

/// Shows the table until the user wants to stop.
pub(super) fn run(
    frontends: &[Frontend],
    ways: &[Way],
    stage: &Stage,
    screen: &mut Screen,
) -> Result<()> {
    let metrics = stage.metrics()?;
    let spoken: Vec<_> = frontends
        .iter()
        .map(|frontend| {
            (
                frontend.clone(),
                stage.dialect(frontend, &backends(&metrics, frontend)),
            )
        })
        .collect();
    screen.line(screen.tone(Tone::Strong, "Try it from another shell:"))?;
    for command in stage.commands(&spoken, ways) {
        screen.line(format_args!("  {command}"))?;
    }
    let is_terminal = screen.is_terminal() && io::stdin().is_terminal();
    let end = if is_terminal {
        "q leaves the screen that follows."
    } else {
        "Ctrl-C takes everything down."
    };
    let note = format!("The client goes on asking each port in turn, five times a second. {end}");
    screen.line(format_args!("\n{}\n", screen.tone(Tone::Faint, note)))?;

    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| ask_on(&spoken, stage, &done));
        let result = if is_terminal {
            top_on(stage, screen)
        } else {
            draw_on(stage, metrics, screen)
        };
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// `clusterip top`, as often as the user wants it.
fn top_on(stage: &Stage, screen: &mut Screen) -> Result<()> {
    while !interrupt::requested() {
        let mut top = process::spawn(stage.top()?).context("start clusterip top")?;
        loop {
            let ended = wait::polled(TICK, || top.ended().ok().flatten());
            if ended.is_some() {
                break;
            }
            if interrupt::requested() {
                // It gives the terminal back.
                top.terminate(10 * TICK)?;
                break;
            }
        }
        if interrupt::requested() {
            break;
        }
        let note = "Enter shows clusterip top again, Ctrl-C takes everything down.";
        screen.line(screen.tone(Tone::Faint, note))?;
        let (enter, entered) = mpsc::channel();
        // It reads the terminal until then only, as `top` wants the keys.
        thread::spawn(move || {
            let read = io::stdin().read_line(&mut String::new());
            // Nobody waits any more where the demo is taken down.
            let _sent = enter.send(read.is_ok_and(|length| length > 0));
        });
        let again = loop {
            match entered.recv_timeout(TICK / 10) {
                Err(mpsc::RecvTimeoutError::Timeout) if !interrupt::requested() => {}
                answer => break answer.unwrap_or(false),
            }
        };
        if !again {
            break;
        }
    }
    screen.line("")
}

/// Light traffic, so that the table lives.
fn ask_on(frontends: &[(Frontend, Dialect)], stage: &Stage, done: &AtomicBool) {
    let asked = stage.client.run(|| {
        for (frontend, dialect) in frontends.iter().cycle() {
            if done.load(Ordering::Relaxed) || interrupt::requested() {
                break;
            }
            // The table shows failures as flows that do not come; a pod may be taken out by the user.
            drop(find(frontend).and_then(|to| dialect.request(to, &mut Vec::new())));
            thread::sleep(PACE);
        }
        Ok(())
    });
    // Without a namespace to enter there is no traffic; the table shows that.
    drop(asked);
}

fn draw_on(stage: &Stage, first: Metrics, screen: &mut Screen) -> Result<()> {
    let mut old = first;
    let mut drawn = Instant::now();
    let tick = 10 * TICK;
    loop {
        if wait::polled(tick, || interrupt::requested().then_some(())).is_some() {
            break;
        }
        // The agent may be busy or restarted by the user; the table waits for it.
        let Ok(new) = stage.metrics() else {
            continue;
        };
        let seconds = drawn.elapsed().as_secs_f64();
        drawn = Instant::now();
        let lines = table(&old, &new, seconds, stage, screen);
        for line in &lines {
            screen.line(line)?;
        }
        old = new;
    }
    screen.line("")
}

fn table(
    old: &Metrics,
    new: &Metrics,
    seconds: f64,
    stage: &Stage,
    screen: &Screen,
) -> Vec<String> {
    let mut rows = Vec::new();
    let mut shown: Option<ServicePort> = None;
    for frontend in new.frontends() {
        let port = frontend.port;
        let (now, then) = (new.service_flows(&port), old.service_flows(&port));
        rows.push(Row {
            name: format!("{}  {}/{}", port.service, frontend.address, port.protocol),
            flows: now,
            rate: rate(now, then, seconds),
            most: None,
        });
        // A service port with an address in each family has one count.
        if shown.as_ref() != Some(&port) {
            let (now, then) = (new.backend_flows(&port), old.backend_flows(&port));
            let most = now.values().copied().max();
            rows.extend(now.iter().map(|(backend, flows)| {
                let pod = stage.pod_at(backend.ip()).map_or("", |pod| &pod.name);
                Row {
                    name: format!("  {pod:12} {backend}"),
                    flows: *flows,
                    rate: rate(*flows, then.get(backend).copied().unwrap_or(0), seconds),
                    most,
                }
            }));
            shown = Some(port);
        }
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let heading = format!(
        "  {:width$}  {:>8}  {:>8}",
        "SERVICE, BACKEND", "FLOWS", "FLOWS/S"
    );
    let heading = screen.tone(Tone::Faint, heading);
    let rows = rows.iter().map(|row| {
        let Row {
            name,
            flows,
            rate,
            most,
        } = row;
        let bar = most.map_or_else(String::new, |most| screen.bar(*flows, most, BAR));
        format!("  {name:width$}  {flows:>8}  {rate:>8.1}  {bar}")
    });
    [heading].into_iter().chain(rows).collect()
}

/// A line of the table.
struct Row {
    name: String,
    flows: u64,
    rate: f64,
    /// The most of its neighbours, for the bar of a backend.
    most: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn rate(now: u64, then: u64, seconds: f64) -> f64 {
    now.saturating_sub(then) as f64 / seconds.max(f64::EPSILON)
}
