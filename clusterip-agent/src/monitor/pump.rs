//! Takes events out of the ring and hands them to those who want them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use clusterip_common::abi::{Event, EventKind, Watch};
use k8s_openapi::jiff::Timestamp;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::sleep,
};

use super::{Listener, wish::either};
use crate::{
    attachments::Attachments,
    clock::{monotonic, timestamp},
    dataplane::events::Events,
    model::object::ObjectName,
    reconcile::Published,
    view::{
        Names, Selection,
        event::{self, EventLine, hex},
    },
};

/// Between two looks into the ring, which holds what comes meanwhile.
const PAUSE: Duration = Duration::from_millis(10);
/// Events that are taken out before anybody else has a turn.
const MOST: usize = 1024;
/// For how long the programs tell without being asked again: if the agent is killed, they fall silent.
const LEASE: Duration = Duration::from_secs(3);
/// Between two renewals of it.
const RENEWAL: Duration = Duration::from_secs(1);
/// Names are made anew no more often than this.
const NAMES: Duration = Duration::from_millis(100);

/// What events are told with.
#[derive(Clone)]
pub struct Surroundings {
    /// Names of services and pods.
    pub published: watch::Receiver<Published>,
    /// Names of devices.
    pub attached: watch::Receiver<Option<Attachments>>,
}

/// Serves listeners, for ever.
pub async fn run(mut events: Events, mut door: mpsc::Receiver<Listener>, mut around: Surroundings) {
    let mut listeners = Vec::new();
    while let Some(first) = door.recv().await {
        // What was told to nobody.
        events.drain(usize::MAX, |_, _| {});
        listeners.push(Client::new(first));
        let mut known = events.lost().unwrap_or_default();
        while !listeners.is_empty() {
            serve(
                &mut events,
                &mut door,
                &mut around,
                &mut listeners,
                &mut known,
            )
            .await;
        }
        set(&mut events, &Watch::NOBODY);
    }
    std::future::pending::<()>().await;
}

/// Serves them until what is published is another, or nobody is left.
async fn serve(
    events: &mut Events,
    door: &mut mpsc::Receiver<Listener>,
    around: &mut Surroundings,
    clients: &mut Vec<Client>,
    known: &mut u64,
) {
    let published = around.published.borrow_and_update().clone();
    let devices = around.attached.borrow_and_update().clone();
    let everything = Selection::default();
    let names = Names::of(&published, &everything);
    let begun = Instant::now();
    let mut renewed: Option<Instant> = None;
    while !clients.is_empty() {
        if renewed.is_none_or(|at| at.elapsed() > RENEWAL) {
            renewed = Some(Instant::now());
            set(events, &wanted(&names, clients));
            let time = Clock::now().time(None);
            for client in clients.iter_mut() {
                client.begin(&time);
            }
        }
        let clock = Clock::now();
        let taken = events.drain(MOST, |event, frame| {
            tell(&names, devices.as_ref(), &clock, (event, frame), clients);
        });
        let lost = events.lost().unwrap_or(*known);
        let missing = lost.saturating_sub(std::mem::replace(known, lost));
        let time = clock.time(None);
        for client in clients.iter_mut() {
            client.missing += missing;
            client.admit(&time);
        }
        clients.retain(|client| !client.lines.is_closed());
        let is_old = around.published.has_changed().unwrap_or_default()
            || around.attached.has_changed().unwrap_or_default();
        if is_old && begun.elapsed() > NAMES {
            return;
        }
        if taken == MOST {
            // The listeners' connections have a turn, too.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            Some(another) = door.recv() => {
                clients.push(Client::new(another));
                renewed = None;
            }
        }
    }
}

fn wanted(names: &Names<'_>, clients: &[Client]) -> Watch {
    let lease = u64::try_from(LEASE.as_nanos()).unwrap_or_default();
    let until = Clock::now().monotonic.saturating_add(lease);
    clients
        .iter()
        .map(|client| client.wish.watch(names.ids(&client.wish.selection), until))
        .reduce(|one, other| either(&one, &other))
        .unwrap_or(Watch::NOBODY)
}

fn set(events: &mut Events, watch: &Watch) {
    if let Err(error) = events.watch(watch) {
        log::error!(error:err; "the programs cannot be told which events are wanted");
    }
}

/// Both clocks at one moment.
struct Clock {
    monotonic: u64,
    wall: SystemTime,
}

impl Clock {
    fn now() -> Self {
        Self {
            monotonic: monotonic(),
            wall: SystemTime::now(),
        }
    }

    /// When an event was, or now, as text.
    fn time(&self, monotonic: Option<u64>) -> String {
        let ago = monotonic.map_or(0, |at| self.monotonic.saturating_sub(at));
        let wall = self.wall.checked_sub(Duration::from_nanos(ago));
        let time: Timestamp = timestamp(wall.unwrap_or(self.wall));
        format!("{time:.6}")
    }
}

