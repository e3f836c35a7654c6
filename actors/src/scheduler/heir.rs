//! The heir's part of the desk: what other nodes' commands come to, as the ledger tells, and taking over those whose
//! owner is gone. When that is due is [`Wards`](crate::ownership::Wards)' business.

use super::{
    core::Action,
    desk::{Also, Desk, State},
    journal::{self, RECORDS, Seen, Write},
    messages::{Record, Term},
};
use crate::ownership::{BALLOTS_MAX, Presence, Want, lease::Holding};
use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};
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
        for (id, owner) in due {
            match journal::read(&self.context.ledger, id).map(|seen| seen.record) {
                // That takes votes; until there are some, it is due again.
                Ok(Some(record)) if record.is_single() => {
                    let mut state = self.state();
                    state.wards.note(id, Some(record.stands()));
                    state.coveted.insert(id);
                }
                Ok(Some(record)) => self.adopt(record, None).await,
                Ok(None) => {
                    tracing::debug!(task = %id, "a task of a node that is gone was deleted meanwhile");
                    self.state().wards.note(id, None);
                }
                Err(error) => {
                    tracing::warn!(task = %id, %error, "a task of a node that is gone can't be read here");
                    self.state().wards.note(id, Some((owner, false)));
                }
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
            wants.retain(|id| state.core.get(*id).is_none());
            if !state.core.is_held() {
                wants.extend(state.core.forfeited(ownership.epoch()));
            }
            if state.standing || wants.is_empty() {
                return;
            }
            state.standing = true;
            let behind = wants.range((Excluded(state.stood), Unbounded)).chain(wants.range(..=state.stood));
            let next: Vec<Uuid> = behind.copied().collect();
            next.into_iter().take(BALLOTS_MAX).inspect(|id| state.stood = *id).collect()
        };
        let desk = self.clone();
        self.tasks.spawn(async move {
            let want = |id: &Uuid| {
                let Seen { version, record } = journal::read(&desk.context.ledger, *id).ok()?;
                let held = record?.holding();
                Some(Want { id: id.as_bytes().to_vec(), version, held: Some(held), first: held.term })
            };
            let won = desk.context.ownership.win(RECORDS, wants.iter().filter_map(want).collect()).await;
            for id in wants {
                let known = journal::read(&desk.context.ledger, id).map(|seen| seen.record);
                match (won.get(&id.as_bytes()[..]), known) {
                    (Some(holding), Ok(Some(record))) if record.term < holding.term => {
                        desk.adopt(record, Some(*holding)).await;
                    }
                    // It was deleted meanwhile. Said in this term, those who voted may forget that.
                    (Some(holding), Ok(None)) => {
                        let writes = vec![Write::NoRecord(id, holding.term)];
                        desk.change(|_, _| ((), Vec::new(), Also { writes, reply: None })).await;
                    }
                    // Its own, of which it knows nothing else: nobody else asks for that.
                    (None, Ok(Some(record))) if record.owner == desk.context.directory.id() => {
                        desk.state().coveted.insert(id);
                    }
                    _ => {}
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

    /// The same, to be shown.
    pub(super) fn told(&self, id: Uuid) -> Option<Record> {
        journal::told(&self.context.ledger, id)
    }

    async fn adopt(&self, record: Record, won: Option<Holding>) {
        let me = self.context.directory.id();
        tracing::info!(task = %record.id, from = ?record.owner, "this node takes a task over");
        let after = record.spec.course.after.clone();
        let adopt = |state: &mut State, now| {
            let own = state.core.get(record.id).filter(|own| own.term >= record.term).cloned();
            // It may have become this node's own meanwhile, or be so in a term that others don't count.
            let known = own.as_ref().is_some_and(|own| won.is_none_or(|won| own.term >= won.term));
            if known {
                return ((), Vec::new(), Also::default());
            }
            // What it decided may not have reached its disk yet.
            let record = own.unwrap_or(record);
            let term = won.map_or_else(|| record.term.next(me), |won| won.term);
            let epoch = won.map_or(record.epoch, |won| won.epoch);
            // It is no other's any more.
            state.wards.note(record.id, None);
            let mut actions = state.core.disown(record.id);
            actions.clear();
            actions.extend(state.core.adopt(Record { owner: me, term, epoch, ..record }, now));
            ((), actions, Also::default())
        };
        self.change(adopt).await;
        self.look_at(after).await;
        self.count("adopted");
    }

    /// Somebody else wrote a record.
    async fn heard_of(&self, id: Uuid) {
        let me = self.context.directory.id();
        let Seen { version, record } = match journal::read(&self.context.ledger, id) {
            Ok(seen) => seen,
            // Then nothing is known that it didn't know before.
            Err(error) => return tracing::warn!(task = %id, %error, "what became of a task can't be read here"),
        };
        // This node's own, but not known to it: its disk was lost, and the others gave it back.
        let lost = record.as_ref().filter(|record| record.owner == me && self.state().core.get(id).is_none());
        match lost {
            // What it decided about that one since may be lost, too: it asks those who voted.
            Some(record) if record.is_single() => {
                self.state().coveted.insert(id);
                return;
            }
            Some(record) => return self.adopt(record.clone(), None).await,
            None => {}
        }
        self.change(|state, now| {
            let theirs = record.as_ref().filter(|record| record.owner != me);
            state.wards.note_in(theirs.and_then(Record::gang), id, theirs.map(Record::stands));
            let mut actions = Vec::new();
            // A deletion, too, is somebody's in a term.
            let term = version.map(|version| Term(version.term));
            let later = |own: &Record| Some(own.term) < term || (record.is_none() && Some(own.term) == term);
            if state.core.get(id).is_some_and(later) {
                actions = state.core.disown(id);
            }
            // An heir goes by what it knows; of a later attempt, which runs here, it may never have heard.
            if let Some(row) = record.as_ref().and_then(|record| state.runs.supersede(me, record)) {
                actions.push(Action::Stop(me, id, row.attempt, row.term));
            }
            if let Some(ended) = record.as_ref().filter(|record| record.is_over()).map(|record| record.state)
                && state.core.is_awaited(id)
            {
                actions.extend(state.core.prerequisite(id, Some(ended), now));
            }
            ((), actions, Also::default())
        })
        .await;
    }
}
