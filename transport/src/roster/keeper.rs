//! This node's roster: in memory for everyone who asks, on disk before a change counts.

use super::{
    core::{Invalid, Merged, Roster},
    record::{Record, SwarmId},
};
use crate::identity::Identity;
use skep_runtime::{
    NodeId, Tasks,
    store::{Batch, Span, Store, Table},
    swarm::Error,
};
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot, watch};

const RECORDS: Table<[u8; 32], Record> = Table::new("roster");
/// This node's departures, or what evicted it, by the swarm that it is no longer in.
const DEPARTURES: Table<[u8; 32], Record> = Table::new("departures");
/// Departures that are kept; the oldest go. Who has been away for so many of them lists this node as down.
const DEPARTURES_MAX: usize = 16;
/// Rows read at a time while loading.
const PAGE_ROWS: usize = 512;

/// The holder of the roster. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    store: Store,
    roster: watch::Sender<Arc<Roster>>,
    /// One change at a time, from reading the roster to having written it.
    writing: Arc<Mutex<()>>,
    tasks: Arc<Tasks>,
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
        let keeper = Keeper { store, roster, writing: Arc::default(), tasks: Arc::default() };
        if fresh {
            keeper.replace(Roster::clone(&keeper.now()), None, async {}).await?;
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
        let one = self.writing.clone().lock_owned().await;
        let mut roster = Roster::clone(&self.now());
        let merged = roster.merge(records);
        if !merged.added.is_empty() {
            self.write(one, put(Batch::new(), &merged.added)?, roster).all().await?;
        }
        Ok(merged)
    }

    /// Makes a statement of this node's own: `make` signs it on the newest roster. On the disk when this resolves.
    pub async fn state(
        &self,
        identity: &Identity,
        make: impl FnOnce(&Roster, &Identity) -> Result<Record, Invalid>,
    ) -> Result<Record, Error> {
        let one = self.writing.clone().lock_owned().await;
        let mut roster = Roster::clone(&self.now());
        let record = make(&roster, identity).map_err(|e| Error::Refused(e.to_string()))?;
        if roster.merge([record.clone()]).added.is_empty() {
            return Err(Error::Refused(Invalid::Full.to_string()));
        }
        self.write(one, put(Batch::new(), std::slice::from_ref(&record))?, roster).all().await?;
        Ok(record)
    }

    /// Goes over to another swarm's roster and keeps this node's `departure` from the old one, for members that were
    /// not there to hear it. `farewell` tells the others: when all of it is on the disk, as nobody shall hear of a
    /// departure that failed, and before it counts here, as the connections to tell them by stand on the old roster.
    pub async fn replace(
        &self,
        roster: Roster,
        departure: Option<Record>,
        farewell: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let one = self.writing.clone().lock_owned().await;
        let mut batch = Batch::new();
        for record in load(&self.store)? {
            batch.delete(RECORDS, &record.id().0).map_err(failed)?;
        }
        let new: Vec<Record> = roster.records().cloned().collect();
        let mut batch = put(batch, &new)?;
        if let Some(departure) = departure {
            self.keep(&mut batch, departure)?;
        }
        let mut write = self.write(one, batch, roster);
        write.written().await?;
        farewell.await;
        write.all().await
    }

    /// This node's departure from that swarm, or its eviction, if it is in another.
    pub fn departure(&self, swarm: SwarmId) -> Option<Record> {
        self.store.get(DEPARTURES, &swarm.0).ok().flatten()
    }

    fn keep(&self, batch: &mut Batch, departure: Record) -> Result<(), Error> {
        let mut kept = self.store.scan(DEPARTURES, &Span::all(), 2 * DEPARTURES_MAX).map_err(failed)?.rows;
        kept.sort_by_key(|(_, record)| record.at_ms());
        let over = (kept.len() + 1).saturating_sub(DEPARTURES_MAX);
        for (swarm, _) in kept.iter().take(over) {
            batch.delete(DEPARTURES, swarm).map_err(failed)?;
        }
        batch.put(DEPARTURES, &departure.swarm.0, &departure).map_err(failed)
    }

    /// Commits a change and lets it count. In a task: whoever waits for it may be dropped half-way, and memory must
    /// follow the disk all the same.
    fn write(&self, one: OwnedMutexGuard<()>, batch: Batch, roster: Roster) -> Write {
        let (written, on_disk) = oneshot::channel();
        let (go, told) = oneshot::channel::<()>();
        let (done, counts) = oneshot::channel();
        let (store, current) = (self.store.clone(), self.roster.clone());
        self.tasks.spawn(async move {
            let result = store.commit(batch).await.map_err(failed);
            let committed = result.is_ok();
            let _ = written.send(result);
            if committed {
                // Also if nobody says so any more.
                let _ = told.await;
                current.send_replace(Arc::new(roster));
            }
            drop(one);
            let _ = done.send(());
        });
        Write { on_disk: Some(on_disk), go, counts }
    }
}

