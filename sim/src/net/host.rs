//! One machine's connection to the network: what a node's environment gets.

use super::Network;
use futures::stream::BoxStream;
use quinn::AsyncUdpSocket;
use skep_transport::env::{Beacon, Net, Sighting};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A machine on a [`Network`], by its one address.
pub struct Host {
    network: Network,
    ip: IpAddr,
}

impl Host {
    /// The machine at `ip`.
    pub fn new(network: Network, ip: IpAddr) -> Host {
        Host { network, ip }
    }
}

impl Net for Host {
    fn bind(&self, at: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let ip = if at.ip().is_unspecified() { self.ip } else { at.ip() };
        if ip != self.ip || at.port() == 0 {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(self.network.bind(SocketAddr::new(ip, at.port()))?)
    }

    fn discover(&self, beacon: Beacon) -> BoxStream<'static, Sighting> {
        self.network.discover(SocketAddr::new(self.ip, beacon.port), beacon.node)
    }
}
