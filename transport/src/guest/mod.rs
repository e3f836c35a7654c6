//! The guest door: any ordinary `ractor_cluster` program on this machine attaches to its node over loopback TCP with a
//! cookie, publishes actors to the swarm and calls published ones. Between nodes `ractor_cluster` has no part.
//!
//! Only this module uses process groups (`pg`), ractor's own way of finding actors, which are a process global:
//! every group here carries a node's id, so that two nodes in one process don't mix.
//!
//! ```text
//! another node -> Directory::accept -> Proxy -> guest's session ~~ loopback ~~ guest's actor   (pg: skep/published/NODE)
//! guest ~~ loopback ~~ Gateway (pg: skep/gateway) -> Directory::forward -> here, or the other node
//! ```
//!
//! A guest needs no crate of ours; five steps, as `examples/guest.rs` shows them: start a `NodeServer` with the cookie
//! and a name of its own, connect it to the door, wait for the gateway, join each actor to the published scope under
//! its name, call others through the gateway. Its answers to a [`Handle`](skep_runtime::Handle) are
//! [`Wire`](skep_runtime::Wire) (bincode 2, standard configuration); the rest is up to the two that talk.
//!
//! Whoever reads the cookie is not the owner, who has the API's token: guests call other guests' actors, and those that were
//! published for them ([`Reach::Guests`](skep_runtime::Reach)), on any node; nothing of a node's own. `ractor_cluster`
//! itself would let them call every actor of the process, so that what they say is screened before it reads it.

mod cookie;
mod door;
mod gateway;
mod proxy;
mod published;
mod screen;
mod server;

pub use cookie::{Cookie, CookieError};
pub use door::{Door, OpenError};
pub use gateway::{Answer, GATEWAY, Message};
pub use published::{PUBLISHED, scope_of};
