//! What a service manager is told, if there is one that asks (systemd's `Type=notify`: `NOTIFY_SOCKET`).

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::health::Health;

/// Between two lines of status.
const PAUSE: Duration = Duration::from_secs(1);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!(error:err; "the service manager does not listen");
    }
}

/// The agent reads its settings and manifests again, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!(error:err; "the service manager is not told of the reload"),
    }
}

/// The agent is done with what it began.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The agent ends.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopped; the dataplane goes on"),
    ]);
}

/// Says when the agent is ready, once, and how it is from then on; and that it is alive, as often as the manager wants to hear
/// it, but only while it keeps up (F7).
pub async fn keep(health: Health) {
    tokio::join!(report(health.clone()), watchdog(health));
}

async fn report(mut health: Health) {
    while health.verdict().starting.is_some() {
        let changed = tokio::select! {
            changed = health.progress.changed() => changed,
            changed = health.attached.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
    ready();
    loop {
        let status = status(&health);
        tell(&[NotifyState::Status(&status)]);
        sleep(PAUSE).await;
        if health.published.changed().await.is_err() {
            return;
        }
    }
}

fn status(health: &Health) -> String {
    let snapshot = health.published.borrow().snapshot.clone();
    let (services, problems) = (snapshot.services.size(), snapshot.problems().len());
    match health.verdict().reason() {
        Some(reason) => format!("{services} services, {problems} problems; {reason}"),
        None => format!("{services} services, {problems} problems"),
    }
}

async fn watchdog(health: Health) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return;
    };
    // Twice within the limit, as its manual wants it.
    let mut tick = interval(limit / 2);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if health.verdict().is_live() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
