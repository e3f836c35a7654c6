//! An agent asks another one: in the same thread, out of the same budget, by a turn of that one's own.
//!
//! Whether it may is decided here, by its definition as it is now, and not by who says that it asks: the turn that it asks
//! in has to be one that this node has running for it. A definition's peers go in no circle; where two definitions became one,
//! they may, and who is waited for is refused here: nobody waits for itself.

use super::{
    desk::Desk,
    messages::{Ask, Role, Said, State, ThreadError, Turn},
};
use crate::{
    agent,
    organism::{AGENTS_MAX, Agent},
    scheduler::spec,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use uuid::Uuid;

/// Bytes of a question: the words of a model.
const ASK_BYTES_MAX: usize = 8 << 10;
/// How long an answer is waited for: as long as a call of a tool may take, so that whoever asked has given up by then.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5 * 60);

impl Desk {
    /// Asks, and waits for the answer. The same question is asked once.
    pub(super) async fn asked(self: &Arc<Self>, ask: Ask) -> Result<String, ThreadError> {
        let from = self.asker(&ask)?;
        // An attempt that was begun again may have come to another question by then: that is a new one.
        let Ask { key, thread, to, text, .. } = &ask;
        let turn = spec::named_by(&format!("ask\0{thread}\0{key}\0{to}\0{text}"));
        if self.turn(turn).is_err() {
            self.begin_ask(&ask, from.name, turn).await?;
        }
        self.core().wait_for(turn);
        let ended = timeout(ANSWER_TIME_MAX, self.awaited(turn)).await;
        let now_ms = self.now_ms();
        self.core().waited_for(turn, ended.is_err(), now_ms);
        let Ok(ended) = ended else {
            self.changed();
            self.wake();
            return Err(ThreadError::Failed(format!("{to} did not answer in time")));
        };
        let ended = ended?;
        match ended.state {
            State::Completed => Ok(self.exchange(turn)?.answered.map(|said| said.content()).unwrap_or_default()),
            _ => Err(ThreadError::Failed(format!(
                "{} could not answer: {}",
                ask.to,
                ended.error.unwrap_or_else(|| "it was ended".into())
            ))),
        }
    }

    /// Who asks, if it may: in a turn that this node has running for it, one of its peers, and nobody who waits for it.
    fn asker(&self, ask: &Ask) -> Result<Agent, ThreadError> {
        let asker = self.core().turn(ask.turn).filter(|asker| asker.thread == ask.thread).cloned();
        let asker = asker.filter(|asker| asker.state == State::Running).ok_or(ThreadError::NoSuchTurn(ask.turn))?;
        let from = self.agent(&asker.agent)?.ok_or_else(|| ThreadError::NoSuchAgent(asker.agent.clone()))?;
        if !from.may_ask(&ask.to) {
            return Err(ThreadError::NoPeer { from: from.name, to: agent::bounded(&ask.to, 64) });
        }
        if self.waiting_for(&asker)?.contains(&ask.to) {
            return Err(ThreadError::Circle { from: from.name, to: agent::bounded(&ask.to, 64) });
        }
        Ok(from)
    }

    /// The agents that can't go on before a turn has ended: its own, the one that asks in it, and on.
    pub(super) fn waiting_for(&self, turn: &Turn) -> Result<Vec<String>, ThreadError> {
        let (mut names, mut within) = (vec![turn.agent.clone()], turn.within);
        // No agent comes twice: there are no more than that.
        while let Some(outer) = within.filter(|_| names.len() < AGENTS_MAX) {
            let outer = self.turn(outer)?;
            names.push(outer.agent);
            within = outer.within;
        }
        Ok(names)
    }

    async fn begin_ask(&self, ask: &Ask, from: String, turn: Uuid) -> Result<(), ThreadError> {
        if ask.text.len() > ASK_BYTES_MAX {
            return Err(ThreadError::TooLarge { bytes: ask.text.len(), max: ASK_BYTES_MAX });
        }
        let payload = serde_json::json!({ "content": ask.text });
        let to = self.receiver(&ask.to, &payload)?;
        let said = Said {
            id: self.context.env.id(),
            thread: ask.thread,
            number: 0,
            from,
            to: to.name,
            role: Role::User,
            kind: to.payload,
            payload: payload.to_string(),
            turn: Some(turn),
            created_ms: self.now_ms(),
        };
        self.put_turn(said, turn, Some(ask.turn), false, None).await
    }
}
