//! Who of the roster answers: SWIM with suspicion (`foca`), fed by the mesh's datagrams.
//!
//! [`Core`] wraps foca without I/O: packets, time and hints go in; packets, ups and downs come out. A [`Pulse`]
//! rides along: load, the card's version and the roster's digest in under 100 bytes, so that what is large is
//! pulled ([`cards`]) only when it changed. [`Policy`] says what stands between silence and `Down`.
//!
//! ```text
//! probe fails -> suspicion (how long?) <- accusation (who else?), health (am I well?), lost connection
//!                    `-> time is over -> Down
//! ```
//!
//! Not here: who may be a member (`roster`), and the task that drives this (`swarm::driver`).

mod accusation;
pub mod cards;
mod codec;
mod core;
mod health;
mod peer;
mod policy;
mod pulse;
mod suspicion;
mod word;

pub use codec::PACKET_BYTES_MAX;
pub use core::{Action, Core, Input};
pub use peer::Peer;
pub use policy::Policy;
pub use pulse::Pulse;
