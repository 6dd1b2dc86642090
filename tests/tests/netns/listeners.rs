//! Listeners that are slow, stuck, gone, or that an agent leaves: nobody waits for them, and what they miss is counted.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Listener, agent, flood,
    lab::{self, Lab},
    listener, require_root, wait,
};

use crate::monitor::{lab, listen};

const SOCKET: &str = "/run/clusterip/agent.sock";

fn connect(lab: &Lab) -> Result<UnixStream> {
    let stream = lab.node.namespace().run(|| UnixStream::connect(SOCKET))?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    Ok(stream)
}

/// So many SYNs to a service address without a service: each is dropped and told.
fn flood(lab: &Lab, first: u32, count: u32) -> Result<()> {
    let to = "10.96.77.77:80".parse()?;
    Ok(lab.client.run(|| flood::syns(to, first, count))?)
}

#[test]
fn a_stuck_listener_loses_events_that_are_counted_and_holds_up_nobody() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let mut stuck = connect(&lab)?;
    stuck.write_all(b"GET /v1/monitor?outcome=dropped HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut beginning = [0; 1024];
    let read = stuck.read(&mut beginning)?;
    ensure!(beginning.starts_with(b"HTTP/1.1 200 OK"), "{read} bytes");
    let good = listen(&lab, &["--outcome", "dropped"])?;
    let (mut sent, mut had) = (0, 0);
    let (mut text, mut part) = (String::new(), vec![0; 65_536]);
    // The other one falls behind, by more than sockets and queues hold. That it reads a little is why it is not let go.
    for round in 0..20 {
        flood(&lab, round * 1_000, 1_000)?;
        sent += 1_000;
        had = wait::until("the good listener has all of it", || {
            let (events, lost) = listener::told(&good.text(), "dropped");
            (events + lost >= sent).then_some(events)
        })?;
        let read = stuck.read(&mut part)?;
        text.push_str(&String::from_utf8_lossy(
            part.get(..read).unwrap_or_default(),
        ));
    }
    ensure!(had > sent / 2, "{had} of {sent}");
    // Meanwhile it programs and answers.
    let said = lab.agent()?.ask(&["status", "--brief"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    // Now it reads on: first what had waited, then how many are missing.
    while listener::told(&text, "dropped").1 == 0 {
        let read = stuck.read(&mut part)?;
        ensure!(read > 0, "the stream ended\n{text}");
        text.push_str(&String::from_utf8_lossy(
            part.get(..read).unwrap_or_default(),
        ));
    }
    let (events, lost) = listener::told(&text, "dropped");
    ensure!(
        lost > 0 && events + lost <= sent,
        "{events} and {lost} lost of {sent}"
    );
    Ok(())
}

/// Stops an agent's process and lets it go on.
fn signal(agent: u32, signal: nix::sys::signal::Signal) -> Result<()> {
    Ok(nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(agent.cast_signed()),
        signal,
    )?)
}

#[test]
fn what_finds_no_room_in_the_ring_is_counted_and_told() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let listener = listen(&lab, &["--outcome", "dropped"])?;
    let agent = lab.agent()?.id().context("the agent runs")?;
    signal(agent, nix::sys::signal::Signal::SIGSTOP)?;
    // More than the ring holds. Nobody waits for the agent.
    let result = flood(&lab, 0, 10_000);
    signal(agent, nix::sys::signal::Signal::SIGCONT)?;
    result?;
    let (events, lost) = wait::until("all of them are told or counted", || {
        let (events, lost) = listener::told(&listener.text(), "dropped");
        (events + lost == 10_000).then_some((events, lost))
    })
    .with_context(|| format!("{:?}", listener::told(&listener.text(), "dropped")))?;
    ensure!(
        events > 1_000 && lost > 1_000,
        "{events} events, {lost} lost"
    );
    Ok(())
}

#[test]
fn a_listener_is_told_that_the_agent_ends_and_goes_on_with_the_next() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let [web, _] = lab::tcp(10);
    let listener = listen(&lab, &[])?;
    for round in 1..=2 {
        let agent = lab.agent()?;
        if round == 1 {
            agent.stop()?;
        } else {
            agent.kill();
        }
        wait::until("it is told", || {
            let told = listener.errors().matches("the agent has ended").count();
            (told == round).then_some(())
        })?;
        // F4: packets go on; what the programs still tell is told to nobody.
        lab.client.get(web)?;
        lab.agent()?.resume()?;
        wait::until("it listens again", || {
            (listener.count("begin").ok()? == round + 1).then_some(())
        })?;
        let before = listener.count("opened")?;
        lab.client.get(web)?;
        wait::until("it hears again", || {
            (listener.count("opened").ok()? > before).then_some(())
        })?;
    }
    assert!(
        listener.errors().contains("the agent is back"),
        "{}",
        listener.errors()
    );
    Ok(())
}

#[test]
fn a_reader_that_has_had_enough_ends_the_listener() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let [web, _] = lab::tcp(10);
    // `monitor | head`: a pipe whose reader is gone.
    let mut command = lab.node.namespace().command(agent::binary()?);
    let mut piped = command
        .args(["monitor", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut first = [0; 10];
    piped
        .stdout
        .take()
        .context("a pipe")?
        .read_exact(&mut first)?;
    let ended = wait::until("it ends", || {
        lab.client.get(web).ok()?;
        piped.try_wait().ok().flatten()
    });
    let killed = piped.kill();
    let status = ended?;
    drop(killed);
    assert_eq!(
        status.code(),
        Some(0),
        "a reader that has had enough is no error"
    );
    let mut counted = Listener::begin(lab.node.namespace(), &["--count", "2"])?;
    let status = wait::until("it ends by itself", || {
        lab.client.get(web).ok()?;
        counted.process().ended().ok().flatten()
    })?;
    assert_eq!(status.code(), Some(0), "{}", counted.errors());
    // Wrong usage, an unknown service, no agent.
    let agent = lab.agent()?;
    assert_eq!(
        agent.ask(&["monitor", "--outcome", "nonsense"])?.code,
        Some(2)
    );
    let said = agent.ask(&["monitor", "--service", "wbe"])?;
    assert!(said.error.contains("did you mean default/web?"), "{said:?}");
    agent.stop()?;
    let said = agent.ask(&["monitor"])?;
    assert_eq!(said.code, Some(1));
    assert!(said.error.contains("no agent answers"), "{said:?}");
    Ok(())
}
