//! `skep label`: what the owner says of a machine, for `skep run --where`.

use super::{Here, screen};
use anyhow::bail;
use clap::Args;
use serde_json::{Map, Value, json};

#[derive(Args)]
pub(crate) struct Label {
    /// The machine: its id, the beginning of its id, or its name.
    node: String,

    /// KEY=VALUE gives it a label, KEY- takes one away; without any, its labels are shown.
    #[arg(value_name = "LABEL")]
    labels: Vec<String>,
}

impl Label {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let path = format!("/api/nodes/{}", super::path_part(&self.node));
        let answer = match self.labels.is_empty() {
            true => client.get(&path).await?,
            false => client.post(&format!("{path}/labels"), &change(&self.labels)?).await?,
        };
        let labels = &answer["labels"];
        if here.json {
            screen::json(labels);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| vec![screen::plain(key), screen::text(value)])
            .collect();
        match rows.is_empty() {
            true => screen::note!("{} has no labels: skep label {} KEY=VALUE", self.node, self.node),
            false => screen::table(&["LABEL", "VALUE"], &rows),
        }
        Ok(())
    }
}

fn change(labels: &[String]) -> anyhow::Result<Value> {
    let (mut set, mut remove) = (Map::new(), Vec::new());
    for label in labels {
        match (label.split_once('='), label.strip_suffix('-')) {
            (Some((key, value)), _) => drop(set.insert(key.into(), value.into())),
            (None, Some(key)) => remove.push(key),
            (None, None) => bail!("{label}: KEY=VALUE gives a label, KEY- takes one away"),
        }
    }
    Ok(json!({ "set": set, "remove": remove }))
}
