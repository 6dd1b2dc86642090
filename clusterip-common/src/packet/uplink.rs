//! From outside: a service address answers inside the cluster and nowhere else (E1).

use super::{
    env::Env,
    family::{Family, V4, V6},
    frame::Frame,
    link::{Link, Network, network},
    request,
    verdict::Verdict,
    way::Work,
};
use crate::abi::{EventHook, Outcome};

/// What comes in by an uplink. What a node or a pod of the cluster sends to a service is served as if a pod of this node
/// had sent it (docs/adr/0006-from-outside.md).
#[inline(always)]
pub fn from_uplink<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    match admit(frame, env, link) {
        Ok(network) => request(frame, env, network, EventHook::FROM_UPLINK),
        Err(verdict) => {
            let is_v6 = network(frame, link).is_some_and(|network| network.is_v6);
            env.tell(frame, &Work::NONE, (EventHook::FROM_UPLINK, is_v6), verdict);
            verdict
        }
    }
}

/// Whether a packet that came in by an uplink is one to a service from inside the cluster; else the verdict on it. The IP
/// header is enough: what else is in the packet, and whether there is such a service, is nothing that is told outside
/// (before B7 and B9).
#[inline(always)]
#[expect(
    clippy::missing_errors_doc,
    reason = "the error is the verdict, as above"
)]
pub fn admit<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Result<Network, Verdict> {
    let Some(found) = network(frame, link) else {
        return Err(Verdict::Pass(Outcome::NotOurs));
    };
    frame.enter(found.offset);
    if found.is_v6 {
        admit_of::<V6, F, E>(frame, env)?;
    } else {
        admit_of::<V4, F, E>(frame, env)?;
    }
    Ok(found)
}

#[inline(always)]
fn admit_of<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Result<(), Verdict> {
    let network = frame.network();
    frame.pull(network + A::HEADERS);
    let Some(ip) = frame.at::<A::Header>(network) else {
        return Err(Verdict::Pass(Outcome::Truncated));
    };
    if !A::is_for_service(ip, env.settings()) {
        return Err(Verdict::Pass(Outcome::NotOurs));
    }
    // It would be mistaken for a pod of IPv4 (D12).
    if A::has_mapped_address(ip) {
        return Err(Verdict::Drop(Outcome::MappedAddress));
    }
    match env.inside(A::source(ip)) {
        Some(_) => Ok(()),
        None => Err(Verdict::Drop(Outcome::FromOutside)),
    }
}
