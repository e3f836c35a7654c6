//! The heir's part of the desk: what other nodes write, as the ledger tells, and taking over jobs whose owner is gone.
//! When that is due is [`Wards`](crate::ownership::Wards)' business.
//!
//! An heir first asks everyone who is up how far they know the jobs: one that its owner ended in its last moment is known
//! to at least one of them, and perhaps not yet here.

use super::{
    core::Action,
    desk::{Confirm, Desk, Rest},
    home::{SETTINGS, STRATEGY_ID},
    job::{JOBS, Job, Slip},
    messages::Message,
    registry::WORKERS,
};
use crate::{defaults::GATHER_TIMEOUT, ownership::Term};
use futures::{StreamExt, stream};
use skep_runtime::{NodeId, Wire};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::sleep;
use uuid::Uuid;

/// Jobs that are asked about in one message.
const KNOWN_MAX: usize = 1000;
/// How often a member that is up and doesn't answer is asked; it may be starting.
const KNOWN_TRIES: u32 = 5;
/// The pause between two such questions.
const KNOWN_PAUSE: Duration = Duration::from_secs(1);
/// Jobs that are taken over at the same time: each is a read and a write of up to 256 KiB.
const ADOPTED_AT_ONCE: usize = 32;

impl Desk {
    /// Follows what others write, for as long as the node runs. Before it acts on anything of its own, it waits until it
    /// knows what they did while it was away.
    pub(super) async fn learn(self: Arc<Self>) {
        let ledger = &self.context.ledger;
        let (jobs, workers, settings) = (ledger.feed(JOBS), ledger.feed(WORKERS), ledger.feed(SETTINGS));
        ledger.caught_up().await;
        self.heard_of_jobs(jobs.take());
        self.heard_of_workers(workers.take());
        self.heard_of_settings();
        self.change(|state, now| ((), state.core.release(now)));
        loop {
            tokio::select! {
                ids = jobs.next() => self.heard_of_jobs(ids),
                ids = workers.next() => self.heard_of_workers(ids),
                _ = settings.next() => self.heard_of_settings(),
            }
        }
    }

    fn heard_of_jobs(self: &Arc<Self>, ids: BTreeSet<Vec<u8>>) {
        for id in ids.iter().filter_map(|id| Uuid::from_slice(id).ok()) {
            match self.context.ledger.get(JOBS, id.as_bytes()) {
                Ok(found) => {
                    // What a record says of itself is its writer's word.
                    let slip = found.map(|found| found.value.slip).filter(|slip| slip.id == id);
                    self.change(|state, now| ((), state.core.heard(id, slip, now)));
                }
                Err(error) => {
                    tracing::warn!(job = %id, %error, "a record of a job can't be read; other members have it")
                }
            }
        }
    }

    fn heard_of_workers(self: &Arc<Self>, ids: BTreeSet<Vec<u8>>) {
        for bytes in ids {
            let Ok(id) = String::from_utf8(bytes) else { continue };
            if let Ok(found) = self.context.ledger.get(WORKERS, id.as_bytes()) {
                let worker = found.map(|found| found.value).filter(|worker| worker.said.id == id);
                self.change(|state, now| {
                    state.core.registry.note(&id, worker);
                    ((), state.core.pump(now))
                });
            }
        }
    }

    fn heard_of_settings(&self) {
        if let Ok(Some(found)) = self.context.ledger.get(SETTINGS, STRATEGY_ID) {
            self.state().core.strategy = found.value;
        }
    }

    /// Takes jobs over.
    pub(super) async fn adopt(self: Arc<Self>, ids: Vec<Uuid>) {
        tracing::info!(jobs = ids.len(), "this node takes jobs over whose owner is gone");
        for ids in ids.chunks(KNOWN_MAX) {
            let ahead = self.who_knows_better(ids).await;
            let adopt = |id: &Uuid| {
                let (desk, id, ahead) = (self.clone(), *id, ahead.get(id).copied());
                async move { desk.adopt_one(id, ahead).await }
            };
            stream::iter(ids).map(adopt).buffer_unordered(ADOPTED_AT_ONCE).collect::<Vec<()>>().await;
        }
    }

    /// Who knows a later word of which of these than this node.
    async fn who_knows_better(&self, ids: &[Uuid]) -> BTreeMap<Uuid, NodeId> {
        let mut best: BTreeMap<Uuid, ((Term, u32), Option<NodeId>)> = BTreeMap::new();
        for (id, term, step) in self.state().core.known(ids) {
            best.insert(id, ((term, step), None));
        }
        let mut told = BTreeSet::new();
        for _ in 0..KNOWN_TRIES {
            let left: Vec<NodeId> =
                self.context.members.others_up().into_iter().filter(|node| !told.contains(node)).collect();
            if left.is_empty() {
                break;
            }
            for node in left {
                let ids = Wire(ids.to_vec());
                let asked = self.workers(node).ask(GATHER_TIMEOUT, |reply| Message::Known(ids, reply)).await;
                let Ok(known) = asked else { continue };
                told.insert(node);
                for (id, term, step) in known {
                    let here = best.entry(id).or_insert(((Term::default(), 0), None));
                    if here.0 < (term, step) {
                        *here = ((term, step), Some(node));
                    }
                }
            }
            if self.context.members.others_up().iter().all(|node| told.contains(node)) {
                break;
            }
            sleep(KNOWN_PAUSE).await;
        }
        best.into_iter().filter_map(|(id, (_, node))| Some((id, node?))).collect()
    }

    async fn adopt_one(self: Arc<Self>, id: Uuid, ahead: Option<NodeId>) {
        let latest = match ahead {
            Some(node) => {
                let asked = self.workers(node).ask(GATHER_TIMEOUT, |reply| Message::Find(Wire(id), reply)).await;
                asked.ok().flatten().filter(|job| job.slip.id == id)
            }
            None => self.shown(id),
        };
        let Some(Job { slip, work, result }) = latest else {
            tracing::warn!(job = %id, "a job whose owner is gone can't be read now");
            return self.state().core.not_adopted(&[id]);
        };
        // Somebody took it over, or its owner is back.
        let decided = slip.owner == self.me() || self.answers(slip.owner);
        let next: Option<Slip> = self.change(|state, now| match decided {
            true => (None, state.core.heard(id, Some(slip), now)),
            false => (state.core.adopt(&slip), Vec::<Action>::new()),
        });
        match next {
            Some(next) => drop(self.write(next, Rest::New(work, result), Confirm::No).await),
            None => self.state().core.not_adopted(&[id]),
        }
    }
}
