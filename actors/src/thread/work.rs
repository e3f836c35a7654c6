//! Goals that are no agent's: each is a thread with one turn, so that it is on record with others and goes on elsewhere when
//! the node dies that works on it.
//!
//! Not here: what a goal may say, and its documents (`agent::given`).

use super::{
    desk::Desk,
    messages::{NewThread, Origin, Role, Said, ThreadError, Turn},
    records::TURNS,
};
use crate::{
    agent::{Goal, Seat},
    ledger::Ledger,
    organism,
};
use skep_runtime::store;
use std::collections::BTreeSet;
use uuid::Uuid;

/// What goals say that have not ended.
///
/// # Errors
/// Their records can't be read.
pub(crate) fn open_goals<T: Ord>(
    ledger: &Ledger,
    what: impl Fn(&Goal) -> Option<T>,
) -> Result<BTreeSet<T>, store::Error> {
    let mut found = BTreeSet::new();
    ledger.visit(TURNS, |record| {
        let open = record.value.goal.filter(|_| !record.value.state.ended());
        found.extend(open.as_deref().and_then(&what));
    })?;
    Ok(found)
}

impl Desk {
    /// Has a goal worked on. The same id is the same goal.
    pub(super) async fn work(&self, (id, mut goal): (Uuid, Goal)) -> Result<Turn, ThreadError> {
        if let Ok(turn) = self.turn(id) {
            return Ok(turn);
        }
        let words = std::mem::take(&mut goal.goal);
        let new = NewThread {
            agent: organism::GOAL.into(),
            origin: Origin::Goal,
            title: None,
            model: goal.model.clone(),
            budget: (goal.budget > 0).then_some(goal.budget),
            budget_cost: goal.budget_cost,
        };
        self.begin_as(id, new).await?;
        let said = Said {
            id: self.context.env.id(),
            thread: id,
            number: 0,
            from: "user".into(),
            to: organism::GOAL.into(),
            role: Role::User,
            kind: "Goal".into(),
            payload: serde_json::json!({ "content": words }).to_string(),
            turn: Some(id),
            created_ms: self.now_ms(),
        };
        if let Err(error) = self.put_turn(said, id, None, false, Some(Box::new(goal))).await {
            self.discard(id).await;
            return Err(error);
        }
        self.turn(id)
    }

    /// The goal of a turn, as its next attempt is given it.
    pub(super) fn given(&self, turn: &Turn, goal: &Goal, words: String, remaining: u64) -> Goal {
        let seat = Seat {
            run: turn.run,
            turn: turn.id,
            thread: turn.thread,
            owner: self.context.directory.id(),
            agent: String::new(),
            instructions: String::new(),
            peers: Vec::new(),
            history: Vec::new(),
            done: turn.steps.clone(),
            waiting: 0,
        };
        Goal { goal: words, node: None, budget: remaining, seat: Some(Box::new(seat)), ..goal.clone() }
    }
}
