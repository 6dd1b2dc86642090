//! Records of the zone.

use std::net::IpAddr;

use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{CNAME, NS, PTR, SOA, SRV, TXT},
};

use super::zone::{TTL, Zone};

/// Version of the specification, as `dns-version` says it.
const SPECIFICATION: &str = "1.1.0";
/// Seconds until a secondary server would look again, retry, and give up; there is none.
const REFRESH: i32 = 7200;
const RETRY: i32 = 1800;
const EXPIRE: i32 = 86_400;
/// Shares of the endpoints of a service port add up to about this.
const WEIGHTS: usize = 100;

fn record(owner: &Name, data: RData) -> Record {
    Record::from_rdata(owner.clone(), TTL, data)
}

pub(super) fn address(owner: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    };
    record(owner, data)
}

pub(super) fn alias(owner: &Name, target: Name) -> Record {
    record(owner, RData::CNAME(CNAME(target)))
}

pub(super) fn pointer(owner: &Name, target: Name) -> Record {
    record(owner, RData::PTR(PTR(target)))
}

/// `among` is how many of them share the port.
pub(super) fn service(owner: &Name, port: u16, target: Name, among: usize) -> Record {
    let weight = WEIGHTS.checked_div(among).unwrap_or_default().max(1);
    let weight = u16::try_from(weight).unwrap_or(u16::MAX);
    record(owner, RData::SRV(SRV::new(0, weight, port, target)))
}

pub(super) fn version(owner: &Name) -> Record {
    record(owner, RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()])))
}

pub(super) fn name_server(owner: &Name, zone: &Zone) -> Record {
    record(owner, RData::NS(NS(zone.server.clone())))
}

/// The SOA of the zone itself, or of a reverse zone.
pub(super) fn authority(apex: &Name, zone: &Zone, serial: u32) -> Record {
    let soa = SOA::new(
        zone.server.clone(),
        zone.mailbox.clone(),
        serial,
        REFRESH,
        RETRY,
        EXPIRE,
        TTL,
    );
    record(apex, RData::SOA(soa))
}
