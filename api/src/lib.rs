//! HTTP to one actor message and back. Decides nothing.
//!
//! ```text
//! request -> door (connections) -> guard (Host, Origin, token) -> Surface (the documented paths)
//!         -> an endpoint: parse, Handle::ask(message) -> JSON | event stream | problem
//! ```
//!
//! Each area is a folder, each resource a file; what they share stands here, one noun a file. Not here: what a
//! message does (`skep_actors`), where the token is kept, and who draws the pages' data (the pages ask this API).

pub mod agents;
pub mod app;
pub mod approvals;
pub mod blobs;
pub mod bus;
pub mod caller;
pub mod cluster;
pub mod config;
pub mod cron;
pub mod goals;
pub mod health;
pub mod input;
pub mod limits;
pub mod llm;
pub mod openai;
pub mod organism;
pub mod pages;
pub mod problem;
pub mod reply;
pub mod room;
pub mod server;
pub mod spec;
pub mod surface;
pub mod tag;
pub mod tasks;
pub mod threads;
pub mod token;
pub mod usage;
pub mod workers;

mod completion;
mod door;
mod events;
pub mod greedy;
mod guard;
mod origin;
mod refusal;
mod session;
mod when;

pub use app::app;
pub use config::Config;
pub use problem::Problem;
pub use reply::Reply;
pub use server::Server;
pub use spec::spec;
pub use token::Token;
