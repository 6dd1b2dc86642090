//! Questions a second that the agent's resolver answers, and how long one takes: dnsperf on the loopback of a namespace,
//! which shares the machine's processors with the agent.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::table::{Cell, Line, Table};
use crate::{
    Agent, Node,
    manifests::{Manifests, NODE, Service},
    upstream::Upstream,
    wait,
};

/// Where the agent answers.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5353);
/// Services of the two runs: the figures shall be the same.
const SERVICES: [u32; 2] = [10, 10_000];
/// Names in a file of questions, which dnsperf asks again and again.
const NAMES: u32 = 2_000;
/// Questions that are out at once when as many as possible are asked, and the sockets they come from.
const OUTSTANDING: &str = "128";
const CLIENTS: &str = "16";
/// Room for 10,000 services, which have two entries each.
const ROOM: &str = "32768";
/// Questions that are asked one at a time.
const SINGLE: usize = 10_000;
/// Bits of the response code, and its success.
const CODE: u8 = 0x0f;
const NO_ERROR: u8 = 0;
/// How long the agent may take until the last service resolves.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// Services.
    Services,
    /// Services that are not there.
    Missing,
    /// Names that an upstream was asked for before.
    Outside,
}

impl Names {
    const ALL: [Self; 3] = [Self::Services, Self::Missing, Self::Outside];

    const fn words(self) -> &'static str {
        match self {
            Self::Services => "ClusterIP names",
            Self::Missing => "NXDOMAIN",
            Self::Outside => "outside, kept",
        }
    }

    /// dnsperf's file of questions.
    fn questions(self, services: u32) -> String {
        let mut text = String::new();
        for number in 0..NAMES {
            // Spread over all of them, in an order that no cache of the processor's likes.
            let spread = u64::from(number) * 7_919;
            let service = spread % u64::from(services);
            let name = match self {
                Self::Services => format!("s{service}.default.svc.cluster.local"),
                Self::Missing => format!("none{spread}.default.svc.cluster.local"),
                Self::Outside => format!("www{number}.example.test"),
            };
            text.push_str(&name);
            text.push_str(" A\n");
        }
        text
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Figure {
    /// Answers a second.
    rate: f64,
    /// Microseconds of one question at a time: the median.
    latency: f64,
    /// Microseconds of a processor that the agent spends on an answer: whoever else is busy does not matter here.
    work: f64,
    /// MiB of the agent's memory.
    memory: f64,
}

/// Prints the table.
///
/// # Errors
/// Not root, no dnsperf, or the agent does not start.
#[expect(clippy::print_stdout, reason = "the table is the purpose")]
pub fn run(seconds: u32) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench dns starts the agent in a namespace: it needs root"
    );
    println!(
        "{:<18} {:>9} {:>12} {:>12} {:>12} {:>8}",
        "names", "services", "answers/s", "median, us", "work, us", "MiB"
    );
    for services in SERVICES {
        for (names, figure) in measure(services, seconds)? {
            let Figure {
                rate,
                latency,
                work,
                memory,
            } = figure;
            println!(
                "{:<18} {services:>9} {rate:>12.0} {latency:>12.1} {work:>12.2} {memory:>8.1}",
                names.words()
            );
        }
    }
    Ok(())
}

/// The same as tables.
///
/// # Errors
/// As [`run`].
pub fn tables(seconds: u32) -> Result<Vec<Table>> {
    let mut sizes = Vec::new();
    for services in SERVICES {
        sizes.push(measure(services, seconds)?);
    }
    let table = |name: &str, title: &str, unit: &str, value: fn(&Figure) -> f64| Table {
        name: name.to_owned(),
        title: title.to_owned(),
        unit: unit.to_owned(),
        absolute: String::new(),
        columns: SERVICES.map(|size| format!("{size} services")).to_vec(),
        rows: Names::ALL
            .iter()
            .map(|names| Line {
                name: names.words().to_owned(),
                cells: sizes
                    .iter()
                    .map(|size| {
                        let (_, figure) = size.iter().find(|(found, _)| found == names)?;
                        Some(Cell::of(vec![value(figure)]))
                    })
                    .collect(),
            })
            .collect(),
        notes: Vec::new(),
    };
    Ok(vec![
        table("dns-rate", "Names, as many as go", "answers/s", |it| {
            it.rate
        }),
        table("dns-latency", "Names, one at a time, median", "us", |it| {
            it.latency
        }),
        table(
            "dns-work",
            "The agent's work for one answer",
            "us of a processor",
            |it| it.work,
        ),
    ])
}

