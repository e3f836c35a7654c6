//! Skep turns the machines on a LAN into one: run a node on each, and any of them runs commands, agents and
//! language models on all of them. This is the program's library: a node to embed, and the command line.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let node = skep::Node::builder().home("/tmp/bee").name("bee").start().await?;
//! println!("{} listens on {}", node.id(), node.quic_addr());
//! node.stop().await;
//! # Ok(()) }
//! ```
//!
//! Actors of one's own are published with [`Node::directory`] and called from any node of the swarm through a
//! [`runtime::Handle`]; `examples/` shows how.

pub mod cli;
mod client;
mod config;
mod home;
mod node;

pub use config::{Config, Mistakes, Secret};
pub use home::{Home, Note};
pub use node::{Builder, Node, StartError};
pub use skep_actors as actors;
pub use skep_actors::runtime;

/// Installs the process's one crypto provider, for libraries that ask for a default. Nodes do it themselves;
/// doing it twice is harmless.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
