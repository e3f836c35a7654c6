//! The one who writes the ledger's disk: takes what users and other nodes bring, lets the core decide, commits in groups
//! and only then says so.

use super::{
    core::{Line, Write, Written},
    entry::{Entry, Version},
    handle::Shared,
    messages::Error,
};
use serde::{Deserialize, Serialize};
use skep_runtime::store::{self, Batch, Table};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Jobs that share a flush. Each is at most a message, or a group of an owner's decisions.
const GROUP_MAX: usize = 32;
pub(super) const ROWS: Table<(u8, Vec<u8>), Row> = Table::new("ledger");
/// The swarm whose records these are.
pub(super) const HOME: Table<u8, [u8; 32]> = Table::new("ledger_home");
/// The one row of [`HOME`].
pub(super) const HOME_KEY: u8 = 0;

/// A record on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub version: Version,
    pub value: Option<Vec<u8>>,
}

/// What is to be done, and who waits for it.
pub(super) enum Job {
    /// This node changes records.
    Write(Vec<Write>, oneshot::Sender<Result<Written, Error>>),
    /// Another node has these. Answered once what is news is on the disk.
    Merge(Vec<Entry>, oneshot::Sender<Result<(), Error>>),
    /// Deletions that everyone has heard of.
    Forget(Vec<Line>),
    /// This node is in this swarm now: what others wrote in the one before is left behind.
    Move([u8; 32], oneshot::Sender<()>),
}

/// What a job has come to, before it is on the disk.
enum Done {
    Written(Written, oneshot::Sender<Result<Written, Error>>),
    Merged(Vec<Entry>, oneshot::Sender<Result<(), Error>>),
    Forgotten(Vec<Line>),
    Moved([u8; 32], Vec<Line>, oneshot::Sender<()>),
}

/// Does jobs as they come, until nobody can bring any.
pub(super) async fn keep(shared: Arc<Shared>) {
    let waiting = shared.waiting.clone();
    let mut jobs: tokio::sync::MutexGuard<'_, mpsc::Receiver<Job>> = waiting.lock().await;
    let mut group = Vec::new();
    while jobs.recv_many(&mut group, GROUP_MAX).await > 0 {
        let now_ms = shared.env.now_ms();
        let done: Vec<Done> = group.drain(..).filter_map(|job| decide(&shared, job, now_ms)).collect();
        let result = match batch(&done) {
            Ok(batch) => shared.store.commit(batch).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => done.into_iter().for_each(|done| finish(&shared, done)),
            Err(error) => {
                shared.core().failed();
                tracing::warn!(%error, "the ledger could not be written");
                done.into_iter().for_each(|done| fail(done, &error.clone().into()));
            }
        }
    }
}

fn decide(shared: &Shared, job: Job, now_ms: u64) -> Option<Done> {
    match job {
        Job::Write(writes, reply) => match shared.core().write(writes, now_ms) {
            Ok(written) => Some(Done::Written(written, reply)),
            Err(error) => {
                // Whoever waited may have given up.
                let _ = reply.send(Err(error.into()));
                None
            }
        },
        Job::Merge(entries, reply) => {
            let (news, _) = shared.core().merge(entries, now_ms);
            Some(Done::Merged(news, reply))
        }
        Job::Forget(lines) => {
            let core = shared.core();
            Some(Done::Forgotten(lines.into_iter().filter(|line| core.holds(line)).collect()))
        }
        Job::Move(home, reply) => {
            // Before it was anywhere, there is nothing to leave behind.
            let left_behind = if shared.home().is_some() { shared.core().of_others() } else { Vec::new() };
            Some(Done::Moved(home, left_behind, reply))
        }
    }
}

fn batch(done: &[Done]) -> Result<Batch, store::Error> {
    let mut batch = Batch::new();
    for done in done {
        match done {
            Done::Written(Written { entries, .. }, _) | Done::Merged(entries, ..) => {
                for Entry { key, version, value } in entries {
                    let row = Row { version: *version, value: value.clone() };
                    batch.put(ROWS, &(key.collection, key.id.clone()), &row)?;
                }
            }
            Done::Forgotten(lines) => {
                for Line { key, .. } in lines {
                    batch.delete(ROWS, &(key.collection, key.id.clone()))?;
                }
            }
            Done::Moved(home, left_behind, _) => {
                batch.put(HOME, &HOME_KEY, home)?;
                for Line { key, .. } in left_behind {
                    batch.delete(ROWS, &(key.collection, key.id.clone()))?;
                }
            }
        }
    }
    Ok(batch)
}

fn finish(shared: &Shared, done: Done) {
    let uptime = shared.uptime();
    match done {
        Done::Written(written, reply) => {
            shared.core().flushed(&written.entries, uptime);
            let _ = reply.send(Ok(written));
        }
        Done::Merged(news, reply) => {
            shared.core().flushed(&news, uptime);
            shared.feed(news.iter().map(|entry| &entry.key));
            let _ = reply.send(Ok(()));
        }
        Done::Forgotten(lines) => shared.core().forgotten(&lines),
        Done::Moved(home, left_behind, reply) => {
            shared.core().moved(&left_behind);
            shared.moved(home);
            shared.feed(left_behind.iter().map(|line| &line.key));
            // The mender waits for it.
            let _: Result<(), ()> = reply.send(());
        }
    }
}

fn fail(done: Done, error: &Error) {
    match done {
        Done::Written(_, reply) => drop(reply.send(Err(error.clone()))),
        Done::Merged(_, reply) => drop(reply.send(Err(error.clone()))),
        // Tried again by whoever asked, later.
        Done::Forgotten(_) | Done::Moved(..) => {}
    }
}
