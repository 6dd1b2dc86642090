//! The agent under test: the real program, in a node.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    Namespace, Node,
    client::Connection,
    metrics::Metrics,
    process::{self, Process},
    wait,
};

/// Where the agent pins, in a node's own bpffs.
pub const BPFFS: &str = "/sys/fs/bpf/clusterip";
/// Where it keeps its state, in a node's own `/run`.
pub const STATE: &str = "/run/clusterip/state";
/// Where it allocates service addresses.
pub const SERVICE_CIDR: &str = "10.96.0.0/16,fd00:10:96::/112";

/// Where it answers, inside its node.
const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// What a command said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub error: String,
}

/// What a command of the program says in a namespace, whether or not an agent runs there.
///
/// # Errors
/// It could not be run.
pub fn ask_in(node: &Namespace, arguments: &[&str]) -> Result<Said> {
    let output = node.command(binary()?).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said {
        code: output.status.code(),
        out: text(&output.stdout),
        error: text(&output.stderr),
    })
}

/// An agent, running or stopped. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    node: Namespace,
    arguments: Vec<OsString>,
    /// Where objects come from: the flag and its value.
    source: (&'static str, PathBuf),
    environment: Vec<(OsString, OsString)>,
    /// A program that starts it, with its arguments.
    launcher: Vec<OsString>,
    /// A file without a name, so that nothing of it is left however this process ends.
    log: File,
    process: Option<Process>,
    /// How long it may take to be ready.
    patience: Duration,
}

impl Agent {
    /// Starts one and waits until it is ready. `more` are further arguments of `clusterip run`.
    ///
    /// # Errors
    /// The program is not built, or did not become ready: the error holds its log.
    pub fn start(node: &Node, manifests: &Path, more: &[&str]) -> Result<Self> {
        Self::start_in(node, manifests, more, &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn start_in(
        node: &Node,
        manifests: &Path,
        more: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        Self::launched(node, manifests, more, environment, &[])
    }

    /// The same by way of another program, which takes the agent's command line as its last arguments.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn launched(
        node: &Node,
        manifests: &Path,
        more: &[&str],
        environment: &[(&str, &str)],
        launcher: &[&str],
    ) -> Result<Self> {
        let source = ("--manifests", manifests.to_owned());
        let mut agent = Self::prepare(node, source, more)?;
        agent.launcher = launcher.iter().map(Into::into).collect();
        agent.environment = environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        agent.resume()?;
        Ok(agent)
    }

    /// As [`Agent::launched`], for so many objects that it may take long to be ready.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn start_patiently(
        node: &Node,
        manifests: &Path,
        more: &[&str],
        launcher: &[&str],
        patience: Duration,
    ) -> Result<Self> {
        let source = ("--manifests", manifests.to_owned());
        let mut agent = Self::prepare(node, source, more)?;
        agent.launcher = launcher.iter().map(Into::into).collect();
        agent.patience = patience;
        agent.resume()?;
        Ok(agent)
    }

