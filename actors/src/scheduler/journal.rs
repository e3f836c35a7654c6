//! Effects wait for the disk: what a decision writes is committed, in the order of decisions, before what follows from
//! it is done. Decisions that wait together are flushed together.

use super::{core::Action, desk::Desk, messages::Record, runs::Row};
use skep_runtime::store::{Batch, Error, Store, Table};
use std::sync::Arc;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The records that this node keeps, by the id's bytes.
pub(super) const RECORDS: Table<[u8; 16], Record> = Table::new("tasks");
/// The runs of this node.
pub(super) const ROWS: Table<[u8; 16], Row> = Table::new("task_runs");

/// Decisions that may wait for the disk: beyond that the mailbox waits.
pub(super) const ENTRIES_MAX: usize = 256;
/// Writes of one batch: at 130 KiB for the largest record well under the store's bound.
const BATCH_WRITES_MAX: usize = 256;

/// One change on disk.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Record(Box<Record>),
    NoRecord(Uuid),
    Row(Uuid, Box<Row>),
    NoRow(Uuid),
}

/// What one decision writes, and what comes after.
#[derive(Default)]
pub(super) struct Entry {
    pub writes: Vec<Write>,
    pub then: Vec<Action>,
    pub reply: Option<Reply>,
}

/// Told whether it is on disk.
pub(super) type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Commits entries as they come, until nobody can send any.
pub(super) async fn keep(desk: Arc<Desk>, store: Store, mut entries: mpsc::Receiver<Entry>) {
    let mut group = Vec::new();
    while entries.recv_many(&mut group, ENTRIES_MAX).await > 0 {
        let mut result = Ok(());
        let writes: Vec<&Write> = group.iter().flat_map(|e: &Entry| &e.writes).collect();
        for chunk in writes.chunks(BATCH_WRITES_MAX) {
            match commit(&store, chunk).await {
                Ok(()) => desk.saved(chunk),
                Err(e) => {
                    tracing::warn!(error = %e, "records of tasks could not be saved; they are tried again");
                    result = Err(e);
                }
            }
        }
        for entry in group.drain(..) {
            if result.is_err() {
                // What was decided stands: it is written when the disk takes it, or taken back by whoever waits below.
                desk.save_later(&entry.writes);
            }
            if let Some(reply) = entry.reply {
                reply(result.clone());
            }
            entry.then.into_iter().for_each(|action| desk.act(action));
        }
    }
}

async fn commit(store: &Store, writes: &[&Write]) -> Result<(), Error> {
    let mut batch = Batch::new();
    for write in writes {
        match write {
            Write::Record(record) => batch.put(RECORDS, record.id.as_bytes(), record)?,
            Write::NoRecord(id) => batch.delete(RECORDS, id.as_bytes())?,
            Write::Row(id, row) => batch.put(ROWS, id.as_bytes(), row)?,
            Write::NoRow(id) => batch.delete(ROWS, id.as_bytes())?,
        }
    }
    store.commit(batch).await
}
