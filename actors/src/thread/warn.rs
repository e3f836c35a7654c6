//! Tells a thread that most of its budget is spent: once at each threshold, as a message in it, which its agent reads with its
//! next prompt and people with the rest.

use super::{
    desk::{Desk, LOOK_PERIOD},
    messages::{Role, Said},
};
use crate::budget::{self, Warning};
use skep_runtime::defaults::ASK_TIMEOUT;
use std::sync::Arc;
use tokio::time::sleep;

/// Who says it.
const FROM: &str = "budget";

impl Desk {
    /// Listens for thresholds for as long as the node runs.
    pub(super) async fn heed(self: Arc<Self>) {
        loop {
            if let Ok(mut warnings) = budget::watch(&self.context).await {
                // What was passed while nobody listened.
                for known in self.budgets().ask(ASK_TIMEOUT, budget::Message::List).await.unwrap_or_default() {
                    for warning in Warning::since(None, &known) {
                        self.warn(warning).await;
                    }
                }
                while let Some(warning) = warnings.recv().await {
                    self.warn(warning).await;
                }
            }
            // Its actor starts anew, or this one was too slow.
            sleep(LOOK_PERIOD).await;
        }
    }

    async fn warn(&self, warning: Warning) {
        let thread = warning.thread;
        let (told, to) = {
            let mut core = self.core();
            let Ok(to) = core.thread(thread).map(|known| known.agent.clone()) else { return };
            (!core.warn(thread, warning.severity), to)
        };
        if told {
            return;
        }
        let said = Said {
            id: self.context.env.id(),
            thread,
            number: 0,
            from: FROM.into(),
            to,
            role: Role::System,
            kind: "Budget".into(),
            payload: serde_json::json!({ "content": warning.message }).to_string(),
            turn: None,
            created_ms: self.now_ms(),
        };
        let said = self.core().say(thread, said);
        let noted = match &said {
            Ok(said) => self.put(vec![self.in_term(said)]).await,
            // A thread that was killed or is full needs no warning.
            Err(_) => return,
        };
        match (noted, said) {
            (Ok(()), Ok(said)) => self.core().learn_said(&said),
            (error, _) => tracing::warn!(%thread, ?error, "a thread could not be told of its budget"),
        }
    }
}
