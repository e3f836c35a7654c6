//! The ledger as its users on this node hold it: a cheap clone, which reads the disk and hands writes to the keeper.

use super::{
    collection::{Collection, Record},
    core::{Core, Line, Write, Written},
    entry::{Entry, Key, Version},
    feed::Feed,
    keeper::{HOME, HOME_KEY, Job, ROWS, Row},
    messages::{Error, Taken},
    peers,
};
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{
    Directory, Env, Members, NodeId, Swarm,
    store::{self, Store},
    tasks::Spawner,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, timeout},
};

/// Writers that may wait for the keeper; beyond that they wait before it.
const JOBS_MAX: usize = 256;
/// How long a node that starts waits for others who could know better: they are found within 3 s if they are there.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// A node's ledger.
#[derive(Clone)]
pub struct Ledger {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub env: Env,
    pub store: Store,
    pub directory: Directory,
    pub members: Members,
    pub swarm: Arc<dyn Swarm>,
    pub tasks: Spawner,
    core: Mutex<Core>,
    feeds: Mutex<BTreeMap<u8, Feed>>,
    /// The swarm whose records these are.
    home: Mutex<Option<[u8; 32]>>,
    pub jobs: mpsc::Sender<Job>,
    /// The other end; the actor takes it, and gives it back when it stops.
    pub waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>,
    /// Members that may lack something.
    behind: Mutex<BTreeSet<NodeId>>,
    pub uneven: Notify,
    /// It was compared with somebody since it started or came into this swarm.
    pub met: watch::Sender<bool>,
    pub start: Instant,
    /// For which term of a record this node has voted.
    fence: OnceLock<Fence>,
}

type Fence = Box<dyn Fn(&Key) -> Option<u64> + Send + Sync>;

