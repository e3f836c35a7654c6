//! `/api/agents/:id/log`: a run's steps as plain text, for people.

use super::{run::AgentRun, runs::run_id};
use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{OpenApi, param::Path, payload::PlainText};
use skep_actors::{
    Context,
    agent::{self, Message},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};
use std::fmt::Write;

/// Endpoints of the logs.
#[derive(Clone)]
pub struct Log(pub Context);

#[OpenApi(prefix_path = "/api/agents", tag = "Tag::Agents")]
impl Log {
    /// Show a run as text
    #[oai(path = "/:id/log", method = "get", operation_id = "agents_log")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<PlainText<String>> {
        let id = run_id(&id.0)?;
        let agents = self.0.directory.here::<Message>(agent::NAME);
        let run = agents.ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(PlainText(text(&run.into())))
    }
}

fn text(run: &AgentRun) -> String {
    let mut text = format!("{}  {}\n", run.created_at, run.goal);
    for step in &run.steps {
        let status = format!("{:?}", step.status).to_lowercase();
        let args = &step.args.0;
        let line = format!(
            "{:>3}. {} {args} ({status}, {} ms, {} tokens)",
            step.number, step.tool, step.elapsed_time_ms, step.tokens
        );
        add(&mut text, &line);
        if let Some(result) = &step.result {
            result.lines().for_each(|line| add(&mut text, &format!("     {line}")));
        }
    }
    for child in &run.children {
        add(&mut text, &format!("  +  sub-agent {} on {}", child.id, child.node_id));
    }
    if let Some(error) = &run.error {
        add(&mut text, &format!("failed: {error}"));
    }
    if let Some(output) = &run.output {
        add(&mut text, &format!("\n{output}"));
    }
    text
}

fn add(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string can't fail");
}
