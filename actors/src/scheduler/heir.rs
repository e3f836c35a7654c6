//! The heir's part of the desk: what other nodes' commands come to, as the ledger tells, and taking over those whose
//! owner is gone. When that is due is [`Wards`](crate::ownership::Wards)' business.

use super::{
    core::Action,
    desk::{Also, Desk, State},
    journal::{self, RECORDS},
    messages::{Record, Term},
};
use crate::ownership::{Presence, Want, lease::Holding};
use std::{collections::BTreeSet, sync::Arc};
use uuid::Uuid;

impl Desk {
    /// Follows what others do to records, for as long as the node runs. Before it acts on anything of its own, it waits
    /// until it knows what they did while it was away.
    pub(super) async fn learn(self: Arc<Self>) {
        let ledger = &self.context.ledger;
        let feed = ledger.feed(RECORDS);
        ledger.caught_up().await;
        for id in feed.take().iter().filter_map(|id| Uuid::from_slice(id).ok()) {
            self.heard_of(id).await;
        }
        self.change(|state, now| ((), state.core.release(now), Also::default())).await;
        self.wake();
        let awaited: Vec<Uuid> = self.state().core.awaited_elsewhere().collect();
        self.look_at(awaited).await;
        loop {
            for id in feed.next().await.iter().filter_map(|id| Uuid::from_slice(id).ok()) {
                self.heard_of(id).await;
            }
        }
    }

    /// Takes over what is due.
    pub(super) async fn inherit(&self) {
        let me = self.context.directory.id();
        let due = {
            let mut state = self.state();
            let State { core, wards, .. } = &mut *state;
            let uptime = self.now().uptime;
            if core.is_held() { Vec::new() } else { wards.due(me, core.nodes().map(Presence::from), uptime) }
        };
        for id in due {
            match self.known(id) {
                // That takes votes; until there are some, it is due again.
                Some(record) if record.is_single() => {
                    let mut state = self.state();
                    state.wards.note(id, Some(record.stands()));
                    state.coveted.insert(id);
                }
                Some(record) => self.adopt(record, None).await,
                None => tracing::warn!(task = %id, "a task of a node that is gone can't be read here"),
            }
        }
    }

    /// Asks for votes for what never may run twice at once: what is due, and what this node owned before the others went on
    /// without it.
    pub(super) fn stand(self: &Arc<Self>) {
        let ownership = &self.context.ownership;
        let wants: Vec<Uuid> = {
            let mut state = self.state();
            ownership.need(super::NAME, state.core.has_singles());
            let mut wants: BTreeSet<Uuid> = std::mem::take(&mut state.coveted);
            if !state.core.is_held() {
                wants.extend(state.core.forfeited(ownership.epoch()));
            }
            if state.standing || wants.is_empty() {
                return;
            }
            state.standing = true;
            wants.into_iter().collect()
        };
        let desk = self.clone();
        self.tasks.spawn(async move {
            let held = |id: &Uuid| Some((*id, desk.known(*id)?.holding()));
            let wants = wants.iter().filter_map(held).map(|(id, held)| Want {
                id: id.as_bytes().to_vec(),
                held: Some(held),
                first: held.term,
            });
            let won = desk.context.ownership.win(RECORDS, wants.collect()).await;
            for (id, holding) in won {
                let known = Uuid::from_slice(&id).ok().and_then(|id| desk.known(id));
                // It may have ended meanwhile, or be another's.
                let open = |record: &Record| record.is_single() || desk.is_ending(record.id);
                match known.filter(|record| open(record) && record.term < holding.term) {
                    Some(record) => desk.adopt(record, Some(holding)).await,
                    None => tracing::debug!("a task that others voted for is no longer to be had"),
                }
            }
            desk.state().standing = false;
        });
    }

    /// Another node decides about these now: this one lets go of them, and notes who does.
    pub(super) async fn disown(self: Arc<Self>, ids: Vec<Uuid>) {
        for id in ids {
            self.change(|state, _| ((), state.core.disown(id), Also::default())).await;
            self.heard_of(id).await;
        }
    }

    /// A record as the ledger has it here.
    pub(super) fn known(&self, id: Uuid) -> Option<Record> {
        journal::known(&self.context.ledger, id)
    }

    async fn adopt(&self, mut record: Record, won: Option<Holding>) {
        let me = self.context.directory.id();
        tracing::info!(task = %record.id, from = ?record.owner, "this node takes a task over");
        record.owner = me;
        record.term = won.map_or_else(|| record.term.next(me), |won| won.term);
        record.epoch = won.map_or(record.epoch, |won| won.epoch);
        let adopted = record.clone();
        let adopt = |state: &mut State, now| {
            // It may have become this node's own meanwhile, or be so in an earlier epoch.
            let known = state.core.get(adopted.id).is_some_and(|own| own.term >= adopted.term || won.is_none());
            if known {
                return ((), Vec::new(), Also::default());
            }
            let mut actions = state.core.disown(adopted.id);
            actions.clear();
            actions.extend(state.core.adopt(adopted, now));
            ((), actions, Also::default())
        };
        let after = record.spec.course.after.clone();
        self.change(adopt).await;
        self.look_at(after).await;
        self.count("adopted");
    }

    /// Somebody else wrote a record.
    async fn heard_of(&self, id: Uuid) {
        let me = self.context.directory.id();
        let record = self.known(id);
        // This node's own, but not known to it: its disk was lost, and the others gave it back.
        let lost = record.as_ref().filter(|record| record.owner == me && self.state().core.get(id).is_none());
        if let Some(record) = lost {
            return self.adopt(record.clone(), None).await;
        }
        self.change(|state, now| {
            state.wards.note(id, record.as_ref().filter(|record| record.owner != me).map(Record::stands));
            let mut actions = Vec::new();
            let term = record.as_ref().map_or(Term(u64::MAX), |record| record.term);
            if state.core.get(id).is_some_and(|own| own.term < term) {
                actions = state.core.disown(id);
            }
            // An heir goes by what it knows; of a later attempt, which runs here, it may never have heard.
            if let Some(row) = record.as_ref().and_then(|record| state.runs.supersede(me, record)) {
                actions.push(Action::Stop(me, id, row.attempt, row.term));
            }
            if let Some(ended) = record.as_ref().map(|record| record.state).filter(|state| state.ended())
                && state.core.is_awaited(id)
            {
                actions.extend(state.core.prerequisite(id, Some(ended), now));
            }
            ((), actions, Also::default())
        })
        .await;
    }
}