impl Ledger {
    /// Reads the index of what is on the disk. A damaged row is left out and named in the log: the others have it.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn open(
        env: &Env,
        store: &Store,
        directory: &Directory,
        members: &Members,
        swarm: &Arc<dyn Swarm>,
        tasks: Spawner,
    ) -> Result<Ledger, store::Error> {
        let mut core = Core::new(directory.id());
        store.visit(ROWS, |(collection, id), Row { version, value }| {
            core.load(Key { collection, id }, version, value.is_none());
        })?;
        let home = match store.get(HOME, &HOME_KEY) {
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "whose records the ledger holds is unknown: they count as this swarm's");
                None
            }
            home => home?,
        };
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let shared = Shared {
            env: env.clone(),
            store: store.clone(),
            directory: directory.clone(),
            members: members.clone(),
            swarm: swarm.clone(),
            tasks,
            core: Mutex::new(core),
            feeds: Mutex::default(),
            home: Mutex::new(home),
            jobs,
            waiting: Arc::new(tokio::sync::Mutex::new(waiting)),
            behind: Mutex::default(),
            uneven: Notify::new(),
            met: watch::Sender::new(false),
            start: Instant::now(),
            fence: OnceLock::new(),
        };
        Ok(Ledger { shared: Arc::new(shared) })
    }

    /// Writes these, but for those of a term that has passed, on this disk. Nobody else knows of them yet.
    ///
    /// # Errors
    /// [`Error`], but for [`Error::Alone`]; nothing was written.
    pub async fn note(&self, writes: Vec<Write>) -> Result<Written, Error> {
        if writes.is_empty() {
            return Ok(Written::default());
        }
        let (reply, written) = oneshot::channel();
        self.shared.jobs.send(Job::Write(writes, reply)).await.map_err(|_| Error::Closed)?;
        written.await.map_err(|_| Error::Closed)?
    }

    /// Tells the others what was noted, which nobody waits for.
    pub fn tell(&self, entries: Vec<Entry>) {
        if !entries.is_empty() && !self.is_alone() {
            peers::tell(&self.shared, entries.into());
        }
    }

    /// Tells the others what was noted, and waits until it is acknowledged: on the disk of one of them, if one answers.
    ///
    /// # Errors
    /// [`Error::Alone`].
    pub async fn confirmed(&self, entries: Vec<Entry>) -> Result<(), Error> {
        match entries.is_empty() {
            true => Ok(()),
            false => peers::confirmed(&self.shared, entries.into(), 0).await,
        }
    }

    /// The same, and on the disks of at least so many of them who count, whoever answers: nobody has taken it over there, or
    /// was [voted](Ledger::fence) for.
    ///
    /// # Errors
    /// [`Error::Alone`] or [`Error::Fenced`].
    pub async fn confirmed_by(&self, others: usize, entries: Vec<Entry>) -> Result<(), Error> {
        match entries.is_empty() {
            true => Ok(()),
            false => peers::confirmed(&self.shared, entries.into(), others).await,
        }
    }

    /// Writes these here, and waits until they are acknowledged: on the disk of another member, if one answers.
    ///
    /// # Errors
    /// [`Error`]. After [`Error::Alone`] they stand on this disk all the same.
    pub async fn put(&self, writes: Vec<Write>) -> Result<(), Error> {
        let written = self.note(writes).await?;
        self.confirmed(written.entries).await
    }

    /// Whether no other member answers now.
    pub fn is_alone(&self) -> bool {
        self.shared.members.others_up().is_empty()
    }

    /// Waits until this node knows what others did while it was away, and not for ever. Whether it does.
    pub async fn caught_up(&self) -> bool {
        timeout(CATCH_UP_TIMEOUT, self.informed()).await.is_ok()
    }

    /// Waits until this node knows what its swarm knows: it was compared with another member since it started or came into this
    /// swarm, or there is none on the roster. Of which swarm that is so.
    pub async fn informed(&self) -> [u8; 32] {
        let me = self.shared.directory.id();
        let (mut pictures, mut met) = (self.shared.members.changes(), self.shared.met.subscribe());
        loop {
            let (picture, has_met) = (pictures.borrow_and_update().clone(), *met.borrow_and_update());
            let (swarm, home) = (self.shared.swarm.swarm_id(), self.shared.home());
            // The picture is empty until membership has painted it, and for a moment it is that of the swarm before.
            let alone = picture.len() == 1 && picture.contains_key(&me) && home.is_none_or(|home| home == swarm);
            if alone || (has_met && home == Some(swarm)) {
                return swarm;
            }
            // Neither ends before this ledger does.
            tokio::select! {
                biased;
                _ = pictures.changed() => {}
                _ = met.changed() => {}
            }
        }
    }

    /// Who may say for which term it was voted here, of which [`Error::Fenced`] speaks. Once.
    pub fn fence(&self, promised: impl Fn(&Key) -> Option<u64> + Send + Sync + 'static) {
        let _ = self.shared.fence.set(Box::new(promised));
    }

    /// Which version of a record is known here, deleted ones included.
    pub fn version_of(&self, key: &Key) -> Option<Version> {
        self.latest(key).map(|(version, _)| version)
    }

    /// The same, and whether that is a deletion.
    pub fn latest(&self, key: &Key) -> Option<(Version, bool)> {
        self.core().get(key)
    }

    /// The term to write a record in that nobody owns: the one that it is in. Any member may have raised it, which must not
    /// keep others from it.
    pub fn term_of(&self, key: &Key) -> u64 {
        self.version_of(key).map_or(0, |version| version.term)
    }

    /// Another member knows something that this one doesn't: they are compared soon.
    pub fn behind(&self, member: NodeId) {
        self.shared.behind(member);
    }

    /// One record. One of another format is none.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn get<V>(&self, collection: Collection<V>, id: &[u8]) -> Result<Option<Record<V>>, store::Error>
    where
        V: Serialize + DeserializeOwned,
    {
        let row = self.shared.store.get(ROWS, &(collection.number(), id.to_vec()))?;
        Ok(row.and_then(|row| record(collection, id.to_vec(), row)))
    }

    /// A record as it is sent to others. `None`: there is none, or it can't be read.
    pub fn entry<V>(&self, collection: Collection<V>, id: &[u8]) -> Option<Entry> {
        self.shared.entry(&collection.key(id)).ok().flatten()
    }

    /// How many records a collection has.
    pub fn count_of<V>(&self, collection: Collection<V>) -> usize {
        self.core().ids(collection.number()).len()
    }

    /// Hands over all records of a collection. Those that are damaged or of another format are left out.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn visit<V>(&self, collection: Collection<V>, mut take: impl FnMut(Record<V>)) -> Result<(), store::Error>
    where
        V: Serialize + DeserializeOwned,
    {
        let ids = self.core().ids(collection.number());
        for id in ids {
            match self.get(collection, &id) {
                Ok(record) => record.into_iter().for_each(&mut take),
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "a damaged record of the ledger is left out; other members have it");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What others change in a collection from now on. All who ask for the same share one: it is for one reader.
    pub fn feed<V>(&self, collection: Collection<V>) -> Feed {
        self.shared.feeds().entry(collection.number()).or_default().clone()
    }

    /// Who wrote what there is.
    pub fn writers(&self) -> BTreeSet<NodeId> {
        self.core().writers()
    }

    /// How many records there are, and how many of them are deletions.
    pub fn count(&self) -> (usize, usize) {
        self.core().count()
    }

    /// The digest of everything: equal on two nodes that hold the same.
    pub fn digest(&self) -> u64 {
        self.core().forest().root()
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.core()
    }
}

impl Shared {
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeds(&self) -> MutexGuard<'_, BTreeMap<u8, Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever acts on these that others changed them.
    pub(super) fn feed<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let feeds = self.feeds();
        for key in keys {
            if let Some(feed) = feeds.get(&key.collection) {
                feed.note(key.id.clone());
            }
        }
    }

    /// The swarm whose records these are.
    pub(super) fn home(&self) -> Option<[u8; 32]> {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is the one that this node is in.
    pub(super) fn is_at_home(&self) -> bool {
        self.home() == Some(self.swarm.swarm_id())
    }

    pub(super) fn moved(&self, home: [u8; 32]) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(home);
        // Nobody of this swarm.
        self.met.send_replace(false);
    }

    /// Takes what another node wrote, and says what has become of it, once it is on the disk.
    pub(super) async fn take(&self, entries: Vec<Entry>) -> Result<Taken, Error> {
        let line = |entry: &Entry| Line { key: entry.key.clone(), version: entry.version, dead: entry.value.is_none() };
        let lines: Vec<Line> = entries.iter().map(line).collect();
        self.merge(entries).await?;
        let mut taken = Taken::default();
        for Line { key, version, dead } in lines {
            // In this order: who votes meanwhile knows what was taken, and a vote is forgotten only once its winner is known.
            let promised = self.fence.get().and_then(|fence| fence(&key));
            let known = self.core().get(&key).map(|(known, _)| known);
            taken.later += usize::from(known > Some(version));
            // A deletion that everyone has heard of may be forgotten.
            taken.missing += usize::from(!dead && known < Some(version));
            taken.fenced += usize::from(known.map(|known| known.term).max(promised) > Some(version.term));
        }
        Ok(taken)
    }

    /// Takes what another node has; returns once what is news is on the disk.
    pub(super) async fn merge(&self, entries: Vec<Entry>) -> Result<(), Error> {
        let (reply, merged) = oneshot::channel();
        self.jobs.send(Job::Merge(entries, reply)).await.map_err(|_| Error::Closed)?;
        merged.await.unwrap_or(Err(Error::Closed))
    }

    /// Forgets deletions of which everyone has heard, soon.
    pub(super) async fn forget(&self, lines: Vec<Line>) {
        // Without a keeper the node is stopping.
        let _ = self.jobs.send(Job::Forget(lines)).await;
    }

    pub(super) fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// A member may lack something: it is compared with soon.
    pub(super) fn behind(&self, id: NodeId) {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.uneven.notify_one();
    }

    /// Both have the same, since a comparison that began then.
    pub(super) fn equal(&self, with: NodeId, since: Duration) {
        self.core().equal(with, since);
        self.met.send_replace(true);
    }

    pub(super) fn take_behind(&self) -> Option<NodeId> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// The record of a key as it is on the disk, to be sent.
    pub(super) fn entry(&self, key: &Key) -> Result<Option<Entry>, store::Error> {
        let row = self.store.get(ROWS, &(key.collection, key.id.clone()))?;
        Ok(row.map(|Row { version, value }| Entry { key: key.clone(), version, value }))
    }
}

fn record<V: Serialize + DeserializeOwned>(collection: Collection<V>, id: Vec<u8>, row: Row) -> Option<Record<V>> {
    let value = collection.decode(&row.value?);
    if value.is_none() {
        tracing::debug!(collection = collection.number(), "a record of another format is left alone");
    }
    Some(Record { id, version: row.version, value: value? })
}
