//! How nodes talk: identity, trust, QUIC, discovery, membership. Implements `runtime`'s seams `Carrier` and `Swarm`.
//!
//! Not here: what is said. Messages are opaque bytes between two directories; no actor of the domain is known.
//! Only this crate knows quinn, rustls, foca and libp2p.
//!
//! ```text
//! Handle::ask -> Carrier (mesh) -> link: credit, frame, batch -> QUIC ~~~ QUIC -> link: decode -> Directory::accept
//! foca probe  -> Mesh::datagram ---------------------------------> QUIC ~~~ QUIC -> Event::Datagram -> membership
//! stranger    -> skep-join/1, one stream --------------------------------------> Gate::joiner -> join
//! ```

pub mod bulk;
pub mod defaults;
pub mod discovery;
pub mod endpoint;
pub mod env;
pub mod guest;
pub mod identity;
pub mod join;
pub mod link;
pub mod membership;
pub mod mesh;
pub mod origin;
pub mod roster;
pub mod swarm;
pub mod tls;

pub use env::Env;
pub use identity::Identity;
pub use mesh::Mesh;
pub use swarm::{Transport, TransportConfig};
