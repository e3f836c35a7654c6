//! Leases and votes as their users on this node hold them: a cheap clone.

use super::{
    Term,
    lease::{Ballot, Holding, Kept, LEASE, Leases, MARGIN, Timing, Verdict, wins},
    messages::{Message, Poll},
};
use crate::ledger::{Collection, ID_BYTES_MAX, Key, Ledger};
use futures::future::join_all;
use skep_runtime::{
    Directory, Env, Members, NodeId, Wire,
    store::{self, Batch, Store, Table},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long a member may take to vote: a flush on a slow disk.
const VOTE_TIMEOUT: Duration = Duration::from_secs(3);
/// Ballots of one poll: each is some 200 bytes.
pub(super) const BALLOTS_MAX: usize = 256;

/// The one row of this node's epoch.
const EPOCH: Table<u8, u64> = Table::new("lease_epoch");
/// Epochs of others in which they no longer count, by their keys.
const CLOSED: Table<[u8; 32], u64> = Table::new("lease_closed");
/// Votes, by record.
const VOTES: Table<(u8, Vec<u8>), Holding> = Table::new("lease_votes");

/// A node's leases and votes.
#[derive(Clone)]
pub struct Ownership {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    env: Env,
    store: Store,
    pub directory: Directory,
    pub members: Members,
    ledger: Ledger,
    core: Mutex<Leases>,
    /// Who on this node owns something that needs a lease.
    users: Mutex<BTreeSet<&'static str>>,
    /// Holders that others told of when they did not vote, of which the ledger knows nothing yet.
    rumours: Mutex<BTreeMap<Key, Holding>>,
}

/// A record that a node wants to own.
#[derive(Debug, Clone)]
pub struct Want {
    /// The record's id.
    pub id: Vec<u8>,
    /// Who has it, as far as is known here; `None`: nobody.
    pub held: Option<Holding>,
    /// The first term of one that nobody has.
    pub first: Term,
}

impl Ownership {
    /// With what survived on disk.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn open(
        env: &Env,
        store: &Store,
        directory: &Directory,
        members: &Members,
        ledger: &Ledger,
    ) -> Result<Ownership, store::Error> {
        let kept = Kept {
            epoch: store.get(EPOCH, &0)?.unwrap_or_default(),
            closed: store.all(CLOSED)?.into_iter().map(|(id, epoch)| (NodeId::from_bytes(id), epoch)).collect(),
            promised: store
                .all(VOTES)?
                .into_iter()
                .map(|((collection, id), holding)| (Key { collection, id }, holding))
                .collect(),
        };
        let timing = Timing { lease: LEASE, margin: MARGIN };
        let core = Leases::new(directory.id(), kept, timing, env.elapsed());
        let shared = Shared {
            env: env.clone(),
            store: store.clone(),
            directory: directory.clone(),
            members: members.clone(),
            ledger: ledger.clone(),
            core: Mutex::new(core),
            users: Mutex::default(),
            rumours: Mutex::default(),
        };
        Ok(Ownership { shared: Arc::new(shared) })
    }

    /// This node's epoch, in which it takes what it takes now.
    pub fn epoch(&self) -> u64 {
        self.shared.core().epoch()
    }

    /// Whether this node may act now on what it took in that epoch. To be asked before each act.
    pub fn holds(&self, epoch: u64) -> bool {
        self.shared.core().holds(epoch, &self.shared.roster(), self.shared.env.elapsed())
    }

    /// The epoch in which this node may act now, if it may.
    pub fn held(&self) -> Option<u64> {
        let epoch = self.epoch();
        self.holds(epoch).then_some(epoch)
    }

    /// How many other members there must be who have a record, so that nobody is voted for who doesn't know it.
    pub fn others_enough(&self) -> usize {
        super::lease::others_enough(self.shared.roster().len())
    }

    /// Whether a user on this node owns something that needs a lease: without one, nobody is asked again and again.
    pub fn need(&self, user: &'static str, needs: bool) {
        let mut users = self.shared.users.lock().unwrap_or_else(PoisonError::into_inner);
        if needs {
            users.insert(user)
        } else {
            users.remove(user)
        };
    }

    /// Asks for the votes of the others. Which of these are this node's now, in which term and epoch; whoever asks
    /// writes that into the ledger.
    pub async fn win<V>(&self, collection: Collection<V>, mut wants: Vec<Want>) -> BTreeMap<Vec<u8>, Holding> {
        wants.truncate(BALLOTS_MAX);
        let shared = &self.shared;
        let me = shared.directory.id();
        let (roster, epoch) = (shared.roster(), self.epoch());
        let mut polls: Vec<Poll> = {
            let mut rumours = shared.rumours();
            rumours.retain(|key, holding| {
                shared.ledger.version_of(key).is_none_or(|version| version.term < holding.term.0)
            });
            let poll = |want: Want| {
                let key = collection.key(&want.id);
                let held = want.held.max(rumours.get(&key).copied());
                let term = held.map_or(want.first, |held| held.term.next(me));
                let wanted = Holding { term, owner: me, epoch };
                let version = shared.ledger.version_of(&key);
                Poll { version, ballot: Ballot { key, held, wanted, given_up: None }, dry: true }
            };
            wants.into_iter().map(poll).collect()
        };
        // First how it would be: whoever is outvoted takes nothing from anybody. Then in earnest, this node itself first.
        for dry in [true, false] {
            polls.iter_mut().for_each(|poll| poll.dry = dry);
            let mut votes = Votes::of(&polls);
            votes.count(shared, &polls, &[me]).await;
            let own = |at: usize| votes.granted[at].contains(&me);
            polls = polls.into_iter().enumerate().filter(|(at, _)| own(*at)).map(|(_, poll)| poll).collect();
            let mut votes = Votes::of(&polls);
            votes.granted.iter_mut().for_each(|granted| granted.extend([me]));
            votes.count(shared, &polls, &shared.members.others_up()).await;
            // Whoever has it may give it up, and others go by that.
            if votes.give_up(&mut polls) {
                votes.count(shared, &polls, &shared.members.others_up()).await;
            }
            let enough = |at: usize| wins(votes.granted[at].len(), roster.len());
            polls = polls.into_iter().enumerate().filter(|(at, _)| enough(*at)).map(|(_, poll)| poll).collect();
        }
        let mut core = shared.core();
        polls.retain(|Poll { ballot, .. }| core.win(&ballot.key, ballot.wanted));
        polls.into_iter().map(|poll| (poll.ballot.key.id, poll.ballot.wanted)).collect()
    }
}

