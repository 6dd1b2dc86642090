//! A load on a service: connections that talk all the time, and new ones at a rate. Every answer is compared.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{Namespace, Pod, wait};

/// How long one answer may take; used up by a failure only. Longer than TCP needs to repeat a lost packet a few times.
const PATIENCE: Duration = Duration::from_secs(10);
/// New connections come in groups, this far apart.
const TICK: Duration = Duration::from_millis(10);
/// New connections at a time: on a machine that cannot keep up the rate is lower, rather than their number without end.
const AT_ONCE: usize = 128;
/// Failures that are told one by one.
const TOLD: usize = 10;

/// What a load consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom it calls, in turn. The servers are those of [`crate::server`].
    pub to: Vec<SocketAddr>,
    /// Connections that stay.
    pub kept: usize,
    /// How long a connection that stays is silent between an answer and the next request.
    pub pause: Duration,
    /// New connections in a second, each for one request.
    pub rate: usize,
}

#[derive(Default, Debug)]
struct Tally {
    stop: AtomicBool,
    /// Connections that stay and have had their first answer.
    open: AtomicU64,
    kept: AtomicU64,
    new: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    fn fail(&self, what: &str, error: &io::Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < TOLD {
            failures.push(format!("{what}: {error}"));
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// How many requests were answered so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// On connections that stay.
    pub kept: u64,
    /// On new connections.
    pub new: u64,
    /// Not answered, or not rightly.
    pub failed: u64,
}

/// A load under way. It ends when this is dropped.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Load {
    /// Starts one inside a pod, and waits until all connections that stay are open.
    ///
    /// # Errors
    /// No thread could be made, or the connections are not answered.
    pub fn start(client: &Pod, plan: &Plan) -> Result<Self> {
        Self::start_in(client.namespace(), client.name(), plan)
    }

    /// As above, of a client that is no pod.
    ///
    /// # Errors
    /// As for [`Load::start`].
    pub fn start_in(client: &Namespace, name: &str, plan: &Plan) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let (shared, plan) = (tally.clone(), plan.clone());
        let kept = plan.kept as u64;
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(generate(&plan, &shared));
            Ok(())
        };
        let thread = client
            .thread(format!("load {name}"), work)
            .context("start the load's thread")?;
        let load = Self {
            tally,
            thread: Some(thread),
        };
        wait::until("the connections of the load are open", || {
            let open = load.tally.open.load(Ordering::Relaxed);
            (open == kept || load.counts().failed > 0).then_some(())
        })?;
        load.check()?;
        Ok(load)
    }

    /// What was answered so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            kept: self.tally.kept.load(Ordering::Relaxed),
            new: self.tally.new.load(Ordering::Relaxed),
            failed: self.tally.failed.load(Ordering::Relaxed),
        }
    }

    /// Waits until that many more requests of each kind were answered, and checks that none failed.
    ///
    /// # Errors
    /// They were not, or one failed.
    pub fn advance(&self, kept: u64, new: u64) -> Result<()> {
        let before = self.counts();
        wait::until("the load is answered", || {
            let now = self.counts();
            let is_done = now.kept >= before.kept + kept && now.new >= before.new + new;
            (is_done || now.failed > 0).then_some(())
        })?;
        self.check()
    }

    /// Whether every request so far was answered rightly.
    ///
    /// # Errors
    /// Which were not.
    pub fn check(&self) -> Result<()> {
        let counts = self.counts();
        if counts.failed > 0 {
            let failures = &self.tally.failures;
            let failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            bail!("{counts:?}; the first:\n{}", failures.join("\n"));
        }
        Ok(())
    }

    /// Ends it, once what is under way is answered.
    ///
    /// # Errors
    /// As [`Load::check`], or the load has ended by itself.
    pub fn finish(mut self) -> Result<Counts> {
        let is_running = self.thread.as_ref().is_some_and(|it| !it.is_finished());
        self.end();
        self.check()?;
        ensure!(is_running, "the load ended before it was told to");
        Ok(self.counts())
    }

    fn end(&mut self) {
        self.tally.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic shows in what was not counted.
            drop(thread.join());
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

async fn generate(plan: &Plan, tally: &Arc<Tally>) {
    let mut tasks = JoinSet::new();
    let targets = plan.to.iter().cycle();
    for (number, to) in targets.clone().take(plan.kept).enumerate() {
        let (tally, to, pause) = (tally.clone(), *to, plan.pause);
        tasks.spawn(async move {
            if let Err(error) = keep(number, to, pause, &tally).await {
                tally.fail(&format!("connection {number} to {to}"), &error);
            }
        });
    }
    let ticks = usize::try_from(1000 / TICK.as_millis().max(1)).unwrap_or(1);
    let mut tick = interval(TICK);
    // A short moment in which this thread does not run is made up for: the rate holds.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut number, mut due) = (0, 0);
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut targets = targets.copied();
    while tally.goes_on() {
        tick.tick().await;
        due += plan.rate;
        while due >= ticks {
            due -= ticks;
            number += 1;
            let Some(to) = targets.next() else { break };
            let tally = tally.clone();
            // The semaphore is never closed.
            let Ok(slot) = slots.clone().acquire_owned().await else {
                break;
            };
            tasks.spawn(async move {
                let _slot = slot;
                match once(number, to).await {
                    Ok(()) => drop(tally.new.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => tally.fail(&format!("new connection {number} to {to}"), &error),
                }
            });
        }
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

/// A connection that stays: always the same pod answers (C1).
async fn keep(number: usize, to: SocketAddr, pause: Duration, tally: &Tally) -> io::Result<()> {
    let mut stream = open(to).await?;
    let mut first = None;
    let mut round = 0;
    while tally.goes_on() {
        round += 1;
        let pod = ask(&mut stream, &format!("{number}.{round}")).await?;
        let known = first.get_or_insert_with(|| pod.clone());
        if *known != pod {
            return Err(bad(format!("{pod} answers for {known}")));
        }
        if round == 1 {
            tally.open.fetch_add(1, Ordering::Relaxed);
        }
        tally.kept.fetch_add(1, Ordering::Relaxed);
        sleep(pause).await;
    }
    Ok(())
}

async fn once(number: usize, to: SocketAddr) -> io::Result<()> {
    let mut stream = open(to).await?;
    ask(&mut stream, &format!("new.{number}")).await.map(drop)
}

async fn open(to: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = in_time(TcpStream::connect(to)).await?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// Which pod answered.
async fn ask(stream: &mut BufReader<TcpStream>, word: &str) -> io::Result<String> {
    let mut line = String::new();
    in_time(async {
        stream
            .write_all(format!("SELECT {word}\n").as_bytes())
            .await?;
        stream.read_line(&mut line).await
    })
    .await?;
    match line.trim_end().split_once(' ') {
        Some((pod, answer)) if answer == word => Ok(pod.to_owned()),
        _ => Err(bad(format!("answer {line:?} to {word}"))),
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
