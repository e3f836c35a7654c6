//! The API from outside, as a client meets it: over scripted actors that are published under the real names.
//!
//! Not here: what the real actors do (their own tests), and sockets but for one test of the server.

#![expect(clippy::unwrap_used, reason = "a script that can't go on fails its test right there")]

mod agents;
mod bodies;
mod bus;
mod cluster;
mod guard;
mod health;
mod llm;
mod openai;
mod pages;
mod server;
mod stage;
mod tasks;
mod threads;
mod usage;