/// What came of a poll, ballot by ballot.
struct Votes {
    granted: Vec<BTreeSet<NodeId>>,
    /// What those have of it that did not vote for this node.
    held: Vec<BTreeSet<Holding>>,
}

impl Votes {
    fn of(polls: &[Poll]) -> Votes {
        Votes { granted: vec![BTreeSet::new(); polls.len()], held: vec![BTreeSet::new(); polls.len()] }
    }

    /// Asks these nodes.
    async fn count(&mut self, shared: &Shared, polls: &[Poll], voters: &[NodeId]) {
        if polls.is_empty() {
            return;
        }
        let ask = |id: &NodeId| {
            let (id, handle) = (*id, shared.directory.at::<Message>(*id, super::NAME));
            let polls = polls.to_vec();
            async move { (id, handle.ask(VOTE_TIMEOUT, |reply| Message::Vote(Wire(polls), reply)).await) }
        };
        for (id, answer) in join_all(voters.iter().map(ask)).await {
            let Ok(Ok(verdicts)) = answer else { continue };
            for (at, (poll, verdict)) in polls.iter().zip(verdicts).enumerate() {
                match verdict {
                    Verdict::Granted => drop(self.granted[at].insert(id)),
                    Verdict::Held(held) => {
                        self.held[at].insert(held);
                        // The next time, in a later term.
                        let mut rumours = shared.rumours();
                        let last = rumours.entry(poll.ballot.key.clone()).or_insert(held);
                        *last = held.max(*last);
                    }
                    Verdict::Behind => shared.ledger.behind(id),
                    Verdict::Full => {}
                }
            }
        }
    }

