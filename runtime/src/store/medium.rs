//! The platter of the simulation's disk: it outlives the node that writes on it, and faults are injected here.
//!
//! It is built as a real engine is, a snapshot and a log of framed batches, so that faults fall where they would: a
//! crash takes what was not flushed and may tear the last batch, a cut takes whole batches off the end, a flipped bit
//! stays unnoticed until somebody reads it. No clock, no randomness: whoever injects a fault brings the number drawn.

use super::{Batch, Error, Memory, Op, frame, record};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The log is folded into the snapshot when it is longer than this, in bytes.
const LOG_BYTES_MAX: usize = 256 << 10;

pub(super) type Tables = BTreeMap<String, BTreeMap<Vec<u8>, Bytes>>;

/// A disk that outlives the node that writes on it.
#[derive(Debug, Default)]
pub struct Medium {
    platter: Mutex<Platter>,
}

/// What a crash leaves of the bytes that were written and not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// Nothing.
    Clean,
    /// A part of them, chosen by a number that the caller drew: batches may survive that nobody acknowledged,
    /// and the last may be cut in the middle.
    At(u64),
}

#[derive(Debug, Default)]
pub(super) struct Platter {
    /// Durable: what the log was folded into.
    snapshot: Tables,
    /// Frames, one a batch.
    log: Vec<u8>,
    /// How much of the log a crash can't take, in bytes.
    flushed: usize,
    /// How much a disk that lies (a mutant) says that it has flushed.
    claimed: usize,
    /// What a running node sees.
    pub(super) live: Tables,
    live_bytes: u64,
    /// Written, not flushed: where each ends in the log.
    staged: VecDeque<(usize, Batch)>,
    capacity_bytes: Option<u64>,
    pub(super) flush_delay: Duration,
    /// The opening that may use it; a crash and a later opening end the earlier one.
    session: u64,
    open: bool,
}

impl Medium {
    /// An empty disk without a bound, whose flushes take no time.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A disk of its own with what is durable on this one.
    #[must_use]
    pub fn copy(&self) -> Arc<Self> {
        let platter = self.platter();
        let log = platter.log[..platter.flushed].to_vec();
        let (snapshot, flushed, flush_delay) = (platter.snapshot.clone(), platter.flushed, platter.flush_delay);
        Arc::new(Medium { platter: Mutex::new(Platter { snapshot, log, flushed, flush_delay, ..Platter::default() }) })
    }

