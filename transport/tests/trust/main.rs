//! Whole transports in one process over loopback: real QUIC, a disk in memory, no mDNS.

#![allow(clippy::unwrap_used, reason = "a test that can't go on ends")]

mod joining;
mod members;
mod node;
mod unattended;
