//! `monitor`: one line of its stream.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use clusterip_common::{
    abi::{Event, Outcome},
    wire::{Addr, Be16, Proto},
};
use serde::{Deserialize, Serialize};

use super::{Names, VERSION, flows::protocol};

/// The kind of a line that says that events are told from now on.
pub const BEGIN: &str = "begin";
/// The kind of a line that says how many events are missing.
pub const LOST: &str = "lost";

/// An event, or a line about the stream itself, which has `version`, `time` and `kind` alone, and `lost`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventLine {
    /// See [`VERSION`].
    pub version: u32,
    /// When, in UTC.
    pub time: String,
    /// opened, translated, closed, rejected, dropped, answered; or begin, lost.
    pub kind: String,
    /// Events that are missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// What it was.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventView>,
}

/// What happened to a packet or a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Why, by its name.
    pub outcome: String,
    /// Where: from-pod, to-pod, from-uplink, driver, socket.
    pub hook: String,
    /// Name of the device; empty for a call, or if it is not known.
    pub device: String,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// Who called; none for a call by a process, which has no address yet.
    pub client: Option<SocketAddr>,
    /// `namespace/name` of its pod; empty if it is not known.
    pub client_pod: String,
    /// Namespace of the service; empty if there is none.
    pub namespace: String,
    /// Name of the service; empty if there is none.
    pub service: String,
    /// Name of the service port; empty if it has none or is not known.
    pub port_name: String,
    /// What was called; none if it is not known.
    pub frontend: Option<SocketAddr>,
    /// Who answers; none if there is none, or it is not known.
    pub backend: Option<SocketAddr>,
    /// `namespace/name` of its pod; empty if it is not known.
    pub backend_pod: String,
    /// Bytes of the frame; 0 for a call.
    pub bytes: u32,
    /// The beginning of the frame as hex digits, if it was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// What it begins with: ethernet, ip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl EventLine {
    /// Of an event.
    #[must_use]
    pub fn of(event: &Event, time: String, view: EventView) -> Self {
        Self {
            version: VERSION,
            time,
            kind: event.kind.name().to_owned(),
            lost: None,
            event: Some(view),
        }
    }

    /// Events are told from now on.
    #[must_use]
    pub fn begin(time: String) -> Self {
        Self {
            version: VERSION,
            time,
            kind: BEGIN.to_owned(),
            lost: None,
            event: None,
        }
    }

    /// So many are missing.
    #[must_use]
    pub fn lost(time: String, lost: u64) -> Self {
        Self {
            lost: Some(lost),
            kind: LOST.to_owned(),
            ..Self::begin(time)
        }
    }
}

/// An event with names. `device` is the name of its device.
#[must_use]
pub fn event(names: &Names<'_>, event: &Event, device: &str) -> EventView {
    let end = |address: Addr, port: Be16| {
        (address != Addr::UNSPECIFIED).then(|| SocketAddr::new(address.into(), port.get()))
    };
    let pod = |end: Option<SocketAddr>| end.map_or_else(String::new, |end| names.pod(end.ip()));
    let client = end(event.client, event.client_port);
    let frontend = end(event.frontend, event.frontend_port);
    let backend = end(event.backend, event.backend_port);
    let (service, port_name) = match names.service(event.service) {
        Some((name, place)) => (Some(name), place.port_name.to_string()),
        None => (
            frontend.and_then(|end| names.owner(end.ip())),
            String::new(),
        ),
    };
    let outcome = usize::try_from(event.outcome).ok();
    let outcome = outcome.and_then(|index| Outcome::ALL.get(index));
    EventView {
        outcome: outcome.map_or("unknown", |it| it.name()).to_owned(),
        hook: event.hook.name().to_owned(),
        device: device.to_owned(),
        protocol: match event.protocol {
            Proto(0) => String::new(),
            known => protocol(known),
        },
        client,
        client_pod: pod(client),
        namespace: service.map_or_else(String::new, |it| it.namespace.to_string()),
        service: service.map_or_else(String::new, |it| it.name.to_string()),
        port_name,
        frontend,
        backend,
        backend_pod: pod(backend),
        bytes: event.bytes,
        frame: None,
        link: None,
    }
}

/// Bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String does not fail.
        let _written = write!(text, "{byte:02x}");
    }
    text
}

/// Hex digits as bytes; none of what is something else.
#[must_use]
pub fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    hex.len()
        .is_multiple_of(2)
        .then(|| digits.map(byte).collect())?
}

/// An address with or without a port: whom an event is to be about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// The port, if only that one is meant.
    pub port: Option<u16>,
}

impl Peer {
    /// Whether an end of a flow is it.
    #[must_use]
    pub fn is(&self, address: Addr, port: Be16) -> bool {
        IpAddr::from(address) == self.address && self.port.is_none_or(|wanted| wanted == port.get())
    }
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(end) = text.parse::<SocketAddr>() {
            return Ok(Self {
                address: end.ip().to_canonical(),
                port: Some(end.port()),
            });
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let address: Result<IpAddr, _> = bare.unwrap_or(text).parse();
        let address = address.map_err(|_error| {
            "must be ADDR or ADDR:PORT, such as 10.96.0.10:80 or [fd00::1]:80".to_owned()
        })?;
        Ok(Self {
            address: address.to_canonical(),
            port: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_the_stream_has_no_event() {
        let line = EventLine::lost("2026-01-01T00:00:00Z".to_owned(), 7);
        let text = serde_json::to_string(&line).expect("JSON");
        assert_eq!(
            text,
            r#"{"version":1,"time":"2026-01-01T00:00:00Z","kind":"lost","lost":7}"#
        );
        let read: EventLine = serde_json::from_str(&text).expect("a line");
        assert_eq!(read, line);
    }

    #[test]
    fn bytes_come_back_from_their_digits() {
        assert_eq!(hex(&[0, 0xaf, 7]), "00af07");
        assert_eq!(bytes("00af07"), Some(vec![0, 0xaf, 7]));
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes("zz"), None);
    }

    #[test]
    fn a_peer_is_an_address_with_or_without_a_port() {
        let peer = |text: &str| text.parse::<Peer>();
        let (address, port) = (Addr::v4([10, 0, 0, 1]), Be16::new(80));
        assert!(peer("10.0.0.1").expect("one").is(address, port));
        assert!(peer("10.0.0.1:80").expect("one").is(address, port));
        assert!(!peer("10.0.0.1:81").expect("one").is(address, port));
        assert!(!peer("[fd00::1]:80").expect("one").is(address, port));
        assert!(peer("web").is_err());
    }
}