/// A change of the roster on its way.
struct Write {
    on_disk: Option<oneshot::Receiver<Result<(), Error>>>,
    go: oneshot::Sender<()>,
    counts: oneshot::Receiver<()>,
}

impl Write {
    /// Ready when it is on the disk.
    async fn written(&mut self) -> Result<(), Error> {
        let stopped = || Error::Store("this node is stopping".to_owned());
        match self.on_disk.take() {
            Some(on_disk) => on_disk.await.unwrap_or_else(|_| Err(stopped())),
            None => Ok(()),
        }
    }

    /// Ready when it counts.
    async fn all(mut self) -> Result<(), Error> {
        self.written().await?;
        let _ = self.go.send(());
        let _ = self.counts.await;
        Ok(())
    }
}

fn put(mut batch: Batch, records: &[Record]) -> Result<Batch, Error> {
    for record in records {
        batch.put(RECORDS, &record.id().0, record).map_err(failed)?;
    }
    Ok(batch)
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

fn failed(error: skep_runtime::store::Error) -> Error {
    Error::Store(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, poll};
    use skep_runtime::store::Medium;
    use std::{pin::pin, time::Duration};

    fn key(n: u8) -> Identity {
        Identity::from_seed([n; 32])
    }

    /// The roster of a node on a disk that takes a second for each flush.
    async fn slow() -> (Keeper, Store) {
        let medium = Medium::new();
        let store = Store::new(Arc::new(medium.open().unwrap())).unwrap();
        let me = key(1);
        let founded = Roster::found(&me, "one", 1, [0; 8]);
        let keeper = Keeper::open(store.clone(), me.id(), founded).await.unwrap();
        medium.set_flush_delay(Duration::from_secs(1));
        (keeper, store)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_admitted_on_the_disk_is_admitted_in_memory_although_nobody_waits_for_it_any_more() {
        let (keeper, store) = slow().await;
        let me = key(1);
        let admission = keeper.state(&me, |roster, key_of_me| roster.admit(key_of_me, key(2).id(), "two", 2));
        // The stranger's connection closes meanwhile, and the conversation is dropped.
        assert!(admission.now_or_never().is_none());
        keeper.changes().wait_for(|roster| roster.contains(&key(2).id())).await.unwrap();
        assert_eq!(load(&store).unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_departure_is_told_when_it_is_on_the_disk_and_before_it_counts() {
        let (keeper, store) = slow().await;
        let me = key(1);
        let old = keeper.now();
        keeper.state(&me, |roster, key_of_me| roster.admit(key_of_me, key(2).id(), "two", 2)).await.unwrap();
        let departure = keeper.now().depart(&me, 3).unwrap();
        let other = Roster::found(&me, "one", 4, [1; 8]);
        let told = async {
            assert_eq!(keeper.departure(old.swarm()), Some(departure.clone()));
            assert_eq!(load(&store).unwrap().len(), 1);
            assert_eq!(keeper.now().swarm(), old.swarm());
        };
        keeper.replace(other.clone(), Some(departure.clone()), told).await.unwrap();
        assert_eq!(*keeper.now(), other);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_in_the_middle_of_a_farewell_has_gone_over() {
        let (keeper, _) = slow().await;
        let other = Roster::found(&key(1), "one", 4, [1; 8]);
        let (began, begun) = oneshot::channel();
        let farewell = async {
            let _ = began.send(());
            std::future::pending().await
        };
        {
            let mut replace = pin!(keeper.replace(other.clone(), None, farewell));
            let mut begun = pin!(begun);
            while poll!(begun.as_mut()).is_pending() {
                assert!(poll!(replace.as_mut()).is_pending());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        keeper.changes().wait_for(|roster| **roster == other).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_departures_the_newest_are_kept() {
        let (keeper, _) = slow().await;
        let mut left = Vec::new();
        for n in 0..2 * DEPARTURES_MAX as u8 {
            left.push(keeper.now().swarm());
            let departure = keeper.now().depart(&key(1), n.into()).unwrap();
            let next = Roster::found(&key(1), "one", n.into(), [n + 1; 8]);
            keeper.replace(next, Some(departure), async {}).await.unwrap();
        }
        let kept: Vec<bool> = left.iter().map(|swarm| keeper.departure(*swarm).is_some()).collect();
        assert_eq!(kept, [[false; DEPARTURES_MAX], [true; DEPARTURES_MAX]].concat());
    }
}