    /// Bytes of the keys and values that a running node sees.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.platter().live_bytes
    }

    /// Opens what is durable.
    ///
    /// # Errors
    /// [`Error::Locked`] while it is open; [`Error::Unreadable`] if a batch in the log is damaged.
    pub fn open(self: &Arc<Self>) -> Result<Memory, Error> {
        let mut platter = self.platter();
        if platter.open {
            return Err(Error::Locked { path: PLACE.to_owned() });
        }
        platter.recover()?;
        platter.open = true;
        platter.session += 1;
        Ok(Memory::new(Arc::clone(self), platter.session))
    }

    /// The node dies here. What was not flushed is gone, except for what the tear leaves.
    pub fn crash(&self, tear: Tear) {
        let mut platter = self.platter();
        let unflushed_bytes = platter.log.len() - platter.flushed;
        let kept_bytes = match tear {
            Tear::Clean => 0,
            Tear::At(draw) => draw as usize % (unflushed_bytes + 1),
        };
        let end = platter.flushed + kept_bytes;
        platter.log.truncate(end);
        platter.flushed = end;
        platter.end_session();
    }

    /// Cuts bytes off the end of the log though they were flushed: a disk that lied. Ends the session.
    pub fn truncate(&self, bytes: usize) {
        let mut platter = self.platter();
        let end = platter.flushed.saturating_sub(bytes);
        platter.log.truncate(end);
        platter.flushed = end;
        platter.end_session();
    }

    /// Flips one bit of what is durable, chosen by a number that the caller drew. It is noticed at the next
    /// opening (log) or the first read after it (snapshot). `false` if nothing is durable yet.
    pub fn flip(&self, draw: u64) -> bool {
        let mut platter = self.platter();
        let flushed = platter.flushed;
        let snapshot_bits: u64 = platter.values().map(|value| value.len() as u64 * 8).sum();
        let bits = snapshot_bits + flushed as u64 * 8;
        if bits == 0 {
            return false;
        }
        let mut bit = draw % bits;
        if bit >= snapshot_bits {
            bit -= snapshot_bits;
            platter.log[(bit / 8) as usize] ^= 1 << (bit % 8);
            return true;
        }
        for value in platter.snapshot.values_mut().flat_map(BTreeMap::values_mut) {
            let value_bits = value.len() as u64 * 8;
            if bit < value_bits {
                let mut bytes = value.to_vec();
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                *value = Bytes::from(bytes);
                return true;
            }
            bit -= value_bits;
        }
        false
    }

    /// Bounds the bytes of live keys and values; `None` is no bound.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.platter().capacity_bytes = capacity_bytes;
    }

    /// How long a flush takes, in virtual time: the window in which a crash loses a batch.
    pub fn set_flush_delay(&self, delay: Duration) {
        self.platter().flush_delay = delay;
    }

    /// Folds the log into the snapshot, as happens by itself when it grows.
    pub fn fold(&self) {
        let mut platter = self.platter();
        if platter.staged.is_empty() {
            platter.fold();
        }
    }

    /// The platter, for the opening that may still use it.
    pub(super) fn session(&self, session: u64) -> Result<MutexGuard<'_, Platter>, Error> {
        let platter = self.platter();
        if platter.open && platter.session == session { Ok(platter) } else { Err(Error::Closed) }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    /// Rebuilds what a node sees from what is durable, and drops a torn end.
    fn recover(&mut self) -> Result<(), Error> {
        let mut live = self.snapshot.clone();
        let mut rest = &self.log[..self.flushed];
        let whole_bytes = loop {
            let read_bytes = self.flushed - rest.len();
            match frame::read(&mut rest).expect("memory is always readable") {
                frame::Next::Body(body) => apply(&mut live, record::read(&body).ok_or_else(damaged)?),
                frame::Next::End | frame::Next::Torn => break read_bytes,
                frame::Next::Damaged => return Err(damaged()),
            }
        };
        self.log.truncate(whole_bytes);
        self.flushed = whole_bytes;
        self.live_bytes = live.values().flatten().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        self.live = live;
        Ok(())
    }

    pub(super) fn write(&mut self, batch: &Batch) -> Result<u64, Error> {
        let staged_bytes: usize = self.staged.iter().map(|(_, batch)| batch.bytes()).sum();
        let wanted_bytes = self.live_bytes + (staged_bytes + batch.bytes()) as u64;
        if self.capacity_bytes.is_some_and(|capacity| wanted_bytes > capacity) && !batch.only_deletes() {
            return Err(Error::Full { path: PLACE.to_owned() });
        }
        let mut body = Vec::with_capacity(batch.bytes());
        record::write(batch.ops(), &mut body);
        frame::write(&body, &mut self.log);
        let end = self.log.len();
        self.staged.push_back((end, batch.clone()));
        Ok(end as u64)
    }

    pub(super) fn flush(&mut self, ticket: u64) {
        while let Some((end, batch)) = self.staged.pop_front_if(|(end, _)| *end as u64 <= ticket) {
            for op in batch.ops() {
                let table = self.live.entry(op.table.to_string()).or_default();
                let size = |value: &Bytes| (op.key.len() + value.len()) as u64;
                let value = op.value.as_ref().map(|value| Bytes::copy_from_slice(value));
                self.live_bytes += value.as_ref().map_or(0, size);
                let old = match value {
                    Some(value) => table.insert(op.key.clone(), value),
                    None => table.remove(&op.key),
                };
                self.live_bytes -= old.as_ref().map_or(0, size);
            }
            self.flushed = end;
        }
        if cfg!(feature = "mutant-flush-skipped") {
            (self.flushed, self.claimed) = (self.claimed, self.flushed.max(self.claimed));
        }
        if self.staged.is_empty() && self.log.len() > LOG_BYTES_MAX {
            self.fold();
        }
    }

    /// Only with nothing staged: tickets are places in the log.
    fn fold(&mut self) {
        let mut rest = &self.log[..self.flushed];
        loop {
            match frame::read(&mut rest).expect("memory is always readable") {
                frame::Next::Body(body) => {
                    let Some(ops) = record::read(&body) else {
                        return;
                    };
                    apply(&mut self.snapshot, ops);
                }
                frame::Next::End => break,
                // Stays where it is, for the next opening to refuse; replaying what was folded changes nothing.
                frame::Next::Torn | frame::Next::Damaged => return,
            }
        }
        self.log.clear();
        (self.flushed, self.claimed) = (0, 0);
    }

    /// Closing in order: what was not flushed was never promised.
    pub(super) fn close(&mut self) {
        self.log.truncate(self.flushed);
        self.end_session();
    }

    fn end_session(&mut self) {
        self.session += 1;
        self.open = false;
        self.claimed = self.flushed;
        self.staged.clear();
        self.live.clear();
        self.live_bytes = 0;
    }

    fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.snapshot.values().flat_map(BTreeMap::values)
    }
}

const PLACE: &str = "memory";

fn damaged() -> Error {
    Error::unreadable(Path::new(PLACE), "a batch in its log is damaged")
}

fn apply(tables: &mut Tables, ops: Vec<Op>) {
    for op in ops {
        let table = tables.entry(op.table.into_owned()).or_default();
        match op.value {
            Some(value) => table.insert(op.key, Bytes::from(value)),
            None => table.remove(&op.key),
        };
    }
}
