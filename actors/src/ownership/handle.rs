//! Leases and votes as their users on this node hold them: a cheap clone.

use super::{
    Term,
    lease::{Ballot, Holding, Kept, LEASE, Leases, MARGIN, Timing, Verdict, others_enough, wins},
    messages::{Message, Poll},
};
use crate::ledger::{self, Collection, ID_BYTES_MAX, Key, Ledger, Version};
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
pub const BALLOTS_MAX: usize = 256;
/// How often a candidate asks what would be said, each time with what it heard: who has given up, and which terms are over.
const ROUNDS_MAX: usize = 3;

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
    /// Held from a decision that is kept until it is on the disk, so that the disk has them in the same order.
    keeping: tokio::sync::Mutex<()>,
    /// Who on this node owns something that needs a lease.
    users: Mutex<BTreeSet<&'static str>>,
}

/// A record that a node wants to own.
#[derive(Debug, Clone)]
pub struct Want {
    /// The record's id.
    pub id: Vec<u8>,
    /// Which version of it was read here; `None`: there is none.
    pub version: Option<Version>,
    /// Who has it in that one; `None`: nobody.
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
            keeping: tokio::sync::Mutex::default(),
            users: Mutex::default(),
        };
        let shared = Arc::new(shared);
        // Not to hold on to it: it holds on to the ledger.
        let votes = Arc::downgrade(&shared);
        ledger.fence(move |key| votes.upgrade()?.core().promised(key).map(|term| term.0));
        Ok(Ownership { shared })
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

    /// Waits until half of the swarm, this node included, has what this node wrote about a record in a term, and has not voted
    /// for a later one: who takes the record over after that knows of it.
    ///
    /// # Errors
    /// [`ledger::Error::Fenced`], or [`ledger::Error::Alone`] if too few answered.
    pub async fn confirmed(&self, key: &Key, term: Term, written: Vec<ledger::Entry>) -> Result<(), ledger::Error> {
        let shared = &self.shared;
        // In this order: a vote is forgotten once its winner's record is known.
        let promised = shared.core().promised(key);
        let known = shared.ledger.version_of(key).map(|version| Term(version.term));
        if promised.max(known) > Some(term) {
            return Err(ledger::Error::Fenced);
        }
        shared.ledger.confirmed_by(others_enough(shared.roster().len()), written).await
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

    /// Asks for the votes of the others, for at most [`BALLOTS_MAX`] records. Which of them are this node's now, in which
    /// term and epoch; it may act once it has written that into the ledger, and it is [confirmed](Ownership::confirmed).
    pub async fn win<V>(&self, collection: Collection<V>, wants: Vec<Want>) -> BTreeMap<Vec<u8>, Holding> {
        let shared = &self.shared;
        let me = shared.directory.id();
        let (members, epoch) = (shared.roster().len(), self.epoch());
        let poll = |want: Want| {
            let term = want.held.map_or(want.first, |held| held.term.next(me));
            let wanted = Holding { term, owner: me, epoch };
            let Want { version, held, .. } = want;
            let ballot = Ballot { key: collection.key(&want.id), version, held, wanted, given_up: false };
            Poll { ballot, dry: true }
        };
        let mut polls: Vec<Poll> = wants.into_iter().take(BALLOTS_MAX).map(poll).collect();
        let everyone = [&[me], &*shared.members.others_up()].concat();
        // First how it would be: whoever is outvoted takes nothing from anybody.
        let mut votes = Votes::default();
        for _ in 0..ROUNDS_MAX {
            votes = Votes::count(shared, &polls, &everyone).await;
            if !votes.learn(&mut polls, members) {
                break;
            }
        }
        let mut polls = votes.won(polls, members, 0);
        // Then in earnest, this node itself before the others.
        polls.iter_mut().for_each(|poll| poll.dry = false);
        let mut polls = Votes::count(shared, &polls, &[me]).await.won(polls, 1, 0);
        polls = Votes::count(shared, &polls, &everyone[1..]).await.won(polls, members, 1);
        let core = shared.core();
        polls.retain(|Poll { ballot, .. }| core.wins(&ballot.key, ballot.wanted));
        polls.into_iter().map(|poll| (poll.ballot.key.id, poll.ballot.wanted)).collect()
    }
}

/// What came of some polls, in their order.
#[derive(Default)]
struct Votes(Vec<Vote>);

#[derive(Clone, Default)]
struct Vote {
    granted: BTreeSet<NodeId>,
    /// The latest term for which somebody has voted who refused an earlier one.
    later: Option<Term>,
}

impl Votes {
    /// Asks these nodes.
    async fn count(shared: &Shared, polls: &[Poll], voters: &[NodeId]) -> Votes {
        let mut votes = vec![Vote::default(); polls.len()];
        if polls.is_empty() {
            return Votes(votes);
        }
        let ask = |id: &NodeId| {
            let (id, handle) = (*id, shared.directory.at::<Message>(*id, super::NAME));
            let polls = polls.to_vec();
            async move { (id, handle.ask(VOTE_TIMEOUT, |reply| Message::Vote(Wire(polls), reply)).await) }
        };
        for (id, answer) in join_all(voters.iter().map(ask)).await {
            let Ok(Ok(verdicts)) = answer else { continue };
            for (vote, verdict) in votes.iter_mut().zip(verdicts) {
                match verdict {
                    Verdict::Granted => drop(vote.granted.insert(id)),
                    Verdict::Later(term) => vote.later = vote.later.max(Some(term)),
                    Verdict::Behind if id != shared.directory.id() => shared.ledger.behind(id),
                    Verdict::Behind | Verdict::Held | Verdict::Full => {}
                }
            }
        }
        Votes(votes)
    }

