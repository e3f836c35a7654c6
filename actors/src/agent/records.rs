//! The records of this node's runs on disk, and their order by age.

use super::Run;
use skep_runtime::store::{Batch, Error, Span, Store, Table};
use uuid::Uuid;

/// Records that a node keeps; the oldest that have ended go first.
const RECORDS_MAX: usize = 1024;

const RUNS: Table<[u8; 16], Run> = Table::new("agent_runs_3");
/// Newest first: the key begins with how long before the end of time the run was made.
const NEWEST: Table<(u64, [u8; 16]), ()> = Table::new("agent_runs_3_newest");

/// Sub-agents that have ended and whose parents may not know it: they are told again after a restart.
const UNTOLD: Table<[u8; 16], ()> = Table::new("agent_runs_3_untold");

/// Writes a run's record; ready when it is on disk.
pub(super) async fn save(store: &Store, run: &Run) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.put(RUNS, run.id.as_bytes(), run)?;
    batch.put(NEWEST, &(u64::MAX - run.created_ms, *run.id.as_bytes()), &())?;
    if run.state.ended() && run.goal.parent.is_some() {
        batch.put(UNTOLD, run.id.as_bytes(), &())?;
    }
    store.commit(batch).await
}

/// The parent of this run knows its end, or is gone.
pub(super) async fn heard(store: &Store, id: Uuid) {
    let heard = async {
        let mut batch = Batch::new();
        batch.delete(UNTOLD, id.as_bytes())?;
        store.commit(batch).await
    };
    if let Err(error) = heard.await {
        tracing::debug!(%error, run = %id, "its parent will be told again after a restart");
    }
}

/// The runs whose parents may not know that they have ended.
pub(super) fn untold(store: &Store) -> Result<Vec<Run>, Error> {
    let ids = store.all(UNTOLD)?.into_iter().map(|(id, ())| id);
    Ok(ids.filter_map(|id| store.get(RUNS, &id).ok().flatten()).collect())
}

/// One record.
pub(super) fn get(store: &Store, id: Uuid) -> Result<Option<Run>, Error> {
    store.get(RUNS, id.as_bytes())
}

/// The newest records, at most `count` and `bytes_max` in all.
pub(super) fn newest(store: &Store, count: usize, bytes_max: usize) -> Result<Vec<Run>, Error> {
    let mut bytes = 0;
    let mut runs = Vec::new();
    for ((_, id), ()) in store.scan(NEWEST, &Span::all(), count.min(RECORDS_MAX))?.rows {
        let Some(run) = store.get(RUNS, &id)? else { continue };
        bytes += skep_runtime::wire::encode(&run).len();
        if bytes > bytes_max {
            break;
        }
        runs.push(run);
    }
    Ok(runs)
}

/// Deletes the oldest ended records beyond the bound.
pub(super) async fn prune(store: &Store) -> Result<(), Error> {
    let rows = store.scan(NEWEST, &Span::all(), 2 * RECORDS_MAX)?.rows;
    let mut batch = Batch::new();
    for (key, ()) in rows.into_iter().skip(RECORDS_MAX) {
        if store.get(RUNS, &key.1)?.is_none_or(|run| run.state.ended()) {
            batch.delete(NEWEST, &key)?;
            batch.delete(RUNS, &key.1)?;
        }
    }
    store.commit(batch).await
}

/// The records of runs that had not ended when the node did.
pub(super) fn unfinished(store: &Store) -> Result<Vec<Run>, Error> {
    let runs = store.all(RUNS)?;
    Ok(runs.into_iter().map(|(_, run)| run).filter(|run| !run.state.ended()).collect())
}
