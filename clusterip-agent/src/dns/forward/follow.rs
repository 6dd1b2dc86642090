//! The background of a forwarder: the file that names its upstreams, and whether they lead back here.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use super::{Forwarder, Upstreams, address::name_servers, routes::is_own, upstream::Upstream};

/// How often the file is read. It is small, is often a link that is swapped, and may be of another file system: reading
/// it finds every change.
const READ: Duration = Duration::from_secs(2);

/// Follows the file, and looks at every upstream once. Never ends.
pub(super) async fn run(forwarder: &Forwarder) {
    let mut looked: Vec<Weak<Upstream>> = Vec::new();
    loop {
        looked.retain(|upstream| upstream.strong_count() > 0);
        for (zone, upstream) in forwarder.routes().all() {
            let weak = Arc::downgrade(upstream);
            if looked.iter().any(|known| known.ptr_eq(&weak)) {
                continue;
            }
            looked.push(weak);
            let (forwarder, upstream) = (forwarder.clone(), Arc::clone(upstream));
            tokio::spawn(async move {
                let timing = forwarder.0.settings.timing;
                forwarder.0.loops.look(&zone, &upstream, &timing).await;
            });
        }
        sleep(READ).await;
        if let Upstreams::File(path) = &forwarder.0.settings.upstreams {
            read(path, forwarder);
        }
    }
}

/// Takes the upstreams that a file names. What it said before stays while it names none, as in the moment of its change.
pub(super) fn read(path: &Path, forwarder: &Forwarder) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            log::debug!(path:% = path.display(), error:err; "the upstreams stay as they are");
            return;
        }
    };
    let (own, found): (Vec<SocketAddr>, Vec<SocketAddr>) = name_servers(&text)
        .into_iter()
        .partition(|address| is_own(*address, &forwarder.0.settings.own));
    let routes = forwarder.routes();
    if found.is_empty() || routes.others().eq(found.iter().copied()) {
        return;
    }
    for address in own {
        log::warn!(path:% = path.display(), upstream:% = address; "the file names this resolver itself: left out");
    }
    let addresses: Vec<String> = found.iter().map(ToString::to_string).collect();
    log::info!(path:% = path.display(), upstreams = addresses.join(","); "names outside are asked of these");
    forwarder.set_routes(routes.with_others(&found));
}