    /// Puts into the polls that won't be won what was heard. Whether there was anything.
    fn learn(&self, polls: &mut [Poll], members: usize) -> bool {
        let mut any = false;
        for (Poll { ballot, .. }, vote) in polls.iter_mut().zip(&self.0).filter(|(_, vote)| !vote.wins(members, 0)) {
            let over = ballot.held.is_some_and(|held| vote.granted.contains(&held.owner));
            let later = vote.later.filter(|later| *later >= ballot.wanted.term);
            any |= over && !ballot.given_up || later.is_some();
            ballot.given_up = over;
            ballot.wanted.term = later.map_or(ballot.wanted.term, |later| later.next(ballot.wanted.owner));
        }
        any
    }

    /// Those polls that are won, with so many votes from before.
    fn won(&self, polls: Vec<Poll>, members: usize, before: usize) -> Vec<Poll> {
        let won = |(poll, vote): (Poll, &Vote)| {
            let won = vote.wins(members, before);
            if !won {
                let Poll { dry, ballot: Ballot { key, held, wanted, .. } } = &poll;
                tracing::trace!(?key, ?held, ?wanted, dry, votes = ?vote.granted, "too few vote for this node");
            }
            won.then_some(poll)
        };
        polls.into_iter().zip(&self.0).filter_map(won).collect()
    }
}

impl Vote {
    fn wins(&self, members: usize, before: usize) -> bool {
        wins(self.granted.len() + before, members)
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, Leases> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Another node asks whether it counts. `None`: it is no member.
    pub(super) fn touch(&self, by: NodeId, epoch: u64) -> Option<Result<(), u64>> {
        let known = self.members.get(&by).is_some();
        known.then(|| self.core().touch(by, epoch, self.env.elapsed()))
    }

    /// This node asks another whether it counts.
    pub(super) async fn ask(&self, id: NodeId) {
        let (asked, epoch) = (self.env.elapsed(), self.core().epoch());
        let message = Wire((self.directory.id(), epoch));
        let node = self.directory.at::<Message>(id, super::NAME);
        match node.ask(LEASE, |reply| Message::Touch(message, reply)).await {
            Ok(Ok(())) => self.core().touched(id, epoch, asked),
            Ok(Err(closed)) => self.begin_after(closed).await,
            Err(_) => {}
        }
    }

    /// Begins a later epoch, once that is on the disk: in the one before nobody acts after that.
    async fn begin_after(&self, closed: u64) {
        let _keeping = self.keeping.lock().await;
        let Some(later) = self.core().after(closed) else { return };
        let mut batch = Batch::new();
        let written = async {
            batch.put(EPOCH, &0, &later)?;
            self.store.commit(batch).await
        };
        match written.await {
            Ok(()) => {
                self.core().begin(later);
                tracing::info!(
                    epoch = later,
                    "others have gone on without this node: what it owned alone is theirs to take"
                );
            }
            Err(error) => tracing::warn!(%error, "the epoch could not be saved: it is asked for and saved once more"),
        }
    }

    /// Another node asks for votes, and is of another version perhaps, or worse: what was promised is on the disk when this
    /// returns.
    pub(super) async fn vote(&self, polls: Vec<Poll>) -> Result<Vec<Verdict>, store::Error> {
        let mut verdicts = Vec::new();
        let mut batch = Batch::new();
        let mut before = Vec::new();
        let _keeping = self.keeping.lock().await;
        {
            let now = self.env.elapsed();
            let mut core = self.core();
            for Poll { ballot, dry } in polls.into_iter().take(BALLOTS_MAX) {
                if ballot.key.id.len() > ID_BYTES_MAX || self.members.get(&ballot.wanted.owner).is_none() {
                    verdicts.push(Verdict::Full);
                    continue;
                }
                // Under the lock that whoever counts as having a record takes after it has it: either it is known here, or
                // it doesn't count.
                let known = self.ledger.version_of(&ballot.key);
                if dry {
                    verdicts.push(core.would_vote(&ballot, known, now));
                    continue;
                }
                let last = core.kept().promised.get(&ballot.key).copied();
                let verdict = core.vote(&ballot, known, now);
                if verdict == Verdict::Granted {
                    // Though it was closed before: that may have been lost with a commit that failed.
                    if let Some(owner) = ballot.held.map(|held| held.owner)
                        && let Some(closed) = core.kept().closed.get(&owner)
                    {
                        batch.put(CLOSED, owner.as_bytes(), closed)?;
                    }
                    batch.put(VOTES, &(ballot.key.collection, ballot.key.id.clone()), &ballot.wanted)?;
                    before.push((ballot.key, last));
                }
                verdicts.push(verdict);
            }
        }
        if batch.is_empty() {
            return Ok(verdicts);
        }
        let kept = self.store.commit(batch).await;
        if kept.is_err() {
            let mut core = self.core();
            before.iter().rev().for_each(|(key, last)| core.unvote(key, *last));
        }
        kept.map(|()| verdicts)
    }

    /// Drops votes that have come to something.
    pub(super) async fn settle(&self) -> Result<(), store::Error> {
        let _keeping = self.keeping.lock().await;
        let gone = self.core().settle(|key| self.ledger.version_of(key).map(|version| Term(version.term)));
        let mut batch = Batch::new();
        for Key { collection, id } in gone {
            batch.delete(VOTES, &(collection, id))?;
        }
        // One that is deleted too late is deleted after a restart: its winner is known.
        match batch.is_empty() {
            true => Ok(()),
            false => self.store.commit(batch).await,
        }
    }
}
