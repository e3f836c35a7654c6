//! Where the log lies: one task writes it in groups, another tells the ledger how far it is, a third remembers how far the
//! others were.

use super::{
    chain::{Chain, Fault},
    core::{Core, Next, may_be_gone},
    entry::{Entry, Head, Row, SEQ_MAX, What},
    messages::{AuditError, Message, Report},
    told::Told,
};
use crate::{Context, digest::Digest, ledger::Collection};
use skep_runtime::{
    NodeId, Wire,
    defaults::ASK_TIMEOUT,
    store::{self, Batch, Span, Table},
    tasks::Spawner,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::sleep,
};

/// The log, by number.
const ROWS: Table<u64, Row> = Table::new("audit");
/// How far others' logs were when this node last heard of them.
const SEEN: Table<NodeId, Head> = Table::new("audit_seen");
/// How far each node's log is, by its key's bytes.
pub(super) const HEADS: Collection<Told> = Collection::new(30, 2);

/// Appends that wait for the disk. A run has one under way, so this is more than a node's runs.
const JOBS_MAX: usize = 256;
/// Appends that share a flush.
const GROUP_MAX: usize = 64;
/// Entries of one append.
const ENTRIES_MAX: usize = 64;
/// The pause before the ledger is told how far the log is: each telling is a record on every member's disk.
const TELL_PAUSE: Duration = Duration::from_secs(2);
/// The pause before it is tried again to write what the disk refused.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Nodes whose logs this one remembers, at 80 bytes each: more than a swarm has in its life.
const SEEN_MAX: usize = 4096;
/// How often a check begins anew because the log has removed entries meanwhile.
const VERIFY_TRIES_MAX: u32 = 3;
/// Rows that are checked in one go off the executor.
const PAGE_ROWS: usize = 1000;
/// Bytes of entries in one answer: what fits one message.
const ANSWER_BYTES_MAX: usize = 768 << 10;
/// About as many bytes as an entry takes beside its body.
const ENTRY_BYTES: usize = 128;

/// What is to be appended, and who waits for it.
struct Job {
    whats: Vec<What>,
    done: oneshot::Sender<Result<u64, AuditError>>,
}

/// A node's log.
pub(super) struct Log {
    context: Context,
    core: Mutex<Core>,
    seen: Mutex<BTreeMap<NodeId, Head>>,
    jobs: mpsc::Sender<Job>,
    grown: Notify,
    /// Whether it was compared with what others have seen of it: before that nobody is told how far it is.
    checked: watch::Sender<bool>,
    /// The last entry that was ever given to the disk: what it refused may lie there all the same.
    tried: AtomicU64,
}

impl Log {
    /// Reads what there is, and starts what goes on for as long as the actor lives.
    ///
    /// # Errors
    /// The store could not be read.
    pub(super) fn open(context: &Context, tasks: &Spawner) -> Result<Arc<Log>, store::Error> {
        // From here on nothing that others write is missed: `watch` reads on where this ends.
        let _ = context.ledger.feed(HEADS);
        let me = context.directory.id();
        let mut core = Core::new(me);
        context.store.visit(ROWS, |seq, row| core.load(seq, &row))?;
        let mut seen: BTreeMap<NodeId, Head> = BTreeMap::new();
        context.store.visit(SEEN, |node, head| {
            seen.insert(node, head);
        })?;
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let log = Arc::new(Log {
            context: context.clone(),
            core: Mutex::new(core),
            seen: Mutex::new(seen),
            jobs,
            grown: Notify::new(),
            checked: watch::Sender::new(false),
            tried: AtomicU64::new(0),
        });
        tasks.spawn(log.clone().write(waiting));
        tasks.spawn(log.clone().tell());
        tasks.spawn(log.clone().watch());
        tasks.spawn(log.clone().look());
        if log.head().seq > 0 {
            log.grown.notify_one();
        }
        Ok(log)
    }

    /// Says in the log whether the chain is whole. Nobody waits for it: tens of thousands of entries are hashed.
    async fn look(self: Arc<Self>) {
        if let Some(fault) = self.verify(None).await.fault {
            tracing::error!(%fault, "this node's audit log is not whole: `skep audit verify` says more");
        }
    }

