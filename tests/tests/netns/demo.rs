//! The demo itself, as `cargo xtask run` starts it: it succeeds, and leaves nothing whichever way it ends.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{Node, agent, require_root, terminal::Terminal, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn demo(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .args(arguments)
        .env("CLUSTERIP_BIN", agent::binary()?)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    Ok(command)
}

/// A demo that stays, under names of its own. Killed if a test gives up on it.
struct Staying {
    child: Child,
    output: BufReader<ChildStdout>,
    prefix: String,
}

impl Staying {
    /// Starts one and waits until it prints the commands to try.
    fn start(name: &str) -> Result<Self> {
        let prefix = format!("{name}-{}", std::process::id());
        let mut command = demo(&["--requests", "6", "--prefix", &prefix])?;
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no pipe")?;
        let mut staying = Self {
            child,
            output: BufReader::new(output),
            prefix,
        };
        let seen = staying.read_until(Some("Try it from another shell:"))?;
        ensure!(seen.contains("Every answer came"), "{seen}");
        Ok(staying)
    }

    /// What it says until a line, or until its end.
    fn read_until(&mut self, line: Option<&str>) -> Result<String> {
        let mut seen = String::new();
        loop {
            let start = seen.len();
            if self.output.read_line(&mut seen)? == 0 {
                ensure!(line.is_none(), "the demo ended\n{seen}");
                return Ok(seen);
            }
            if seen.get(start..).map(str::trim_end) == line {
                return Ok(seen);
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    fn names(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.to_string_lossy().contains(&self.prefix))
            .collect()
    }

    /// Its agents: processes that were told to stay below a folder that only they have.
    fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task", self.child.id());
        let tasks = fs::read_dir(path).into_iter().flatten().flatten();
        let children =
            tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        children
            .flat_map(|list| {
                list.split_whitespace()
                    .filter_map(|id| id.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[test]
fn the_demo_with_once_succeeds() -> Result<()> {
    require_root!();
    let output = demo(&["--once"])?.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}\n{said}\n{complained}",
        output.status
    );
    assert!(said.contains("Every answer came"), "{said}");
    for way in [
        "172.20.1.1:30080/TCP  node port\n",
        ":80/TCP  load balancer, announced by demo\n",
    ] {
        let shown = said.split_once(way).map(|(_, rest)| rest);
        let shown = shown.and_then(|rest| rest.split_once("\n\n"));
        let (answers, _) = shown.with_context(|| format!("no {way}\n{said}"))?;
        assert!(
            answers.contains("100 sent, 100 answered, 100 counted"),
            "{answers}"
        );
    }
    assert!(
        !said.contains('\x1b'),
        "no colour without a terminal: {said:?}"
    );
    Ok(())
}

#[test]
fn the_demo_answers_in_another_shell_and_leaves_nothing_after_a_signal() -> Result<()> {
    require_root!();
    for (name, signal) in [
        ("int", Signal::SIGINT),
        ("term", Signal::SIGTERM),
        ("hup", Signal::SIGHUP),
    ] {
        let mut demo = Staying::start(&format!("clusterip-{name}"))?;
        let client = format!("{}-client", demo.prefix);
        let commands = demo.read_until(Some(""))?;
        let mut lines = commands.lines();
        let command = lines.find(|line| line.contains("curl -s http"));
        let command = command.unwrap_or_default().trim().to_owned();
        ensure!(command.contains(&client), "{command}");
        ensure!(command.contains("-service/"), "by name: {command}");
        let answer = Command::new("sh").args(["-c", &command]).output()?;
        let answer = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        assert!(
            answer.starts_with("web-") || answer.starts_with("multi-"),
            "{command}: {answer}"
        );

        let from_outside = commands.lines().find(|line| line.contains("-outside"));
        let from_outside = from_outside.context(commands.clone())?.trim();
        let answer = Command::new("sh").args(["-c", from_outside]).output()?;
        let answer = String::from_utf8_lossy(&answer.stdout);
        assert!(answer.starts_with("web-"), "{from_outside}: {answer}");

        let children = demo.children();
        assert!(!children.is_empty() && !demo.names().is_empty());
        demo.signal(signal)?;
        let rest = demo.read_until(None)?;
        let status = demo.child.wait()?;
        assert!(status.success(), "{signal}: {status}\n{rest}");
        assert_eq!(demo.names(), Vec::<PathBuf>::new(), "{signal}");
        assert!(!children.into_iter().any(is_alive), "{signal}");
    }
    Ok(())
}

#[test]
fn the_demo_ends_in_top_on_a_terminal() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let (demo, program) = (env!("CARGO_BIN_EXE_demo"), agent::binary()?.display());
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let command = format!(
        "CLUSTERIP_BIN={program} {demo} --requests 6 --prefix top-{} --manifests {}; echo \"ended $?\"; exec cat",
        std::process::id(),
        examples.display()
    );
    let terminal = Terminal::start(node.namespace(), (110, 40), &command)?;
    let is_top = |screen: &str| {
        screen.contains("q quit  s sort by") && screen.contains("default/my-web-service")
    };
    terminal.until("clusterip top", is_top)?;
    terminal.press(&["q"])?;
    let screen = terminal.until("what stood there before", |it| it.contains("Enter shows"))?;
    assert!(screen.contains("Try it from another shell:"), "{screen}");
    terminal.press(&["Enter"])?;
    terminal.until("clusterip top again", is_top)?;
    terminal.press(&["q"])?;
    terminal.until("the end of it", |it| !is_top(it))?;
    terminal.press(&["C-c"])?;
    let screen = terminal.until("all is taken down", |it| it.contains("ended 0"))?;
    assert!(screen.contains("are taken down"), "{screen}");
    Ok(())
}

#[test]
fn the_demo_that_is_killed_leaves_no_process_and_its_names_to_the_next() -> Result<()> {
    require_root!();
    let mut first = Staying::start("clusterip-kill")?;
    let children = first.children();
    first.signal(Signal::SIGKILL)?;
    first.child.wait()?;
    wait::until("its agent is gone", || {
        (!children.iter().copied().any(is_alive)).then_some(())
    })?;
    let mut second = Staying::start("clusterip-kill")?;
    second.signal(Signal::SIGTERM)?;
    second.read_until(None)?;
    assert_eq!(second.names(), Vec::<PathBuf>::new());
    Ok(())
}
