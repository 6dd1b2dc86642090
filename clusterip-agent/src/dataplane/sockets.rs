//! The flows of sockets, read from their map: which of them have lost their backend.

use std::net::{IpAddr, SocketAddr};

use aya::maps::{Array, HashMap, MapError};
use clusterip_common::{
    abi::{Backend, BackendState, Direction, SocketFlow, SocketKey, maps},
    wire::{Addr, Be16},
};

use super::{
    DataplaneError,
    load::{Data, LoadError},
    pinned,
    pins::Pins,
    raw::Raw,
};

/// A UDP socket that was sent to a backend which no longer serves. Whether it is connected is not known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stranded {
    key: SocketKey,
    flow: SocketFlow,
}

impl Stranded {
    /// Number of the socket.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        self.key.cookie
    }

    /// What the process called.
    #[must_use]
    pub fn service(&self) -> SocketAddr {
        endpoint(self.key.address, self.key.port)
    }

    /// Where its datagrams go.
    #[must_use]
    pub fn backend(&self) -> SocketAddr {
        endpoint(self.flow.address, self.flow.port)
    }
}

fn endpoint(address: Addr, port: Be16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address), port.get())
}

/// The maps, by way of their pins.
pub struct SocketMaps {
    sockets: HashMap<Data, Raw<SocketKey>, Raw<SocketFlow>>,
    backends: Array<Data, Raw<Backend>>,
}

impl SocketMaps {
    /// Opens them.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            sockets: pinned::map(pins, &maps::SOCKETS)?,
            backends: pinned::map(pins, &maps::BACKENDS)?,
        })
    }

    /// The UDP sockets whose backend left the serving set (C8) or is another endpoint by now (C10).
    ///
    /// # Errors
    /// The maps could not be read.
    pub fn stranded(&self) -> Result<Vec<Stranded>, DataplaneError> {
        let mut found = Vec::new();
        for entry in &self.sockets {
            let (Raw(key), Raw(flow)) =
                entry.map_err(DataplaneError::reading(maps::SOCKETS.name))?;
            // Only datagrams have an entry for requests.
            if key.direction == Direction::REQUEST && !self.serves(&flow)? {
                found.push(Stranded { key, flow });
            }
        }
        Ok(found)
    }

    fn serves(&self, flow: &SocketFlow) -> Result<bool, DataplaneError> {
        let Raw(backend) = self
            .backends
            .get(&flow.backend.0, 0)
            .map_err(DataplaneError::reading(maps::BACKENDS.name))?;
        Ok(backend.generation == flow.generation
            && (backend.state == BackendState::ACTIVE || backend.state == BackendState::DRAINING))
    }

    /// Removes the entry of a socket that needs nothing: it is closed, or not connected and chooses at its next datagram.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn forget(&mut self, socket: &Stranded) -> Result<(), DataplaneError> {
        match self.sockets.get(&Raw(socket.key), 0) {
            Ok(Raw(flow)) if flow == socket.flow => {}
            // It has chosen meanwhile, or is gone.
            Ok(_) | Err(MapError::KeyNotFound) => return Ok(()),
            Err(error) => return Err(DataplaneError::reading(maps::SOCKETS.name)(error)),
        }
        match self.sockets.remove(&Raw(socket.key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(source) => Err(DataplaneError::Write {
                map: maps::SOCKETS.name,
                operation: "delete",
                entry: format!("{:?}", socket.key),
                source: source.into(),
            }),
        }
    }
}