fn tell(
    names: &Names<'_>,
    devices: Option<&BTreeMap<u32, crate::attachments::Attachment>>,
    clock: &Clock,
    (event, frame): (&Event, &[u8]),
    clients: &mut [Client],
) {
    let device = devices.and_then(|all| all.get(&event.device));
    let device = device.map_or("", |it| &it.device.name);
    let view = event::event(names, event, device);
    let service =
        (!view.service.is_empty()).then(|| ObjectName::new(&view.namespace, &view.service));
    let asked = least(clients);
    let mut line = EventLine::of(event, clock.time(Some(event.time)), view);
    let (mut plain, mut whole) = (None, None);
    for client in clients {
        if !client.wish.has(event, service.as_ref()) || !client.is_due(event, asked) {
            continue;
        }
        let has_frame = client.wish.capture && !frame.is_empty();
        let (text, frame) = if has_frame {
            (&mut whole, Some(hex(frame)))
        } else {
            (&mut plain, None)
        };
        let text = text.get_or_insert_with(|| {
            if let Some(view) = &mut line.event {
                let begins = if event.is_bare == 0 { "ethernet" } else { "ip" };
                view.link = frame.as_ref().map(|_| begins.to_owned());
                view.frame = frame;
            }
            encode(&line)
        });
        client.offer(text.clone(), &line.time);
    }
}

/// How many translated packets one of those that are told stands for.
fn least(clients: &[Client]) -> u32 {
    let asked = clients.iter().map(|client| client.wish.one_in());
    asked.filter(|sample| *sample > 0).min().unwrap_or(1)
}

fn encode(line: &EventLine) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// A listener.
struct Client {
    wish: super::Wish,
    lines: mpsc::Sender<Bytes>,
    /// Events that it should have had.
    missing: u64,
    /// Translated packets that it was told of or spared.
    passed: u32,
    has_begun: bool,
}

impl Client {
    fn new(Listener { wish, lines }: Listener) -> Self {
        Self {
            wish,
            lines,
            missing: 0,
            passed: 0,
            has_begun: false,
        }
    }

    /// Says that events are told from now on.
    fn begin(&mut self, time: &str) {
        if !self.has_begun {
            self.has_begun = true;
            // The first line finds room.
            let _told = self
                .lines
                .try_send(encode(&EventLine::begin(time.to_owned())));
        }
    }

    /// Of translated packets, one in `asked` comes here, and this one may want fewer.
    const fn is_due(&mut self, event: &Event, asked: u32) -> bool {
        if event.kind.0 != EventKind::TRANSLATED.0 || self.wish.one_in() <= asked {
            return true;
        }
        let is_due = self.passed == 0;
        self.passed = (self.passed + 1) % (self.wish.one_in() / asked);
        is_due
    }

    fn offer(&mut self, line: Bytes, time: &str) {
        self.admit(time);
        // In order: first what is missing, then what came after.
        if self.missing > 0 || matches!(self.lines.try_send(line), Err(TrySendError::Full(_))) {
            self.missing += 1;
        }
    }

    /// Tells how many are missing, as soon as there is room for it.
    fn admit(&mut self, time: &str) {
        if self.missing > 0 {
            let line = encode(&EventLine::lost(time.to_owned(), self.missing));
            if self.lines.try_send(line).is_ok() {
                self.missing = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Wish;

    fn client(room: usize) -> (Client, mpsc::Receiver<Bytes>) {
        let (lines, receiver) = mpsc::channel(room);
        let wish = Wish::default();
        (Client::new(Listener { wish, lines }), receiver)
    }

    fn next(lines: &mut mpsc::Receiver<Bytes>) -> Option<String> {
        let line = lines.try_recv().ok()?;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    #[test]
    fn a_listener_that_does_not_keep_up_is_told_how_many_it_missed_and_where() {
        let (mut client, mut lines) = client(2);
        for word in ["a", "b", "c", "d"] {
            client.offer(word.into(), "t");
        }
        assert_eq!(next(&mut lines).as_deref(), Some("a"));
        client.offer("e".into(), "t");
        assert_eq!(next(&mut lines).as_deref(), Some("b"));
        let lost = r#"{"version":1,"time":"t","kind":"lost","lost":2}"#;
        assert_eq!(next(&mut lines).as_deref(), Some(lost));
        client.admit("t");
        let lost = r#"{"version":1,"time":"t","kind":"lost","lost":1}"#;
        assert_eq!(next(&mut lines).as_deref(), Some(lost), "e");
        client.offer("f".into(), "t");
        assert_eq!(next(&mut lines).as_deref(), Some("f"));
        assert_eq!(next(&mut lines), None);
    }

    #[test]
    fn a_coarser_sample_is_taken_of_a_finer_one() {
        let (mut client, _lines) = client(1);
        client.wish.sample(Some(30));
        let event = Event {
            kind: EventKind::TRANSLATED,
            ..Event::NONE
        };
        let due = (0..30).filter(|_| client.is_due(&event, 10)).count();
        assert_eq!(due, 10);
    }

    #[test]
    fn an_event_is_as_old_as_its_clock_says() {
        let clock = Clock {
            monotonic: 5_000_000_000,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
        };
        assert_eq!(
            clock.time(Some(3_500_000_000)),
            "1970-01-01T00:01:38.500000Z"
        );
        assert_eq!(clock.time(None), "1970-01-01T00:01:40.000000Z");
    }
}