    /// Starts one that listens to an API server, as a file says, and waits until it is ready.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn start_by(node: &Node, kubeconfig: &Path, more: &[&str]) -> Result<Self> {
        let mut agent = Self::prepare(node, ("--kubeconfig", kubeconfig.to_owned()), more)?;
        agent.resume()?;
        Ok(agent)
    }

    /// Starts one that finds its API server as a pod does, by its environment and the service account that is mounted, and
    /// waits until it is ready.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn start_in_cluster(node: &Node, server: SocketAddr, more: &[&str]) -> Result<Self> {
        let mut agent = Self::prepare(node, ("--in-cluster", "on".into()), more)?;
        agent.environment = vec![
            (
                "KUBERNETES_SERVICE_HOST".into(),
                server.ip().to_string().into(),
            ),
            (
                "KUBERNETES_SERVICE_PORT".into(),
                server.port().to_string().into(),
            ),
        ];
        agent.resume()?;
        Ok(agent)
    }

    fn prepare(node: &Node, source: (&'static str, PathBuf), more: &[&str]) -> Result<Self> {
        Ok(Self {
            node: node.namespace().clone(),
            arguments: arguments(&source, more),
            source,
            environment: Vec::new(),
            launcher: Vec::new(),
            log: tempfile::tempfile().context("make a file for the agent's log")?,
            process: None,
            patience: wait::PATIENCE,
        })
    }

    /// The next start has these arguments in the place of those given before.
    pub fn set_arguments(&mut self, more: &[&str]) {
        self.arguments = arguments(&self.source, more);
    }

    /// Starts it again after [`Agent::stop`] or [`Agent::kill`], and waits until it is ready.
    ///
    /// # Errors
    /// As for [`Agent::start`].
    pub fn resume(&mut self) -> Result<()> {
        self.launch()?;
        let mut ended = None;
        let ready = wait::until_or("the agent is ready", self.patience, || {
            ended = self
                .process
                .as_mut()
                .and_then(|it| it.ended().ok().flatten());
            (ended.is_some() || self.healthy()).then_some(())
        });
        if let Some(status) = ended {
            self.process = None;
            bail!(
                "the agent ended ({status}) before it was ready\n{}",
                self.log()
            );
        }
        ready.with_context(|| self.log())
    }

    /// Starts it again, and does not wait for it: it may have to wait itself, for its API server.
    ///
    /// # Errors
    /// It could not be started.
    pub fn launch(&mut self) -> Result<()> {
        let log = self.log.try_clone()?;
        let words = [&self.launcher[..], &[binary()?.into()], &self.arguments].concat();
        let (program, arguments) = words.split_first().context("a program")?;
        let mut command = self.node.command(program);
        command
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Apart from the terminal's own group: Ctrl-C is for the demo, which stops the agent in its turn.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        self.process = Some(process::spawn(command).context("start the agent")?);
        Ok(())
    }

    fn healthy(&self) -> bool {
        let health = self.node.run(|| Connection::open(HEALTH)?.http("/healthz"));
        health.is_ok_and(|response| response.status == 200)
    }

    /// Its process, if it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it by SIGTERM.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn stop(&mut self) -> Result<Option<ExitStatus>> {
        let process = self.process.take();
        process
            .map(|mut process| process.terminate(STOP))
            .transpose()
            .with_context(|| self.log())
    }

    /// Kills it by SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// Its counters.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::fetch(&self.node)
    }

    /// `clusterip cleanup` in the node.
    ///
    /// # Errors
    /// It failed: the error holds what it says.
    pub fn cleanup(&self) -> Result<()> {
        let mut command = self.node.command(binary()?);
        let output = command.args(["cleanup", "--bpffs", BPFFS]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "clusterip cleanup: {}\n{said}",
            output.status
        );
        Ok(())
    }

    /// What another command of the program says in the node: its output, and whether it ended well.
    ///
    /// # Errors
    /// It could not be run.
    pub fn ask(&self, arguments: &[&str]) -> Result<Said> {
        ask_in(&self.node, arguments)
    }

    /// What it has said so far, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        let mut part = [0; 4096];
        // By offset: the agent writes at the place that this file and its own share.
        while let Ok(length @ 1..) = self.log.read_at(&mut part, text.len() as u64) {
            text.extend_from_slice(part.get(..length).unwrap_or_default());
        }
        format!(
            "--- log of the agent\n{}---",
            String::from_utf8_lossy(&text)
        )
    }
}

impl Agent {
    /// The lines of its log so far, written with `--log-format json`.
    ///
    /// # Errors
    /// A line that is no JSON.
    pub fn log_objects(&self) -> Result<Vec<serde_json::Value>> {
        let log = self.log();
        let lines = log.lines().filter(|line| !line.starts_with("---"));
        let objects = lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("log line {line:?}")));
        objects.collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Of `clusterip run`; `more` are those of one test.
fn arguments((flag, place): &(&str, PathBuf), more: &[&str]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["run".into()];
    for (flag, value) in [
        (*flag, place.as_os_str()),
        ("--bpffs", BPFFS.as_ref()),
        ("--state-dir", STATE.as_ref()),
        ("--service-cidr", SERVICE_CIDR.as_ref()),
    ] {
        // In one word: a switch takes its value in no other way.
        let mut argument = OsString::from(flag);
        argument.push("=");
        argument.push(value);
        arguments.push(argument);
    }
    if !more.contains(&"--config") {
        // A flag would win over the file that the test is about.
        arguments.extend(["--pod-interfaces".into(), "veth*".into()]);
    }
    if !more.contains(&"--socket-lb") {
        // Nothing is attached to the machine's own cgroup: a test names one that it made.
        arguments.extend(["--socket-lb".into(), "off".into()]);
    }
    arguments.extend(more.iter().map(Into::into));
    arguments
}

/// The program: `CLUSTERIP_BIN`, or the one beside this executable. Under cargo it is built first, so that no test
/// runs against an old one.
///
/// # Errors
/// It is not built, or cannot be.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| find().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CLUSTERIP_BIN") {
        let path = PathBuf::from(path);
        return path
            .canonicalize()
            .with_context(|| format!("CLUSTERIP_BIN={}", path.display()));
    }
    let this = env::current_exe().context("find this executable")?;
    // target/debug/demo, or target/debug/deps/netns-0123456789abcdef
    let folder = this
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .context("find the target folder")?;
    if let Some(cargo) = env::var_os("CARGO") {
        build(Command::new(cargo), folder)?;
    }
    let path = folder.join("clusterip");
    ensure!(
        path.is_file(),
        "{} is not built: cargo build -p clusterip-agent (cargo xtask test and cargo xtask run do it)",
        path.display()
    );
    Ok(path)
}

fn build(mut cargo: Command, folder: &Path) -> Result<()> {
    cargo.args([
        "build",
        "--quiet",
        "--package",
        "clusterip-agent",
        "--bin",
        "clusterip",
    ]);
    // What the cargo above us says of this package would make the build scripts of others run again, and all that depends on them.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|begin| text.starts_with(begin))
        {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let output = cargo.output().context("run cargo to build the agent")?;
    if !output.status.success() {
        // The compiler's own words, whole.
        std::io::stderr().write_all(&output.stderr)?;
        bail!("the agent does not build");
    }
    Ok(())
}
