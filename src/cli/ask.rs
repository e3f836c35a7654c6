//! `skep ask`: says something to an agent and waits for its answer.

use super::{Here, path_part, screen};
use crate::client::Client;
use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks at an answer that is worked on.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Args)]
pub(crate) struct Ask {
    /// The agent: `skep organism` lists them.
    agent: String,
    /// What to say.
    #[arg(required = true)]
    text: Vec<String>,
    /// In this thread, which knows what was said before; a new one if absent.
    #[arg(long, value_name = "THREAD")]
    thread: Option<String>,
    /// For a new thread: the most tokens that may be spent in it.
    #[arg(long, value_name = "TOKENS")]
    budget: Option<u64>,
    /// Print the thread's id and don't wait for the answer.
    #[arg(long)]
    detach: bool,
}

impl Ask {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let body = json!({
            "to": self.agent,
            "payload": { "content": self.text.join(" ") },
            "threadId": self.thread,
            "budget": self.budget,
        });
        let posted = client.post("/api/v1/inject", &body).await?;
        let thread = screen::text(&posted["threadId"]);
        if self.detach {
            match here.json {
                true => screen::json(&posted),
                false => screen::say!("{thread}"),
            }
            return Ok(());
        }
        let bar = screen::waiting(format!("{} thinks ...", self.agent));
        // Ctrl-C ends the thread: nobody waits for what it would cost.
        let id = screen::text(&posted["turnId"]);
        let turn = tokio::select! {
            turn = ended(&client, &id) => turn?,
            _ = tokio::signal::ctrl_c() => {
                client.post(&format!("/api/v1/threads/{}/kill", path_part(&thread)), &Value::Null).await?;
                bail!("the thread was killed");
            }
        };
        bar.finish_and_clear();
        let messages = client.get(&format!("/api/sessions/{}/messages", path_part(&thread))).await?;
        let answer = messages["messages"].as_array().into_iter().flatten().rev();
        let answer =
            answer.clone().find(|said| said["turn_id"] == posted["turnId"] && said["role"] == "assistant").cloned();
        if here.json {
            screen::json(&json!({ "thread": thread, "turn": turn, "answer": answer }));
        } else if let Some(answer) = &answer {
            screen::say!("{}", screen::text(&answer["content"]));
            screen::note!("{} tokens; go on with `skep ask {} --thread {thread} ...`", tokens(&turn), self.agent);
        }
        match turn["status"].as_str() {
            Some("completed") => Ok(()),
            _ => bail!("{}", turn["error"].as_str().unwrap_or("it was not answered")),
        }
    }
}

fn tokens(turn: &Value) -> u64 {
    turn["tokens_in"].as_u64().unwrap_or(0) + turn["tokens_out"].as_u64().unwrap_or(0)
}

/// A turn, once it has ended.
async fn ended(client: &Client, id: &str) -> anyhow::Result<Value> {
    loop {
        let turn = client.get(&format!("/api/turns/{}", path_part(id))).await?;
        if !matches!(turn["status"].as_str(), Some("waiting" | "running")) {
            return Ok(turn);
        }
        sleep(LOOK).await;
    }
}