fn measure(services: u32, seconds: u32) -> Result<Vec<(Names, Figure)>> {
    let node = Node::anonymous()?;
    let upstream = Upstream::start(node.namespace(), 3_600)?;
    let manifests = Manifests::new()?;
    let texts = (0..services).map(|number| {
        // From 10.96.1.0 on.
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 1, 0).to_bits() + number);
        Service::new(&format!("s{number}"), &[address.into()])
            .tcp(80, 8080)
            .yaml()
    });
    manifests.put("services.yaml", &texts.collect::<Vec<_>>().join("---\n"))?;
    let listen = LISTEN.to_string();
    let outside = upstream.address().to_string();
    let agent = Agent::start(
        &node,
        manifests.path(),
        &[
            "--node-name",
            NODE,
            "--dns-listen",
            &listen,
            "--dns-upstream",
            &outside,
            "--max-services",
            ROOM,
        ],
    )?;
    let last = format!("s{}.default.svc.cluster.local", services - 1);
    wait::until_or("the last service resolves", PATIENCE, || {
        node.namespace().run(|| resolves(&last)).ok()?.then_some(())
    })
    .with_context(|| agent.log())?;
    let folder = tempfile::tempdir()?;
    let mut figures = Vec::new();
    for names in Names::ALL {
        let file = folder.path().join("questions");
        let questions = names.questions(services);
        fs::write(&file, &questions)?;
        // Once through all of them: names outside are kept from then on.
        dnsperf(&node, &file, &["-n", "1"])?;
        let many = ["-l", &seconds.to_string(), "-q", OUTSTANDING, "-c", CLIENTS];
        let before = spent(&agent)?;
        let (rate, answers) = rate(&dnsperf(&node, &file, &many)?)?;
        let work = (spent(&agent)? - before) / answers;
        let latency = node.namespace().run(|| median_latency(&questions))?;
        let figure = Figure {
            rate,
            latency,
            work,
            memory: memory(&agent)?,
        };
        figures.push((names, figure));
    }
    Ok(figures)
}

fn dnsperf(node: &Node, questions: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = node.namespace().command("dnsperf");
    command.args([
        "-s",
        &LISTEN.ip().to_string(),
        "-p",
        &LISTEN.port().to_string(),
    ]);
    command.arg("-d").arg(questions).args(arguments);
    let output = command
        .output()
        .context("run dnsperf (Debian package dnsperf)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "dnsperf: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Answers a second and in all, of dnsperf's summary. Lost ones make the figure worthless.
fn rate(summary: &str) -> Result<(f64, f64)> {
    let after = |mark: &str| {
        let line = summary
            .lines()
            .find_map(|line| line.trim().strip_prefix(mark));
        line.and_then(|rest| rest.split_whitespace().next())
            .with_context(|| format!("dnsperf did not say {mark:?}\n{summary}"))
    };
    let lost: u64 = after("Queries lost:")?.parse()?;
    let sent: u64 = after("Queries sent:")?.parse()?;
    if lost > sent / 1_000 {
        bail!("{lost} of {sent} questions were lost\n{summary}");
    }
    let completed = after("Queries completed:")?.parse()?;
    Ok((after("Queries per second:")?.parse()?, completed))
}

/// Median of the times of questions that are asked one after the other, in microseconds. dnsperf has no median, and
/// with one question out at a time it waits for ever now and then.
fn median_latency(questions: &str) -> io::Result<f64> {
    let socket = client()?;
    let mut answer = [0; 512];
    let mut times = Vec::new();
    for line in questions.lines().cycle().take(SINGLE) {
        let name = line.trim_end_matches(" A");
        let question = question(name)?;
        let start = Instant::now();
        socket.send(&question)?;
        socket.recv(&mut answer)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(median.as_secs_f64() * 1e6)
}

/// Microseconds of a processor that the agent has had: `utime` and `stime` of proc(5), in hundredths of a second.
fn spent(agent: &Agent) -> Result<f64> {
    let id = agent.id().context("the agent ended")?;
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name before it may have blanks.
    let (_, fields) = text.rsplit_once(") ").context("no fields")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
        bail!("no times in {text}");
    };
    Ok((user + system) * 1e4)
}

/// MiB of memory that the agent has.
fn memory(agent: &Agent) -> Result<f64> {
    let id = agent.id().context("the agent ended")?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
        .context("no VmRSS")?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}

/// A socket that asks the agent, from inside the namespace.
fn client() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(LISTEN)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// The question for the IPv4 address of a name.
fn question(name: &str) -> io::Result<Vec<u8>> {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    Ok(question)
}

/// Whether a name has an address.
fn resolves(name: &str) -> io::Result<bool> {
    let socket = client()?;
    socket.send(&question(name)?)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // NOERROR, and one answer at least.
    let answer = answer.get(..length).unwrap_or_default();
    Ok(
        matches!(answer, [_, _, _, flags, _, _, _, records, ..] if flags & CODE == NO_ERROR && *records > 0),
    )
}
