//! This node's roster: in memory for everyone who asks, on disk before a change counts.

use super::{
    core::{Invalid, Merged, Roster},
    record::{Record, RecordId},
};
use crate::identity::Identity;
use skep_runtime::{
    NodeId,
    store::{Batch, Span, Store, Table},
    swarm::Error,
};
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

const RECORDS: Table<[u8; 32], Record> = Table::new("roster");
/// Rows read at a time while loading.
const PAGE_ROWS: usize = 512;

/// The holder of the roster. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    store: Store,
    roster: watch::Sender<Arc<Roster>>,
    /// One change at a time, from reading the roster to having written it.
    writing: Arc<Mutex<()>>,
}

impl Keeper {
    /// The roster on the disk, or `founded` if there is none or `me` is no longer on it.
    pub async fn open(store: Store, me: NodeId, founded: Roster) -> Result<Keeper, Error> {
        let records = load(&store)?;
        let empty = records.is_empty();
        let roster = match Roster::from_records(records) {
            Ok(roster) if roster.contains(&me) => Some(roster),
            Ok(_) => None,
            Err(_) if empty => None,
            Err(e) => {
                return Err(Error::Store(format!(
                    "{e}: restore the store from its export, or delete it to join again"
                )));
            }
        };
        let fresh = roster.is_none();
        let roster = watch::Sender::new(Arc::new(roster.unwrap_or(founded)));
        let keeper = Keeper { store, roster, writing: Arc::default() };
        if fresh {
            keeper.replace(Roster::clone(&keeper.now())).await?;
        }
        Ok(keeper)
    }

    /// The roster now.
    pub fn now(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// Wakes its holder after each change.
    pub fn changes(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.subscribe()
    }

    /// Adds records of others. What is new is on the disk when this resolves.
    pub async fn merge(&self, records: Vec<Record>) -> Result<Merged, Error> {
        let _one = self.writing.lock().await;
        let mut roster = Roster::clone(&self.now());
        let merged = roster.merge(records);
        if !merged.added.is_empty() {
            self.write(&merged.added, &[]).await?;
            self.roster.send_replace(Arc::new(roster));
        }
        Ok(merged)
    }

    /// Makes a statement of this node's own: `make` signs it on the newest roster. On the disk when this resolves.
    pub async fn state(
        &self,
        identity: &Identity,
        make: impl FnOnce(&Roster, &Identity) -> Result<Record, Invalid>,
    ) -> Result<Record, Error> {
        let _one = self.writing.lock().await;
        let mut roster = Roster::clone(&self.now());
        let record = make(&roster, identity).map_err(|e| Error::Refused(e.to_string()))?;
        if roster.merge([record.clone()]).added.is_empty() {
            return Err(Error::Refused(Invalid::Full.to_string()));
        }
        self.write(std::slice::from_ref(&record), &[]).await?;
        self.roster.send_replace(Arc::new(roster));
        Ok(record)
    }

    /// Goes over to another swarm's roster.
    pub async fn replace(&self, roster: Roster) -> Result<(), Error> {
        let _one = self.writing.lock().await;
        let old: Vec<RecordId> = load_ids(&self.store)?;
        let new: Vec<Record> = roster.records().cloned().collect();
        self.write(&new, &old).await?;
        self.roster.send_replace(Arc::new(roster));
        Ok(())
    }

    async fn write(&self, records: &[Record], old: &[RecordId]) -> Result<(), Error> {
        let mut batch = Batch::new();
        for id in old {
            batch.delete(RECORDS, &id.0).map_err(failed)?;
        }
        for record in records {
            batch.put(RECORDS, &record.id().0, record).map_err(failed)?;
        }
        self.store.commit(batch).await.map_err(failed)
    }
}

fn load(store: &Store) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    let mut span = Some(Span::all());
    while let Some(next) = span {
        let page = store.scan(RECORDS, &next, PAGE_ROWS).map_err(failed)?;
        records.extend(page.rows.into_iter().map(|(_, record)| record));
        span = page.rest;
    }
    Ok(records)
}

fn load_ids(store: &Store) -> Result<Vec<RecordId>, Error> {
    Ok(load(store)?.iter().map(Record::id).collect())
}

fn failed(error: skep_runtime::store::Error) -> Error {
    Error::Store(error.to_string())
}
