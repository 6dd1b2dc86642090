//! `clusterip top` on a terminal of 80x24, with a running agent.

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    agent,
    lab::{self, Lab},
    require_root,
    terminal::Terminal,
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    for (name, number) in [("web", 10), ("api", 20)] {
        lab.service(name, number)?;
    }
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start()?;
    Ok(lab)
}

/// A shell that tells when `top` has ended.
fn open(lab: &Lab, size: (u16, u16)) -> Result<Terminal> {
    let program = agent::binary()?.display();
    let command = format!("echo before; {program} top; echo \"ended $?\"; exec cat");
    Terminal::start(lab.node.namespace(), size, &command)
}

/// Lines of services, in their order.
fn services(screen: &str) -> Vec<&str> {
    let words = screen
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    words.filter(|word| word.starts_with("default/")).collect()
}

#[test]
fn top_sorts_filters_and_opens_a_service_and_gives_the_terminal_back() -> Result<()> {
    require_root!();
    let lab = lab()?;
    for to in lab::tcp(10) {
        for _ in 0..20 {
            lab.client.get(to)?;
        }
    }
    // Nothing listens there: refused, and told below.
    ensure!(lab.client.get(lab::tcp(20)[0]).is_err());
    let terminal = open(&lab, (80, 24))?;
    let screen = terminal.until("top shows services", |it| services(it).len() == 2)?;
    assert!(terminal.is_taken()?, "{screen}");
    assert!(
        screen.starts_with("clusterip  node-a  healthy\n"),
        "{screen}"
    );
    assert!(
        screen.contains("FLOWS ") && screen.contains('%'),
        "pressure\n{screen}"
    );
    assert!(
        screen.contains("no-endpoint "),
        "drops by outcome\n{screen}"
    );
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    let keys = screen.trim_end().lines().last().unwrap_or_default();
    assert!(keys.starts_with("q quit  s sort by (packets)"), "{screen}");

    for order in ["bytes", "flows", "name"] {
        terminal.press(&["s"])?;
        terminal.until(order, |it| it.contains(&format!("s sort by ({order})")))?;
    }
    let screen = terminal.until("by name", |it| services(it).len() == 2)?;
    assert_eq!(services(&screen), ["default/api", "default/web"]);

    terminal.press(&["/", "w", "e", "b"])?;
    terminal.until("the filter", |it| services(it) == ["default/web"])?;
    terminal.press(&["Enter"])?;
    terminal.until("the filter is kept", |it| it.contains("/ filter [web]"))?;
    terminal.press(&["Enter"])?;
    let screen = terminal.until("the endpoints", |it| it.contains("10.244.0.12:8080"))?;
    assert!(screen.contains("ENDPOINTS of default/web"), "{screen}");
    for backend in ["10.244.0.11:8080", "10.244.0.12:8080"] {
        let line = screen.lines().find(|line| line.contains(backend));
        let line = line.context("a line of each backend")?;
        assert!(
            line.contains("active") && line.ends_with('█'),
            "a bar: {line:?}"
        );
    }
    terminal.press(&["Escape"])?;
    terminal.until("it is closed", |it| it.contains("OTHER OUTCOMES"))?;

    terminal.resize((50, 10))?;
    terminal.until("it says so", |it| {
        it.starts_with("too small: 60x12 at least")
    })?;
    terminal.resize((60, 12))?;
    terminal.until("it is large enough again", |it| services(it).len() == 1)?;

    terminal.press(&["q"])?;
    let screen = terminal.until("it has ended", |it| it.contains("ended 0"))?;
    assert!(
        screen.starts_with("before\n"),
        "what stood there is back\n{screen}"
    );
    assert!(!terminal.is_taken()?);
    Ok(())
}

#[test]
fn top_shows_rates_lately_and_waits_for_an_agent_that_restarts() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let terminal = open(&lab, (100, 30))?;
    terminal.until("top shows services", |it| services(it).len() == 2)?;
    // Packets of a second are a rate, and the newest letter of the line.
    let [to, _] = lab::tcp(10);
    terminal.until("a sparkline", |screen| {
        drop(lab.client.get(to));
        let line = screen.lines().find(|line| line.contains("default/web"));
        line.is_some_and(|line| line.contains('█'))
    })?;
    lab.agent()?.stop()?;
    terminal.until("it says that nobody answers", |it| {
        it.contains("no agent answers")
    })?;
    lab.agent()?.resume()?;
    terminal.until("it goes on", |it| !it.contains("no agent answers"))?;
    Ok(())
}

#[test]
fn top_gives_the_terminal_back_also_when_it_is_told_to_end() -> Result<()> {
    require_root!();
    let lab = lab()?;
    for way in ["C-c", "TERM"] {
        let terminal = open(&lab, (80, 24))?;
        terminal.until("top shows services", |it| services(it).len() == 2)?;
        if way == "TERM" {
            kill(Pid::from_raw(process(&terminal)?), Signal::SIGTERM)?;
        } else {
            terminal.press(&[way])?;
        }
        terminal.until("it has ended", |it| it.contains("ended 0"))?;
        assert!(!terminal.is_taken()?, "{way}");
    }
    Ok(())
}

#[test]
fn top_ends_with_its_terminal() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let terminal = open(&lab, (80, 24))?;
    terminal.until("top shows services", |it| services(it).len() == 2)?;
    let top = process(&terminal)?;
    drop(terminal);
    wait::until("top has ended", || {
        (!std::path::Path::new(&format!("/proc/{top}/exe")).exists()).then_some(())
    })
}

/// The child of the shell.
fn process(terminal: &Terminal) -> Result<i32> {
    let shell = terminal.shell()?;
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
    Ok(children.trim().parse()?)
}
