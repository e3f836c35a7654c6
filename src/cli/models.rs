//! `skep models`: the models that this node knows, and the removal of one.

use super::{Here, screen};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Models {
    /// Remove this model from the disk.
    #[arg(long, value_name = "MODEL")]
    remove: Option<String>,
}

impl Models {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        if let Some(model) = self.remove {
            client.delete(&format!("/api/llm/models/{}", super::path_part(&model))).await?;
            if here.json {
                screen::json(&json!({ "removed": model }));
            } else {
                screen::done(format!("{model} is gone"));
            }
            return Ok(());
        }
        let models = client.get("/api/llm/models").await?;
        if here.json {
            screen::json(&models);
            return Ok(());
        }
        let models = models.as_array().cloned().unwrap_or_default();
        if models.is_empty() {
            screen::note!("No model here yet: `skep pull` fetches the default one.");
            return Ok(());
        }
        let rows: Vec<_> = models
            .iter()
            .map(|m| {
                vec![
                    screen::text(&m["model"]),
                    screen::bytes(m["required_ram"].as_u64().unwrap_or_default()),
                    screen::text(&m["quantization"]),
                    screen::text(&m["layers"]),
                    screen::text(&m["context"]),
                ]
            })
            .collect();
        screen::table(&["MODEL", "MEMORY", "QUANT", "LAYERS", "CONTEXT"], &rows);
        Ok(())
    }
}
