//! Announces the addresses of `--load-balancer-pool` on the uplinks, as the model says which of them are this node's
//! (docs/adr/0016-announcing-the-pool.md). Neighbours' questions are answered by the programs; here it is seen to that nobody
//! else has such an address, and told that this node has it.

mod link;
mod posts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use clusterip_common::packet::{self, Mac};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use self::{
    link::{Claim, Link, mac_of},
    posts::{Message, Posts},
};
use crate::{
    attachments::Attachments,
    dataplane::announced::{AnnouncedMap, Place},
    interfaces::Role,
    model::{
        announcer::{Conflict, Conflicts},
        event::Event,
        snapshot::Snapshot,
    },
    reconcile::Published,
};

/// What could not be done is done again, and devices are asked for their link addresses.
const AGAIN: Duration = Duration::from_secs(5);
/// Claims that may wait.
const QUEUE: usize = 256;

/// Keeps what is announced what the model says, until nobody takes events any more.
pub async fn keep(
    has_pool: bool,
    map: AnnouncedMap,
    mut published: watch::Receiver<Published>,
    mut attached: watch::Receiver<Option<Attachments>>,
    events: mpsc::Sender<Vec<Event>>,
) {
    if !has_pool && map.places().is_empty() {
        return std::future::pending().await;
    }
    let (claims, mut claimed) = mpsc::channel(QUEUE);
    let mut announcer = Announcer::new(map, claims);
    loop {
        let held = published.borrow_and_update().held.clone();
        let devices = attached.borrow_and_update().clone();
        // Before both are known, what an earlier agent announced stays.
        if let (Some(held), Some(devices)) = (held, devices) {
            announcer.follow(&held, &devices);
        }
        if let Some(conflicts) = announcer.changed_conflicts()
            && events
                .send(vec![Event::Conflicts(conflicts)])
                .await
                .is_err()
        {
            return;
        }
        let wake = announcer.next();
        tokio::select! {
            change = published.changed() => if change.is_err() { return },
            change = attached.changed() => if change.is_err() { return },
            Some(claim) = claimed.recv() => announcer.hear(claim),
            () = sleep_until(wake) => {}
        }
    }
}

struct Announcer {
    map: AnnouncedMap,
    posts: Posts,
    links: BTreeMap<u32, (String, Link)>,
    /// What an earlier agent announced.
    known: BTreeSet<Place>,
    began: Instant,
    /// When the link addresses were looked at last.
    looked: Instant,
    claims: mpsc::Sender<Claim>,
    /// The addresses of `posts`, for those who listen.
    wanted: watch::Sender<BTreeSet<IpAddr>>,
    conflicts: Conflicts,
    /// What was said of a device, so that it is said once.
    complaints: BTreeMap<u32, String>,
}

