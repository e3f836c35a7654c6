//! The heir's part of the desk: what other nodes' commands come to, as the ledger tells, and taking over those whose
//! owner is gone. When that is due is [`Wards`](crate::ownership::Wards)' business.

use super::{
    core::Action,
    desk::{Also, Desk, State},
    journal::{self, RECORDS},
    messages::{Record, Term},
};
use crate::ownership::Presence;
use std::sync::Arc;
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
                Some(record) => self.adopt(record).await,
                None => tracing::warn!(task = %id, "a task of a node that is gone can't be read here"),
            }
        }
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

    async fn adopt(&self, mut record: Record) {
        let me = self.context.directory.id();
        tracing::info!(task = %record.id, from = ?record.owner, "this node takes a task over");
        record.owner = me;
        record.term = record.term.next(me);
        let adopted = record.clone();
        let adopt = |state: &mut State, now| {
            // It may have become this node's own meanwhile.
            let known = state.core.get(adopted.id).is_some();
            ((), if known { Vec::new() } else { state.core.adopt(adopted, now) }, Also::default())
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
            return self.adopt(record.clone()).await;
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
