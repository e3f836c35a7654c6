//! Messages, as many as are wanted: the ThreadActor cuts its answers by their bytes, and the rest is asked for here.
//!
//! An answer to a client has a bound too; where it is reached, the answer says where the next page begins.

use super::thread::threads;
use crate::{Reply, limits::SAID_BYTES_MAX};
use skep_actors::{
    Context,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    thread::{Message, Page, Said, messages::WantedSaid},
};
use std::collections::BTreeSet;

/// A part of the messages.
pub(super) struct Part {
    pub(super) items: Vec<Said>,
    /// How many there are in all.
    pub(super) total: u64,
    /// How many are left out before the next part; `None` after the last one.
    pub(super) next: Option<u32>,
}

/// The messages that are wanted, or as many of them as fit an answer.
pub(super) async fn said(context: &Context, wanted: WantedSaid) -> Reply<Part> {
    let (mut items, mut known, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
    let (end, total) = loop {
        let had = items.len();
        let offset = wanted.offset.saturating_add(had as u32);
        let rest = WantedSaid { offset, limit: wanted.limit.saturating_sub(had as u32), ..wanted.clone() };
        let page = threads(context).ask(ASK_TIMEOUT, |port| Message::Said(Wire(rest), port)).await??;
        let Page { items: piece, total } = page;
        // What is said meanwhile moves the others on; so does one that this node has not heard of yet.
        for said in piece.into_iter().filter(|said: &Said| known.insert(said.id)) {
            bytes += said.payload.len();
            items.push(said);
        }
        let end = wanted.offset.saturating_add(items.len() as u32);
        if items.len() == had || items.len() as u64 >= u64::from(wanted.limit) || u64::from(end) >= total {
            break (wanted.offset.saturating_add(wanted.limit), total);
        }
        if bytes >= SAID_BYTES_MAX {
            break (end, total);
        }
    };
    Ok(Part { items, total, next: (u64::from(end) < total).then_some(end) })
}