impl Announcer {
    fn new(map: AnnouncedMap, claims: mpsc::Sender<Claim>) -> Self {
        Self {
            known: map.places(),
            map,
            posts: Posts::default(),
            links: BTreeMap::new(),
            began: Instant::now(),
            looked: Instant::now(),
            claims,
            wanted: watch::Sender::default(),
            conflicts: Conflicts::new(),
            complaints: BTreeMap::new(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When there is something to do next.
    fn next(&self) -> Instant {
        let again = Instant::now() + AGAIN;
        let next = self.posts.next().map(|at| self.began + at);
        next.map_or(again, |at| at.min(again))
    }

    fn follow(&mut self, held: &Snapshot, devices: &Attachments) {
        let addresses = own(held);
        self.follow_links(devices, !addresses.is_empty());
        let places = addresses.iter().flat_map(|address| {
            let devices = self.links.keys();
            devices.map(|device| (*address, *device))
        });
        let places = places.collect();
        let now = self.now();
        self.posts.follow(&places, &self.known, now);
        self.known.clear();
        self.wanted.send_if_modified(|seen| {
            let changed = *seen != addresses;
            seen.clone_from(&addresses);
            changed
        });
        for (device, (name, link)) in &mut self.links {
            if let Err(error) = link.join(addresses.iter().copied()) {
                complain(&mut self.complaints, *device, name, &error);
            }
        }
        self.speak();
    }

    /// Opens the uplinks that there are; none while there is nothing to say.
    fn follow_links(&mut self, devices: &Attachments, is_wanted: bool) {
        let uplinks: BTreeMap<u32, &str> = devices
            .iter()
            .map(|(index, attachment)| (*index, &attachment.device))
            .filter(|(_, device)| is_wanted && device.role == Role::Uplink)
            .filter(|(_, device)| device.link == packet::Link::Ethernet)
            .map(|(index, device)| (index, device.name.as_str()))
            .collect();
        // A device that has another link address is another one to its neighbours.
        let is_due = self.looked.elapsed() >= AGAIN;
        if is_due {
            self.looked = Instant::now();
        }
        self.links.retain(|index, (name, link)| {
            uplinks.get(index) == Some(&name.as_str())
                && (!is_due || mac_of(name) == Some(link.mac))
        });
        self.complaints
            .retain(|index, _| uplinks.contains_key(index));
        for (index, name) in uplinks {
            if self.links.contains_key(&index) {
                continue;
            }
            match Link::open(index, name, &self.wanted.subscribe(), &self.claims) {
                Ok(link) => {
                    self.complaints.remove(&index);
                    self.links.insert(index, (name.to_owned(), link));
                }
                Err(error) => complain(&mut self.complaints, index, name, &error),
            }
        }
    }

    /// The programs answer before it is announced, and no longer once somebody else has the address.
    fn speak(&mut self) {
        let now = self.now();
        let due = self.posts.due(now);
        let answered: BTreeMap<Place, Mac> = self
            .posts
            .announced()
            .filter_map(|place| Some((place, self.links.get(&place.1)?.1.mac)))
            .collect();
        if let Err(error) = self.map.follow(&answered) {
            log::warn!(error:err; "programs do not know all addresses that are announced; trying again");
        }
        for (place, message) in due {
            let (address, device) = place;
            let Some((name, link)) = self.links.get(&device) else {
                continue;
            };
            if let Err(error) = link.say(address, message) {
                log::debug!(interface = name, address:%, error:err; "nothing can be said on a link; trying again");
                self.posts.unsent(place, now);
            } else if message == Message::Announcement {
                log::debug!(interface = name, address:%; "announced");
            }
        }
    }

    fn hear(&mut self, Claim { place, mac }: Claim) {
        // Two uplinks may be at one link.
        if self.links.values().any(|(_, link)| link.mac == mac) {
            return;
        }
        let now = self.now();
        self.posts.claimed(place, mac, now);
        self.speak();
    }

    /// What others have, if that is news.
    fn changed_conflicts(&mut self) -> Option<Conflicts> {
        let links = &self.links;
        let conflicts: Conflicts = self
            .posts
            .conflicts()
            .filter_map(|((address, device), mac)| {
                let (name, _) = links.get(&device)?;
                let interface = name.clone();
                Some((address, Conflict { mac, interface }))
            })
            .collect();
        if conflicts == self.conflicts {
            return None;
        }
        for (address, conflict) in &conflicts {
            if !self.conflicts.contains_key(address) {
                log::warn!(address:%, conflict:%; "address of the pool is somebody else's: it is not announced");
            }
        }
        for address in self.conflicts.keys() {
            if !conflicts.contains_key(address) {
                log::info!(address:%; "address of the pool is nobody else's any more");
            }
        }
        self.conflicts.clone_from(&conflicts);
        Some(conflicts)
    }
}

/// The addresses that this node announces.
fn own(held: &Snapshot) -> BTreeSet<IpAddr> {
    let all = held.services.values().flat_map(|it| &it.announced);
    let own = all.filter(|it| it.node.as_ref() == Some(&held.node.name) && !it.provisional);
    own.map(|it| it.address).collect()
}

fn complain(
    complaints: &mut BTreeMap<u32, String>,
    device: u32,
    name: &str,
    error: &dyn std::error::Error,
) {
    let cause = error.source().map(ToString::to_string);
    let text = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    if complaints.get(&device) != Some(&text) {
        log::warn!(interface = name, error = text; "addresses of the pool are not all announced; trying again");
        complaints.insert(device, text);
    }
}
