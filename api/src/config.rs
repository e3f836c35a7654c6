//! What the server needs to know before it starts.

use crate::Token;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The configuration of the HTTP side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. Port 0 lets the system choose. Anything but loopback shows the API to the network, where
    /// the token travels in clear text: put a TLS proxy or a tunnel in front.
    pub bind: SocketAddr,
    /// Who has this, owns the node.
    pub token: Token,
    /// Names under which browsers may reach this server, besides `localhost` and the bound address. Each name is a
    /// promise that only its rightful owner can point it somewhere.
    pub allowed_hosts: Vec<String>,
}

impl Config {
    /// The documented address: loopback, port 4892.
    pub const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4892);

    /// The documented address with this token.
    pub fn new(token: Token) -> Config {
        Config { bind: Config::BIND, token, allowed_hosts: Vec::new() }
    }
}
