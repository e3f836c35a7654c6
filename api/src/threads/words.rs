//! The words of an answer as they come: what its model says is heard on the bus, and ends with what the thread has.
//!
//! An agent that calls tools says much that is no answer, so of such a one only the answer is told, at its end.

use skep_actors::{
    Context,
    event::{Heard, Subscription, What},
    thread::Posted,
};
use std::time::Duration;

/// How long a message waits until other nodes tell what happens there: a stream to each is opened.
const REACH_PATIENCE: Duration = Duration::from_secs(2);

/// What an agent says in a thread, from the moment on that this was made.
pub(super) struct Words {
    heard: Option<Subscription>,
    /// What was passed on.
    said: String,
    /// What that belongs to.
    generation: Option<String>,
}

impl Words {
    /// Listens. To be called before the agent is asked.
    pub(super) async fn listen(context: &Context) -> Words {
        let heard = context.events.subscribe();
        // Of a node that does not tell, the answer comes in one piece.
        let silent = context.events.reach(&context.members, REACH_PATIENCE).await;
        tracing::trace!(?silent, "an answer is listened for");
        Words { heard: Some(heard), said: String::new(), generation: None }
    }

    /// Nothing more is passed on before the end.
    pub(super) fn hush(&mut self) {
        self.heard = None;
    }

    /// The next words of this agent in that thread. Waits for ever if there are none. May be given up at any time.
    pub(super) async fn next(&mut self, posted: Posted, agent: &str) -> String {
        let thread = posted.thread.to_string();
        while let Some(heard) = &mut self.heard {
            let delta = match heard.next().await {
                Heard::Event(event) => match &event.what {
                    What::StreamChunk(chunk)
                        if chunk.thread_id.as_str() == thread && chunk.agent_id.as_str() == agent =>
                    {
                        let generation = chunk.generation_id.as_str();
                        if self.generation.get_or_insert_with(|| generation.to_owned()) != generation {
                            // It is begun anew: that would be put behind what was said before.
                            break;
                        }
                        chunk.delta.as_str().to_owned()
                    }
                    _ => continue,
                },
                // What follows a gap would be put where it doesn't belong.
                Heard::Missed(_) => break,
            };
            // As the answer is kept: without the space around it.
            let delta = if self.said.is_empty() { delta.trim_start().to_owned() } else { delta };
            if !delta.is_empty() {
                self.said.push_str(&delta);
                return delta;
            }
        }
        self.hush();
        std::future::pending().await
    }

    /// What of the answer was not passed on. `None`: something else was, and can't be taken back.
    pub(super) fn rest<'a>(&self, answer: &'a str) -> Option<&'a str> {
        // What is kept ends where its model began to go round in circles, and without the space behind it.
        let more_was_said = || self.said.starts_with(answer).then_some("");
        answer.strip_prefix(self.said.as_str()).or_else(more_was_said)
    }
}
