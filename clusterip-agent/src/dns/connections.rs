//! How many connections there may be, so that slow clients stay few.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Open connections by client.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    most_of_one: usize,
}

/// A connection that counts as long as this is held.
#[derive(Debug)]
pub(super) struct Place {
    connections: Connections,
    client: IpAddr,
}

impl Connections {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            open: Arc::default(),
            most,
            most_of_one,
        }
    }

    /// A place for one more connection of a client; none if there are enough, its own or all together.
    pub(super) fn admit(&self, client: IpAddr) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.entry(client).or_default();
        if all >= self.most || *own >= self.most_of_one {
            if *own == 0 {
                open.remove(&client);
            }
            return None;
        }
        *own += 1;
        drop(open);
        Some(Place {
            connections: self.clone(),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = &self.connections.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_every_place_and_a_place_is_free_after_its_end() {
        let connections = Connections::new(3, 2);
        let [one, other, third] = [1, 2, 3].map(|it| IpAddr::from([10, 0, 0, it]));
        let first = connections.admit(one).unwrap();
        let _second = connections.admit(one).unwrap();
        assert!(connections.admit(one).is_none(), "it has its two");
        let _third = connections.admit(other).unwrap();
        assert!(connections.admit(third).is_none(), "there are three");
        drop(first);
        assert!(connections.admit(third).is_some());
        assert!(
            connections.open.lock().unwrap().len() == 2,
            "no client is remembered"
        );
    }
}
