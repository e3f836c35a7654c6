//! Effects wait for the disk: what a decision writes is committed, in the order of decisions, before what follows from
//! it is done. Decisions that wait together are flushed together.
//!
//! Records go into the ledger, rows into the store. What a client is told, that a command was taken and that it has
//! ended, waits for one other member too; what merely moves a command on does not. Of a command that never runs twice at
//! once everything waits for half of the swarm, this node included, and for this node's lease: whoever takes it over has
//! the votes of more than half, hence of one that has what was written.

use super::{
    core::{Action, Core},
    desk::{Also, Desk},
    messages::{Record, State},
    runs::Row,
};
use crate::ledger::{self, Collection, Ledger, Version};
use skep_runtime::store::{Batch, Store, Table};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::sleep};
use uuid::Uuid;

/// Every node's commands, by the id's bytes.
pub(super) const RECORDS: Collection<Record> = Collection::new(1, 6);

/// A command as this node's ledger has it: which version, and what that says if it was not deleted.
pub(super) struct Seen {
    pub version: Option<Version>,
    pub record: Option<Record>,
}

/// A command's record as this node's ledger has it: perhaps not the newest, and none of one that was forgotten.
///
/// # Errors
/// It can't be read, or is another build's: what it says is unknown.
pub(super) fn read(ledger: &Ledger, id: Uuid) -> Result<Seen, ledger::Error> {
    // In this order: a version that is older than what it says is none that counts.
    let latest = ledger.latest(&RECORDS.key(id.as_bytes()));
    // What a record says of itself is its writer's word.
    match ledger.get(RECORDS, id.as_bytes())?.filter(|found| found.value.id == id) {
        Some(found) => Ok(Seen { version: Some(found.version), record: Some(found.value) }),
        None => match latest {
            Some((_, false)) => Err(ledger::Error::Store("it was written by another build, or is damaged".into())),
            latest => Ok(Seen { version: latest.map(|(version, _)| version), record: None }),
        },
    }
}

/// The same, where nothing is done about it but to show it.
pub(super) fn known(ledger: &Ledger, id: Uuid) -> Option<Record> {
    match read(ledger, id) {
        Ok(seen) => seen.record,
        Err(error) => {
            tracing::warn!(task = %id, %error, "a record of a task can't be read; other members have it");
            None
        }
    }
}

/// The same, as it may be shown: one that has ended, but not for everyone, runs.
pub fn told(ledger: &Ledger, id: Uuid) -> Option<Record> {
    known(ledger, id).map(|record| record.shown(true))
}

/// The runs of this node.
pub(super) const ROWS: Table<[u8; 16], Row> = Table::new("task_runs");

/// Decisions that may wait for the disk: beyond that the mailbox waits.
pub(super) const ENTRIES_MAX: usize = 256;
/// Writes of one batch: at 130 KiB for the largest record well under the store's bound.
const BATCH_WRITES_MAX: usize = 256;

/// The pause before half of the swarm is asked once more to confirm something.
const CONFIRM_PAUSE: Duration = Duration::from_secs(1);

/// One change on disk.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Record(Box<Record>),
    NoRecord(Uuid, super::messages::Term),
    Row(Uuid, Box<Row>),
    NoRow(Uuid),
}

impl Write {
    /// Whether it writes one of these records.
    fn is_of(&self, records: &BTreeSet<Uuid>) -> bool {
        matches!(self, Write::Record(record) if records.contains(&record.id))
    }
}

/// What one decision writes, and what comes after.
#[derive(Default)]
pub(super) struct Entry {
    pub writes: Vec<Write>,
    pub then: Vec<Action>,
    pub reply: Option<Reply>,
    /// It was decided before, and the disk refused it: whoever waits for it does so still.
    pub again: bool,
}

/// Told whether it is on disk.
pub(super) type Reply = Box<dyn FnOnce(Result<(), ledger::Error>) + Send>;

/// What happens once another member has it too.
#[derive(Default)]
struct Later {
    ended: Vec<Action>,
    replies: Vec<Reply>,
    saved: Vec<Write>,
}