    /// Notes in the ballots who voted for this node and had the record itself, others say. Whether anybody did.
    fn give_up(&self, polls: &mut [Poll]) -> bool {
        let mut any = false;
        for (at, poll) in polls.iter_mut().enumerate() {
            poll.ballot.given_up = self.held[at].iter().rfind(|held| self.granted[at].contains(&held.owner)).copied();
            any |= poll.ballot.given_up.is_some();
        }
        any
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Leases> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rumours(&self) -> MutexGuard<'_, BTreeMap<Key, Holding>> {
        self.rumours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everyone, whether up or down.
    fn roster(&self) -> Vec<NodeId> {
        self.members.now().keys().copied().collect()
    }

    pub(super) fn tasks(&self) -> skep_runtime::Tasks {
        self.env.tasks()
    }

    pub(super) fn is_needed(&self) -> bool {
        !self.users.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Another node asks whether it counts.
    pub(super) fn touch(&self, by: NodeId, epoch: u64) -> Result<(), u64> {
        self.core().touch(by, epoch, self.env.elapsed())
    }

    /// This node asks another whether it counts.
    pub(super) async fn ask(&self, id: NodeId) {
        let (asked, epoch) = (self.env.elapsed(), self.core().epoch());
        let message = Wire((self.directory.id(), epoch));
        let node = self.directory.at::<Message>(id, super::NAME);
        let Ok(answer) = node.ask(LEASE, |reply| Message::Touch(message, reply)).await else { return };
        let later = {
            let mut core = self.core();
            core.touched(id, epoch, asked, answer).then(|| core.epoch())
        };
        let Some(later) = later else { return };
        tracing::info!(epoch = later, "others have gone on without this node: what it owned alone is theirs to take");
        let mut batch = Batch::new();
        let written = async {
            batch.put(EPOCH, &0, &later)?;
            self.store.commit(batch).await
        };
        // Forgotten, it is told once more after a restart.
        if let Err(error) = written.await {
            tracing::warn!(%error, "the epoch could not be saved");
        }
    }

    /// Another node asks for votes, and is another version perhaps, or worse: what was promised is on the disk when this returns.
    pub(super) async fn vote(&self, polls: Vec<Poll>) -> Result<Vec<Verdict>, store::Error> {
        let mut verdicts = Vec::new();
        let mut batch = Batch::new();
        {
            let now = self.env.elapsed();
            let mut core = self.core();
            for Poll { ballot, version, dry } in polls.into_iter().take(BALLOTS_MAX) {
                if ballot.key.id.len() > ID_BYTES_MAX {
                    verdicts.push(Verdict::Full);
                    continue;
                }
                // Whoever lacks what was confirmed here may not decide about it.
                if self.ledger.version_of(&ballot.key) > version {
                    verdicts.push(Verdict::Behind);
                    continue;
                }
                if dry {
                    verdicts.push(core.would_vote(&ballot, now));
                    continue;
                }
                let holders = [core.kept().promised.get(&ballot.key).copied(), ballot.held];
                let verdict = core.vote(&ballot, now);
                if verdict == Verdict::Granted {
                    for owner in holders.into_iter().flatten().map(|held| held.owner) {
                        if let Some(closed) = core.kept().closed.get(&owner) {
                            batch.put(CLOSED, owner.as_bytes(), closed)?;
                        }
                    }
                    batch.put(VOTES, &(ballot.key.collection, ballot.key.id), &ballot.wanted)?;
                }
                verdicts.push(verdict);
            }
        }
        match batch.is_empty() {
            true => Ok(verdicts),
            false => self.store.commit(batch).await.map(|()| verdicts),
        }
    }

    /// Drops votes that have come to something.
    pub(super) async fn settle(&self) -> Result<(), store::Error> {
        let gone = self.core().settle(|key| self.ledger.version_of(key).map(|version| Term(version.term)));
        let mut batch = Batch::new();
        for Key { collection, id } in gone {
            batch.delete(VOTES, &(collection, id))?;
        }
        self.store.commit(batch).await
    }
}