    /// Puts these at the log's end. Resolves when they are on the disk.
    pub(super) async fn append(&self, whats: Vec<What>) -> Result<u64, AuditError> {
        if whats.len() > ENTRIES_MAX {
            return Err(AuditError::Busy(whats.len()));
        }
        if self.head().seq >= SEQ_MAX {
            return Err(AuditError::Store("somebody has put an entry there behind which none can follow".into()));
        }
        let (done, written) = oneshot::channel();
        self.jobs.try_send(Job { whats, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AuditError::Busy(JOBS_MAX),
            mpsc::error::TrySendError::Closed(_) => AuditError::Closed,
        })?;
        written.await.unwrap_or(Err(AuditError::Closed))
    }

    /// This node's entries of a turn.
    pub(super) fn of_turn(&self, turn: uuid::Uuid) -> Vec<Entry> {
        let seqs = self.core().of_turn(turn);
        self.entries(seqs)
    }

    /// This node's newest entries, the newest first.
    pub(super) fn newest(&self, count: u32) -> Vec<Entry> {
        let seqs: Vec<u64> = self.core().newest(count.into()).rev().collect();
        self.entries(seqs)
    }

    /// How far this node has seen another one's log.
    pub(super) fn seen_of(&self, node: NodeId) -> Option<Head> {
        match node == self.me() {
            // What it told itself, should its disk have forgotten it: other members keep that.
            true => self.told(),
            false => self.seen().get(&node).copied(),
        }
    }

    /// The nodes in whose logs this one has seen an entry.
    pub(super) fn sights(&self) -> Vec<NodeId> {
        self.seen().keys().copied().collect()
    }

    /// Reads the whole log from the disk and checks it.
    pub(super) async fn verify(&self, seen: Option<Head>) -> Report {
        let mut tries = 0;
        loop {
            let first = self.first();
            let report = self.check(seen).await;
            tries += 1;
            // What was removed meanwhile by the log itself looks as if somebody had taken it out.
            if report.fault.is_none() || self.first() == first || tries >= VERIFY_TRIES_MAX {
                return report;
            }
        }
    }

    async fn check(&self, seen: Option<Head>) -> Report {
        let mut chain = Chain::new(self.me());
        // What is appended from here on is not looked at.
        let last = self.head().seq;
        let expected = [seen, self.told()].into_iter().flatten().filter(|seen| seen.seq > 0);
        let mut fault = expected.map(|seen| chain.expect(seen)).find_map(Result::err);
        let mut rest = Some(Span::of(&(..=last)));
        while let Some(span) = rest.take().filter(|_| fault.is_none()) {
            let (store, from) = (self.context.store.clone(), chain.head());
            match self.context.tasks.compute(move || page(&store, chain, &span)).await {
                Ok((checked, found, then)) => (chain, fault, rest) = (checked, found, then),
                Err(error) => {
                    let fault = Some(Fault::Unreadable(from.seq + 1, error.to_string()));
                    return Report { entries: from.seq, head: from, fault };
                }
            }
        }
        let fault = fault.or_else(|| chain.end().err());
        Report { entries: chain.entries(), head: chain.head(), fault }
    }

