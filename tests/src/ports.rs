//! Ports for servers that are killed and restarted at the same address.
//!
//! While a server is down, another program may take its port. So these ports are outside the range from which the
//! operating system takes the ports of outgoing connections, and each has a neighbour that its owner listens on: no
//! other test process takes it.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::{Ipv4Addr, TcpListener},
};

/// The first port and its neighbour, and the number of such pairs.
const FIRST: u16 = 12_000;
const PAIRS: u16 = 9_000;

/// A port of the loopback interface that belongs to one test until this is dropped or the process ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _neighbour: TcpListener,
}

impl Port {
    /// A port that is free.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn reserve() -> Self {
        let random = RandomState::new().build_hasher().finish() % u64::from(PAIRS);
        let start = u16::try_from(random).unwrap_or_default();
        let mut pairs = (0..PAIRS).map(|step| (start + step) % PAIRS);
        pairs.find_map(|pair| Self::take(FIRST + 2 * pair)).expect("a free port")
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn take(number: u16) -> Option<Self> {
        let neighbour = listen(number + 1)?;
        listen(number).map(|_| Self { number, _neighbour: neighbour })
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_nobody_else_gets_it() {
        let port = Port::reserve();
        assert!(listen(port.number()).is_some());
        assert!(Port::take(port.number()).is_none());
    }
}