/// Commits entries as they come, until nobody can send any.
pub(super) async fn keep(desk: Arc<Desk>, store: Store, ledger: Ledger, mut entries: mpsc::Receiver<Entry>) {
    let mut group: Vec<Entry> = Vec::new();
    while entries.recv_many(&mut group, ENTRIES_MAX).await > 0 {
        let writes: Vec<Write> = group.iter().flat_map(|entry| entry.writes.iter().cloned()).collect();
        let mut sent = Vec::new();
        let mut fenced = BTreeSet::new();
        let mut result = Ok(());
        for chunk in writes.chunks(BATCH_WRITES_MAX) {
            match commit(&store, &ledger, chunk).await {
                Ok(written) => {
                    fenced.extend(written.fenced.iter().filter_map(|key| Uuid::from_slice(&key.id).ok()));
                    sent.extend(written.entries);
                }
                Err(error) => {
                    tracing::warn!(%error, "records of tasks could not be saved; they are tried again");
                    result = Err(error);
                }
            }
        }
        let mut later = Later::default();
        for mut entry in group.drain(..) {
            for single in singles(&mut entry, &sent, &fenced) {
                if !entry.again {
                    desk.tasks.spawn(single.follow(desk.clone(), ledger.clone(), result.clone()));
                } else if result.is_err() {
                    desk.save_later(&[Write::Record(single.record)]);
                }
            }
            if result.is_err() {
                // What was decided stands: it is written when the disk takes it, or taken back by whoever waits below.
                desk.save_later(&entry.writes);
            }
            if result.is_ok() {
                // Of an end they are told when everybody is.
                let moved = |record: &Record| !record.state.ended() && !fenced.contains(&record.id);
                for write in &entry.writes {
                    if let Write::Record(record) = write
                        && moved(record)
                    {
                        desk.tell_listeners(record);
                    }
                }
            }
            let counts = entry.writes.iter().any(counts);
            for action in entry.then.into_iter().filter(|action| !concerns(action, &fenced)) {
                match action {
                    Action::Ended(_) => later.ended.push(action),
                    action => desk.act(action),
                }
            }
            let taken_over = entry.writes.first().is_some_and(|write| write.is_of(&fenced));
            match entry.reply {
                Some(reply) if taken_over => reply(Err(ledger::Error::Fenced)),
                Some(reply) if counts || later.waits() => later.replies.push(reply),
                Some(reply) => reply(result.clone()),
                None => {}
            }
            later.saved.extend(entry.writes.into_iter().filter(counts_as_end));
        }
        if !fenced.is_empty() {
            // Not from within the journal: the decision needs a place in it.
            desk.tasks.spawn(desk.clone().disown(fenced.into_iter().collect()));
        }
        match result {
            Ok(()) if later.waits() && !ledger.is_alone() => {
                let (desk, ledger) = (desk.clone(), ledger.clone());
                desk.clone().tasks.spawn(async move { later.tell(&desk, ledger.confirmed(sent).await) });
            }
            result => {
                ledger.tell(sent);
                later.tell(&desk, result);
            }
        }
    }
}

/// What was decided about a command that never runs twice at once, and is to be confirmed.
struct Single {
    record: Box<Record>,
    written: Vec<ledger::Entry>,
    then: Vec<Action>,
    reply: Option<Reply>,
}

/// Takes out of an entry what concerns such commands. Whoever waits for the entry waits for its first write.
fn singles(entry: &mut Entry, sent: &[ledger::Entry], fenced: &BTreeSet<Uuid>) -> Vec<Single> {
    let mut singles: Vec<Single> = Vec::new();
    for (at, write) in entry.writes.iter().enumerate() {
        let Write::Record(record) = write else { continue };
        if !record.is_single() || fenced.contains(&record.id) {
            continue;
        }
        let reply = if at == 0 { entry.reply.take() } else { None };
        match singles.iter_mut().find(|single| single.record.id == record.id) {
            Some(single) => single.record = record.clone(),
            None => {
                let written = sent.iter().filter(|sent| sent.key.id == record.id.as_bytes()).cloned().collect();
                let then = entry.then.extract_if(.., |action| about(action) == Some(record.id)).collect();
                singles.push(Single { record: record.clone(), written, then, reply });
            }
        }
    }
    let apart = |id: &Uuid| singles.iter().any(|single| single.record.id == *id);
    entry.writes.retain(|write| !matches!(write, Write::Record(record) if apart(&record.id)));
    singles
}

