//! `skep budget`: what threads may spend and have spent, and what tokens cost.

use super::{Here, screen};
use crate::client::Client;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Budget {
    #[command(subcommand)]
    action: Option<Action>,
    /// One thread.
    thread: Option<String>,
}

#[derive(Subcommand)]
enum Action {
    /// What a million tokens of models cost, in the whole swarm; or change it.
    Prices {
        #[command(subcommand)]
        change: Option<Change>,
    },
}

#[derive(Subcommand)]
enum Change {
    /// Give all models a price whose names begin so; the longest beginning that fits a name counts.
    Set {
        /// What their names begin with.
        model: String,
        /// Money for a million tokens of prompts.
        prompt: f64,
        /// Money for a million tokens of completions.
        completion: f64,
    },
    /// Take a price away.
    Rm {
        /// What the models' names begin with.
        model: String,
    },
}

impl Budget {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        if let Some(Action::Prices { change }) = self.action {
            return prices(here, &client, change).await;
        }
        let answer = match &self.thread {
            Some(thread) => client.get(&format!("/api/v1/usage/threads/{}", super::path_part(thread))).await?,
            None => client.get("/api/v1/usage/threads").await?,
        };
        if here.json {
            screen::json(&answer);
            return Ok(());
        }
        let threads = answer["threads"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
        let row = |t: &Value| {
            vec![
                screen::text(&t["thread_id"]),
                t["total_tokens"].to_string(),
                t["max_tokens"].to_string(),
                t["remaining"].to_string(),
                format!("{:.1} %", t["percent_used"].as_f64().unwrap_or_default()),
                t["total_cost"].to_string(),
                screen::text(&t["max_cost"]),
            ]
        };
        let rows = threads.iter().map(row).collect::<Vec<_>>();
        screen::table(&["THREAD", "SPENT", "BUDGET", "LEFT", "USED", "COST", "COST MAX"], &rows);
        Ok(())
    }
}

/// Shows the prices, changed or as they are.
async fn prices(here: &Here, client: &Client, change: Option<Change>) -> anyhow::Result<()> {
    let mut table = client.get("/api/prices").await?;
    if let Some(change) = change {
        let prices = table["prices"].as_array().cloned().unwrap_or_default();
        table = client.put("/api/prices", &json!({ "prices": changed(prices, change)? })).await?;
    }
    if here.json {
        screen::json(&table);
        return Ok(());
    }
    let row = |p: &Value| vec![screen::text(&p["model"]), p["prompt"].to_string(), p["completion"].to_string()];
    let rows: Vec<_> = table["prices"].as_array().into_iter().flatten().map(row).collect();
    screen::table(&["MODEL", "PROMPT /M", "COMPLETION /M"], &rows);
    Ok(())
}

fn changed(mut prices: Vec<Value>, change: Change) -> anyhow::Result<Vec<Value>> {
    let (Change::Set { model, .. } | Change::Rm { model }) = &change;
    let before = prices.len();
    prices.retain(|price| price["model"] != model.as_str());
    match change {
        Change::Set { model, prompt, completion } => {
            prices.push(json!({ "model": model, "prompt": prompt, "completion": completion }));
        }
        Change::Rm { model } if prices.len() == before => anyhow::bail!("{model} has no price"),
        Change::Rm { .. } => {}
    }
    Ok(prices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_replaced_and_taken_away() {
        let set = |prompt| Change::Set { model: "m".into(), prompt, completion: 2.0 };
        let prices = changed(changed(Vec::new(), set(1.0)).unwrap(), set(0.5)).unwrap();
        assert_eq!(prices, [json!({ "model": "m", "prompt": 0.5, "completion": 2.0 })]);
        assert!(changed(prices.clone(), Change::Rm { model: "x".into() }).is_err());
        assert!(changed(prices, Change::Rm { model: "m".into() }).unwrap().is_empty());
    }
}
