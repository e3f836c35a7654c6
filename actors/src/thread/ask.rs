//! An agent asks another one: in the same thread, out of the same budget, by a turn of that one's own.
//!
//! Whether it may is decided here, by its definition as it is now, and not by who says that it asks: the turn that it asks
//! in has to be one that this node has running for it. Peers go in no circle, so who waits never waits for itself.

use super::{
    desk::Desk,
    messages::{Ask, Role, Said, State, ThreadError},
};
use crate::{agent, scheduler::spec};
use std::sync::Arc;

/// Bytes of a question: the words of a model.
const ASK_BYTES_MAX: usize = 8 << 10;

impl Desk {
    /// Asks, and waits for the answer. The same question is asked once.
    pub(super) async fn asked(self: &Arc<Self>, ask: Ask) -> Result<String, ThreadError> {
        let turn = spec::named_by(&format!("ask\0{}", ask.key));
        let known = self.turn(turn).ok();
        if known.is_none() {
            self.begin_ask(&ask, turn).await?;
        } else if known.is_some_and(|known| known.thread != ask.thread) {
            return Err(ThreadError::NoSuchTurn(ask.turn));
        }
        let ended = self.awaited(turn).await?;
        match ended.state {
            State::Completed => Ok(self.exchange(turn)?.answered.map(|said| said.content()).unwrap_or_default()),
            _ => Err(ThreadError::Failed(format!(
                "{} could not answer: {}",
                ask.to,
                ended.error.unwrap_or_else(|| "it was ended".into())
            ))),
        }
    }

    async fn begin_ask(&self, ask: &Ask, turn: uuid::Uuid) -> Result<(), ThreadError> {
        let asker = self.core().turn(ask.turn).filter(|asker| asker.thread == ask.thread).cloned();
        let asker = asker.filter(|asker| asker.state == State::Running).ok_or(ThreadError::NoSuchTurn(ask.turn))?;
        let from = self.agent(&asker.agent)?.ok_or_else(|| ThreadError::NoSuchAgent(asker.agent.clone()))?;
        if !from.may_ask(&ask.to) {
            return Err(ThreadError::NoPeer { from: from.name, to: agent::bounded(&ask.to, 64) });
        }
        if ask.text.len() > ASK_BYTES_MAX {
            return Err(ThreadError::TooLarge { bytes: ask.text.len(), max: ASK_BYTES_MAX });
        }
        let payload = serde_json::json!({ "content": ask.text });
        let to = self.receiver(&ask.to, &payload)?;
        let said = Said {
            id: self.context.env.id(),
            thread: ask.thread,
            number: 0,
            from: from.name,
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
