//! `list_cluster_nodes`: the machines of the swarm, one a line.

use super::{Bench, Tool};
use crate::node::Card;
use skep_runtime::wire;
use std::fmt::Write;

/// Its name.
pub const NAME: &str = "list_cluster_nodes";
/// What it is.
pub const TOOL: Tool = Tool { name: NAME, args: "{}", about: "list the machines of the swarm", repeatable: true };

/// Machines that are listed: more would fill a small model's context.
const NODES_MAX: usize = 32;
/// Bytes of a card that are decoded.
const CARD_BYTES_MAX: usize = 64 << 10;

pub(super) fn call(bench: &Bench) -> String {
    let picture = bench.context.members.now();
    let mut out = String::from("id, name, status, os/arch, device type, GPU\n");
    for member in picture.values().take(NODES_MAX) {
        let card: Card = wire::decode(&member.card, CARD_BYTES_MAX).unwrap_or_default();
        let gpu = card.gpus.first().map_or("none", |gpu| gpu.name.as_str());
        let status = format!("{:?}", member.state).to_lowercase();
        let (id, name) = (member.id.short(), &member.name);
        writeln!(out, "{id}, {name}, {status}, {}/{}, {}, {gpu}", card.os, card.arch, card.device_type)
            .expect("writing to a string can't fail");
    }
    if picture.len() > NODES_MAX {
        out.push_str("(and more)\n");
    }
    out
}
