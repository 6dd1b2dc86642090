//! The clock and the sockets around [`Pods`].

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::sleep_until,
};

use super::{
    agenda::ProbeId,
    check::check,
    definition::Check,
    leaving::Leaving,
    pods::{Job, Pods},
    results::Results,
    standings::Standings,
};
use crate::{clock::Clock, model::event::Event};

/// Connections that probes have open at once: as many as there can be pods on a large node; others wait for their turn.
const AT_ONCE: usize = 512;
/// Commands that run at once, each with a process and a thread.
const COMMANDS_AT_ONCE: usize = 8;
/// Where there is nothing to do.
const FOR_EVER: Duration = Duration::from_hours(24);

type Done = (ProbeId, Result<(), String>);

/// Passes events on, with the pods' readiness as probes find it, until the events end.
pub async fn run(
    node: &str,
    results: Results,
    mut leaving: Leaving,
    mut inbox: mpsc::Receiver<Vec<Event>>,
    outbox: mpsc::Sender<Vec<Event>>,
    standings: watch::Sender<Standings>,
) {
    let clock = Clock::start();
    let now = || clock.now();
    let mut pods = Pods::new(node, results).after(leaving.load());
    let mut running: JoinSet<Done> = JoinSet::new();
    let connections = Arc::new(Semaphore::new(AT_ONCE));
    let commands = Arc::new(Semaphore::new(COMMANDS_AT_ONCE));
    loop {
        let wake = clock.at(pods.next().unwrap_or_else(|| now().elapsed + FOR_EVER));
        let events = tokio::select! {
            batch = inbox.recv() => {
                let Some(batch) = batch else { return };
                pods.take(batch, now())
            }
            Some(done) = running.join_next() => match done {
                Ok((id, result)) => pods.observe(&id, result, now()),
                Err(error) => {
                    log::error!(error:%; "a probe ended without a result");
                    Vec::new()
                }
            },
            () = sleep_until(wake) => pods.expire(now()),
        };
        for job in pods.due(now()) {
            let limit = match job.check {
                Check::Exec { .. } => &commands,
                Check::Http { .. }
                | Check::Tcp { .. }
                | Check::Grpc { .. }
                | Check::Impossible { .. } => &connections,
            };
            running.spawn(carry_out(job, limit.clone()));
        }
        leaving.follow(pods.leaving());
        standings.send_if_modified(|seen| {
            seen.clone_from(pods.standings());
            false
        });
        if !events.is_empty() && outbox.send(events).await.is_err() {
            return;
        }
    }
}

async fn carry_out(job: Job, limit: Arc<Semaphore>) -> Done {
    let Job {
        id,
        check: what,
        timeout,
    } = job;
    let Ok(_turn) = limit.acquire().await else {
        return (id, Err("the agent ends".to_owned()));
    };
    (id, check(&what, timeout).await)
}
