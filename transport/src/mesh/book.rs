//! The addresses of one peer, in the order to try them. Nothing in it is proven but by a dial.

use crate::defaults::ADDRESSES_MAX;
use std::net::SocketAddr;

/// At most [`ADDRESSES_MAX`] addresses: the last good one, then the newest hints.
#[derive(Debug, Default)]
pub(super) struct Book {
    addresses: Vec<SocketAddr>,
    /// Whether the first one has worked.
    proven: bool,
}

impl Book {
    /// Notes a hint. It stands behind the proven address and in front of older hints, which fall out at the end.
    pub(super) fn hint(&mut self, addr: SocketAddr) {
        if !self.addresses.contains(&addr) {
            self.addresses.insert(usize::from(self.proven), addr);
            self.addresses.truncate(ADDRESSES_MAX);
        }
    }

    /// Notes that a connection stands at `addr`.
    pub(super) fn proven(&mut self, addr: SocketAddr) {
        self.addresses.retain(|known| *known != addr);
        self.addresses.insert(0, addr);
        self.addresses.truncate(ADDRESSES_MAX);
        self.proven = true;
    }

    pub(super) fn clear(&mut self) {
        *self = Book::default();
    }

    pub(super) fn all(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn the_proven_address_stays_first_whatever_hints_come() {
        let mut book = Book::default();
        book.hint(at(1));
        book.proven(at(2));
        (10..30).for_each(|port| book.hint(at(port)));
        assert_eq!(book.all().len(), ADDRESSES_MAX);
        assert_eq!(book.all()[..2], [at(2), at(29)]);
    }

    #[test]
    fn a_known_address_keeps_its_place() {
        let mut book = Book::default();
        (1..4).for_each(|port| book.hint(at(port)));
        book.hint(at(1));
        assert_eq!(book.all(), [at(3), at(2), at(1)]);
    }
}