impl Single {
    /// Does what follows once that may be done, or another decides about it. `saved`: it is on the disk here.
    async fn follow(mut self, desk: Arc<Desk>, ledger: Ledger, mut saved: Result<(), ledger::Error>) {
        let Record { id, term, epoch, attempts, state, .. } = *self.record;
        // Nobody was promised anything yet: whoever waits can be told no.
        let new = self.reply.is_some() && attempts == 0 && state == State::Pending;
        if saved.is_err() && !new {
            desk.save_later(&[Write::Record(self.record.clone())]);
        }
        let (ownership, key) = (&desk.context.ownership, RECORDS.key(id.as_bytes()));
        let result = loop {
            let confirmed = match &saved {
                Ok(()) => ownership.confirmed(&key, term, self.written.clone()).await,
                Err(error) => Err(error.clone()),
            };
            if new || confirmed.is_ok() && ownership.holds(epoch) {
                break confirmed;
            }
            if confirmed == Err(ledger::Error::Fenced) {
                // This node needs a later term than others have voted for.
                desk.state().core.fenced(id, term);
            }
            sleep(CONFIRM_PAUSE).await;
            // A decision of an earlier term stays in the ledger; whoever decides now has seen it.
            let now = desk.state().core.get(id).filter(|record| record.term == term).cloned();
            let Some(now) = now else { break Err(ledger::Error::Fenced) };
            if saved.is_err()
                && known(&ledger, id).as_ref() == Some(&now)
                && let Some(entry) = ledger.entry(RECORDS, id.as_bytes())
                && ledger.version_of(&key) == Some(entry.version)
            {
                self.written = vec![entry];
                saved = Ok(());
            }
        };
        if result.is_ok() {
            if !new {
                let confirmed = |core: &mut Core, now| core.confirmed(id, term, state.ended(), now);
                desk.change(|state, now| ((), confirmed(&mut state.core, now), Also::default())).await;
            }
            desk.saved(&[Write::Record(self.record)]);
            self.then.into_iter().for_each(|action| desk.act(action));
        }
        if let Some(reply) = self.reply {
            reply(result);
        }
    }
}

/// Which command an action is about.
fn about(action: &Action) -> Option<Uuid> {
    match action {
        Action::Run(_, run) => Some(run.id),
        Action::Stop(_, id, ..) | Action::Forget(_, id) | Action::Ended(id) | Action::Disowned(id) => Some(*id),
        Action::Save(_) | Action::Delete(..) => None,
    }
}

impl Later {
    fn waits(&self) -> bool {
        !self.replies.is_empty() || !self.ended.is_empty()
    }

    fn tell(self, desk: &Arc<Desk>, result: Result<(), ledger::Error>) {
        // An end that no other member has confirmed stands on this disk: it will not run again unless this machine is
        // lost, and whoever waits for it has waited long enough.
        if !matches!(result, Err(ref error) if *error != ledger::Error::Alone) {
            desk.saved(&self.saved);
        }
        self.replies.into_iter().for_each(|reply| reply(result.clone()));
        self.ended.into_iter().for_each(|action| desk.act(action));
    }
}

/// Whether a client is told of it: a new command, or an end.
fn counts(write: &Write) -> bool {
    matches!(write, Write::Record(record) if record.attempts == 0 || record.state.ended())
}

fn counts_as_end(write: &Write) -> bool {
    match write {
        Write::Record(record) => record.state.ended(),
        Write::NoRecord(..) => true,
        Write::Row(..) | Write::NoRow(_) => false,
    }
}

fn concerns(action: &Action, ids: &BTreeSet<Uuid>) -> bool {
    match action {
        Action::Run(_, run) => ids.contains(&run.id),
        Action::Ended(id) => ids.contains(id),
        Action::Save(_) | Action::Delete(..) | Action::Stop(..) | Action::Forget(..) | Action::Disowned(_) => false,
    }
}

async fn commit(store: &Store, ledger: &Ledger, writes: &[Write]) -> Result<ledger::Written, ledger::Error> {
    let mut batch = Batch::new();
    let mut records = Vec::new();
    for write in writes {
        match write {
            Write::Record(record) => {
                records.push(RECORDS.write(record.id.as_bytes(), record.term.0, Some(record)));
            }
            Write::NoRecord(id, term) => records.push(RECORDS.write(id.as_bytes(), term.0, None)),
            Write::Row(id, row) => batch.put(ROWS, id.as_bytes(), row)?,
            Write::NoRow(id) => batch.delete(ROWS, id.as_bytes())?,
        }
    }
    let rows = async { store.commit(batch).await.map_err(ledger::Error::from) };
    let (written, rows) = futures::future::join(ledger.note(records), rows).await;
    rows?;
    written
}
