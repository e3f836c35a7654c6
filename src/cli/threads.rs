//! `skep threads`: what was said to agents and what they answered.

use super::{Here, path_part, screen};
use clap::{Args, Subcommand};
use serde_json::Value;

#[derive(Args)]
pub(crate) struct Threads {
    #[command(subcommand)]
    what: Option<What>,
    /// active, completed, error or killed: only these.
    #[arg(long)]
    status: Option<String>,
    /// Only those in which this agent takes part.
    #[arg(long)]
    agent: Option<String>,
}

#[derive(Subcommand)]
enum What {
    /// What was said in a thread.
    Show {
        /// Its id.
        thread: String,
    },
    /// End a thread: what is being thought in it is given up.
    Kill {
        /// Its id.
        thread: String,
    },
}

impl Threads {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        match self.what {
            Some(What::Show { thread }) => {
                let said = client.get(&format!("/api/sessions/{}/messages", path_part(&thread))).await?;
                if here.json {
                    screen::json(&said);
                    return Ok(());
                }
                for message in said["messages"].as_array().into_iter().flatten() {
                    let sign = match message["role"].as_str() {
                        Some("user") => ">",
                        Some("system") => "!",
                        _ => "<",
                    };
                    screen::say!("{sign} {}", screen::text(&message["content"]));
                }
            }
            Some(What::Kill { thread }) => {
                let killed = client.post(&format!("/api/v1/threads/{}/kill", path_part(&thread)), &Value::Null).await?;
                match here.json {
                    true => screen::json(&killed),
                    false => screen::done(format!("thread {} is ended", screen::text(&killed["threadId"]))),
                }
            }
            None => {
                let mut path = "/api/v1/threads?limit=100".to_owned();
                for (name, value) in [("status", &self.status), ("agent", &self.agent)] {
                    value.iter().for_each(|value| path.push_str(&format!("&{name}={}", path_part(value))));
                }
                let threads = client.get(&path).await?;
                if here.json {
                    screen::json(&threads);
                    return Ok(());
                }
                let row = |thread: &Value| {
                    vec![
                        screen::text(&thread["id"]),
                        screen::state(&screen::text(&thread["status"])),
                        screen::text(&thread["agent"]),
                        thread["messageCount"].to_string(),
                        screen::text(&thread["lastActivity"]),
                    ]
                };
                let rows: Vec<_> = threads["threads"].as_array().into_iter().flatten().map(row).collect();
                screen::table(&["THREAD", "STATUS", "AGENT", "MESSAGES", "LAST"], &rows);
            }
        }
        Ok(())
    }
}
