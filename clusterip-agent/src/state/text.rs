//! Allocations and changes of them as people and files have them: JSON.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::model::{
    allocate::{Allocations, Changes},
    node_ports::PortKey,
    object::ObjectName,
    service::Protocol,
};

const VERSION: u32 = 1;
/// What a node port is for that is for no port of its service.
const HEALTH_CHECK: &str = "healthCheck";

type Ports = BTreeMap<String, u16>;

/// All of it. What a service has by `namespace/name`; node ports by `80/TCP`, the port they are for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    version: u32,
    services: BTreeMap<String, Vec<IpAddr>>,
    /// Released addresses, and who had them last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    resting: BTreeMap<IpAddr, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    node_ports: BTreeMap<String, Ports>,
}

/// One change, written in the same way: what is empty is gone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Record {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    services: BTreeMap<String, Vec<IpAddr>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    resting: BTreeMap<IpAddr, Option<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    node_ports: BTreeMap<String, Ports>,
}

/// Reads all allocations.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Allocations, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Document {
        version,
        services,
        resting,
        node_ports,
    } = document;
    if version != VERSION {
        return Err(format!("version {version} is not {VERSION}"));
    }
    let resting = resting.into_iter();
    let resting = resting.map(|(address, key)| Ok((address.to_canonical(), owner(&key)?)));
    let allocations = Allocations {
        addresses: addresses(services)?,
        resting: resting.collect::<Result<_, String>>()?,
        node_ports: numbers(node_ports)?,
    };
    match allocations.twice() {
        Some(twice) => Err(format!("{twice} is there twice")),
        None => Ok(allocations),
    }
}

/// Writes all allocations.
///
/// # Errors
/// None that is known of.
pub(super) fn text(allocations: &Allocations) -> serde_json::Result<Vec<u8>> {
    let Allocations {
        addresses,
        resting,
        node_ports,
    } = allocations;
    let document = Document {
        version: VERSION,
        services: by_text(addresses, Vec::clone),
        resting: resting
            .iter()
            .map(|(address, owner)| (*address, owner.to_string()))
            .collect(),
        node_ports: by_text(node_ports, ports_text),
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads changes.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn parse_changes(text: &str) -> Result<Changes, String> {
    let record: Record = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Record {
        services,
        resting,
        node_ports,
    } = record;
    let resting = resting.into_iter().map(|(address, key)| {
        let owner = key.map(|key| owner(&key)).transpose()?;
        Ok((address.to_canonical(), owner))
    });
    Ok(Changes {
        addresses: addresses(services)?,
        resting: resting.collect::<Result<_, String>>()?,
        node_ports: numbers(node_ports)?,
    })
}

/// Writes changes, on one line.
///
/// # Errors
/// None that is known of.
pub(super) fn changes_text(changes: &Changes) -> serde_json::Result<String> {
    let Changes {
        addresses,
        resting,
        node_ports,
    } = changes;
    serde_json::to_string(&Record {
        services: by_text(addresses, Vec::clone),
        resting: resting
            .iter()
            .map(|(address, owner)| (*address, owner.as_ref().map(ToString::to_string)))
            .collect(),
        node_ports: by_text(node_ports, ports_text),
    })
}

fn by_text<T, U>(all: &BTreeMap<ObjectName, T>, text: impl Fn(&T) -> U) -> BTreeMap<String, U> {
    all.iter()
        .map(|(name, it)| (name.to_string(), text(it)))
        .collect()
}

fn ports_text(ports: &BTreeMap<PortKey, u16>) -> Ports {
    let text = |key: &PortKey| {
        if *key == PortKey::HEALTH_CHECK {
            HEALTH_CHECK.to_owned()
        } else {
            format!("{}/{}", key.port, key.protocol)
        }
    };
    ports
        .iter()
        .map(|(key, number)| (text(key), *number))
        .collect()
}

fn object_name(key: &str) -> Result<ObjectName, String> {
    let parts = key.split_once('/');
    let (namespace, name) = parts.ok_or_else(|| format!("{key:?} is not namespace/name"))?;
    Ok(ObjectName::new(namespace, name))
}

/// The empty text is nobody that is known.
fn owner(key: &str) -> Result<ObjectName, String> {
    match key {
        "" => Ok(ObjectName::unknown()),
        key => object_name(key),
    }
}

fn addresses(
    services: BTreeMap<String, Vec<IpAddr>>,
) -> Result<BTreeMap<ObjectName, Vec<IpAddr>>, String> {
    let services = services.into_iter();
    let canonical = |all: Vec<IpAddr>| all.iter().map(IpAddr::to_canonical).collect();
    services
        .map(|(key, addresses)| Ok((object_name(&key)?, canonical(addresses))))
        .collect()
}

fn numbers(
    kept: BTreeMap<String, Ports>,
) -> Result<BTreeMap<ObjectName, BTreeMap<PortKey, u16>>, String> {
    let port_key = |text: &str| {
        if text == HEALTH_CHECK {
            return Some(PortKey::HEALTH_CHECK);
        }
        let (port, protocol) = text.split_once('/')?;
        Some(PortKey {
            port: port.parse().ok().filter(|port| *port > 0)?,
            protocol: Protocol::parse(Some(protocol))?,
        })
    };
    let mut all = BTreeMap::new();
    for (service, ports) in kept {
        let mut numbers = BTreeMap::new();
        for (text, number) in ports {
            let key = port_key(&text).ok_or_else(|| format!("{text:?} is not port/protocol"))?;
            numbers.insert(key, number);
        }
        all.insert(object_name(&service)?, numbers);
    }
    Ok(all)
}