    fn entries(&self, seqs: Vec<u64>) -> Vec<Entry> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for seq in seqs {
            match self.context.store.get(ROWS, &seq) {
                Ok(Some(row)) => {
                    bytes += row.body.len() + ENTRY_BYTES;
                    if bytes > ANSWER_BYTES_MAX {
                        tracing::warn!("more is in the audit log about this than one answer holds");
                        break;
                    }
                    entries.push(row.shown(self.me(), seq));
                }
                // It was removed meanwhile.
                Ok(None) => {}
                Err(error) => tracing::error!(%error, seq, "an entry of the audit log can't be read"),
            }
        }
        entries
    }

    /// Writes what comes, in groups: one flush for all that wait.
    async fn write(self: Arc<Self>, mut waiting: mpsc::Receiver<Job>) {
        let mut group = Vec::new();
        let mut checked = self.head().seq > 0 && self.is_all_there().await;
        self.checked.send_replace(checked);
        while waiting.recv_many(&mut group, GROUP_MAX).await > 0 {
            if !checked {
                checked = self.is_all_there().await;
                self.checked.send_replace(checked);
            }
            let jobs = std::mem::take(&mut group);
            let (mut whats, mut dones) = (Vec::new(), Vec::new());
            for Job { whats: of_job, done } in jobs {
                whats.extend(of_job);
                dones.push((whats.len(), done));
            }
            let next = self.core().next(whats, self.context.env.now_ms());
            let written = self.commit(next).await;
            for (count, done) in dones {
                let last = |rows: &Vec<u64>| rows.get(count.saturating_sub(1)).copied().unwrap_or_default();
                // Whoever waited may have given up.
                let _ = done.send(written.as_ref().map(last).map_err(|e| AuditError::Store(e.to_string())));
            }
            self.trim().await;
        }
    }

    /// Writes entries, and lets them count. Gives their numbers.
    async fn commit(&self, next: Next) -> Result<Vec<u64>, store::Error> {
        let mut batch = Batch::new();
        for (seq, row) in &next.rows {
            batch.put(ROWS, seq, row)?;
        }
        for seq in next.cut.clone() {
            batch.delete(ROWS, &seq)?;
        }
        let last = next.rows.last().map_or(0, |(seq, _)| *seq);
        for seq in last + 1..=self.tried.fetch_max(last, Ordering::Relaxed) {
            batch.delete(ROWS, &seq)?;
        }
        self.context.store.commit(batch).await?;
        self.core().flushed(&next);
        self.grown.notify_one();
        Ok(next.rows.iter().map(|(seq, _)| *seq).collect())
    }

    /// Before the first entry of this process: whether this log is as long as others have seen it. If not, the next entry says
    /// so.
    async fn is_all_there(&self) -> bool {
        self.context.ledger.caught_up().await;
        let head = self.head();
        let Some(told) = self.told().filter(|told| *told != head) else { return true };
        let known = self.context.store.get(ROWS, &told.seq).ok().flatten();
        let outgrown = told.seq < self.first() && may_be_gone(told.seq, head.seq);
        if outgrown || known.is_some_and(|row| row.hash == told.hash) {
            return true;
        }
        tracing::error!(ends = head.seq, seen = told.seq, "other members have seen more of this node's audit log");
        let next = self.core().lost(told, self.context.env.now_ms());
        self.commit(next).await.is_ok()
    }

    /// Removes the oldest entries, if there are too many.
    async fn trim(&self) {
        let Some(last) = self.core().overdue() else { return };
        let hash = match self.context.store.get(ROWS, &last) {
            Ok(Some(row)) => row.hash,
            // Nothing is removed behind which the chain could not go on.
            other => return tracing::error!(?other, "the audit log is too long and can't be cut"),
        };
        let next = self.core().cut(Head { seq: last, hash }, self.context.env.now_ms());
        match self.commit(next).await {
            Ok(_) => tracing::info!(last, "the oldest entries of the audit log were removed"),
            Err(error) => tracing::warn!(%error, "the audit log is too long and could not be cut; it is tried again"),
        }
    }

    /// Tells the ledger how far the log is, some time after it grew.
    async fn tell(self: Arc<Self>) {
        loop {
            self.grown.notified().await;
            // The log itself holds the other end.
            let _ = self.checked.subscribe().wait_for(|checked| *checked).await;
            loop {
                sleep(TELL_PAUSE).await;
                let head = self.head();
                if self.told() == Some(head) {
                    break;
                }
                let (id, told) = (self.me(), Told::new(&*self.context.swarm, head));
                let term = self.context.ledger.term_of(&HEADS.key(id.as_bytes()));
                match self.context.ledger.note(vec![HEADS.write(id.as_bytes(), term, Some(&told))]).await {
                    Ok(written) if written.fenced.is_empty() => break self.context.ledger.tell(written.entries),
                    // Somebody else has just written it.
                    Ok(_) => sleep(RETRY_PAUSE).await,
                    Err(error) => {
                        tracing::warn!(%error, "how far the audit log is could not be told; it is tried again");
                        sleep(RETRY_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Remembers how far other nodes' logs are.
    async fn watch(self: Arc<Self>) {
        let feed = self.context.ledger.feed(HEADS);
        let mut known = BTreeSet::new();
        let listed = self.context.ledger.visit(HEADS, |record| {
            known.insert(record.id);
        });
        if let Err(error) = listed {
            tracing::warn!(%error, "how far other nodes' audit logs are can't be read");
        }
        let mut ids = known;
        loop {
            let mut news = Vec::new();
            for (node, told) in ids.iter().filter_map(|id| self.news(id)).collect::<Vec<_>>() {
                if self.follows(node, told).await {
                    news.push((node, told));
                }
            }
            if !news.is_empty() {
                self.remember(news).await;
            }
            ids = feed.next().await;
        }
    }

    /// What the ledger says of a node's log, if that is news. One that is shorter than it was is told, and not believed.
    fn news(&self, id: &[u8]) -> Option<(NodeId, Head)> {
        let node = NodeId::from_bytes(id.try_into().ok()?);
        let told = self.told_of(node);
        if node == self.me() && told.is_none() && self.head().seq > 0 {
            // Another node has written over what this one told.
            self.grown.notify_one();
        }
        let told = told?;
        let seen = self.seen().get(&node).copied();
        let fits = |seen: Head| told.seq > seen.seq || told == seen;
        if let Some(seen) = seen.filter(|seen| !fits(*seen)) {
            tracing::error!(?node, seen = seen.seq, told = told.seq, "a node's audit log is not what it was");
            self.regressed();
            return None;
        }
        let room = seen.is_some() || self.seen().len() < SEEN_MAX;
        (node != self.me() && seen != Some(told) && room).then_some((node, told))
    }

    /// Whether a node's log has the entry that it was told to end with, and still the one that this node has seen last. If not,
    /// that one stays what it is compared with: however long the log grows, that it was rewritten is not forgotten.
    async fn follows(&self, node: NodeId, told: Head) -> bool {
        let seen = self.seen().get(&node).copied();
        let there = self.context.directory.at::<Message>(node, super::NAME);
        for known in seen.into_iter().chain([told]) {
            match there.ask(ASK_TIMEOUT, |port| Message::At(Wire(known.seq), port)).await {
                Ok(Some(hash)) if hash == known.hash => {}
                Ok(None) if may_be_gone(known.seq, told.seq) => {}
                Ok(_) => {
                    tracing::error!(?node, seen = known.seq, "a node's audit log lacks an entry that was seen in it");
                    self.regressed();
                    return false;
                }
                // With its next word; its first one it has signed.
                Err(_) => return seen.is_none(),
            }
        }
        true
    }

    fn regressed(&self) {
        self.context.metrics.counter("audit_regressions", "logs of other nodes that were cut or rewritten").inc();
    }

    /// The hash of an entry of this node's log.
    pub(super) fn at(&self, seq: u64) -> Option<Digest> {
        self.context.store.get(ROWS, &seq).ok().flatten().map(|row| row.hash)
    }

    async fn remember(&self, news: Vec<(NodeId, Head)>) {
        let mut batch = Batch::new();
        for (node, head) in &news {
            if let Err(error) = batch.put(SEEN, node, head) {
                return tracing::warn!(%error, "how far other nodes' audit logs are could not be written");
            }
        }
        // Not on the disk, it is still known until this node restarts.
        if let Err(error) = self.context.store.commit(batch).await {
            tracing::warn!(%error, "how far other nodes' audit logs are could not be written");
        }
        self.seen().extend(news);
    }

    /// What the ledger says of this node's own log.
    fn told(&self) -> Option<Head> {
        self.told_of(self.me())
    }

    /// What a node has told of its log. What others wrote in its place is nothing.
    fn told_of(&self, node: NodeId) -> Option<Head> {
        let told = self.context.ledger.get(HEADS, node.as_bytes()).ok().flatten()?.value;
        told.of(&*self.context.swarm, node)
    }

    fn me(&self) -> NodeId {
        self.context.directory.id()
    }

    fn head(&self) -> Head {
        self.core().head()
    }

    fn first(&self) -> u64 {
        *self.core().newest(u64::MAX).start()
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<NodeId, Head>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks a page of the log: how far it is now, what is wrong, and what follows.
fn page(store: &store::Store, mut chain: Chain, span: &Span) -> (Chain, Option<Fault>, Option<Span>) {
    let mut rest = Some(span.clone());
    let mut rows_max = PAGE_ROWS;
    while let Some(span) = rest {
        match store.scan(ROWS, &span, rows_max) {
            Ok(page) => {
                let fault = page.rows.iter().find_map(|(seq, row)| chain.take(*seq, row).err());
                if fault.is_some() || rows_max > 1 {
                    return (chain, fault, page.rest);
                }
                rest = page.rest;
            }
            // A damaged row fails its page: those before it are looked at one by one.
            Err(_) if rows_max > 1 => (rest, rows_max) = (Some(span), 1),
            Err(error) => {
                let next = chain.head().seq + 1;
                return (chain, Some(Fault::Unreadable(next, error.to_string())), None);
            }
        }
    }
    (chain, None, None)
}
