//! A swarm for tests of agents: the real budget and agents on every node, and in the place of models and pipelines
//! an actor that speaks from a script and counts what it really generated.

use super::{AgentError, Event, Goal, Message, NAME, Parent, Run, Strategy, actor, run};
use crate::{
    Context, approval, audit, blob,
    budget::{self, BudgetError},
    digest::Digest,
    ledger,
    model::{
        self, ModelError,
        messages::{Model, Plan, Served},
    },
    pipeline::{
        self, Chunk, Generate,
        messages::{Accepted, Finish},
    },
    testing::Swarm,
};
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Wire, frames};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

/// What the model says to a request.
pub(crate) type Script = Arc<dyn Fn(&Generate) -> BoxFuture<'static, String> + Send + Sync>;

/// Tokens of the scripted model's context.
pub(crate) const CONTEXT_TOKENS: u32 = 800;
/// Answers that begin so are said to have cost nothing, and everything.
pub(crate) const FREE: &str = "FREE";
pub(crate) const DEAR: &str = "DEAR";
/// Prompts with this in them are said to have no tokens.
pub(crate) const UNCOUNTED: &str = "UNCOUNTED";
const PIPELINE: &str = "pipeline/test";

/// Nodes with agents and a scripted model that lives on node 0.
pub(crate) struct Stage {
    pub(crate) swarm: Swarm,
    script: Script,
    generated: Arc<AtomicU64>,
}

impl Stage {
    pub(crate) async fn new(
        n: usize,
        script: impl Fn(&Generate) -> BoxFuture<'static, String> + Send + Sync + 'static,
    ) -> Stage {
        let stage = Stage { swarm: Swarm::new(n).await, script: Arc::new(script), generated: Arc::default() };
        for i in 0..n {
            stage.start(i).await;
        }
        stage
    }

    /// Starts node `i`'s actors.
    pub(crate) async fn start(&self, i: usize) {
        let (context, root) = (self.swarm.context(i), self.swarm.root(i));
        ledger::start(context, root.clone()).await.unwrap();
        blob::start(context, root.clone()).await.unwrap();
        audit::start(context, root.clone()).await.unwrap();
        approval::start(context, root.clone()).await.unwrap();
        budget::start(context, root.clone()).await.unwrap();
        let plan = Plan {
            model: "m".into(),
            digest: String::new(),
            stages: Vec::new(),
            predicted: 0.0,
            predicted_alone: None,
            reason: String::new(),
        };
        let served = Served { model: "m".into(), node: self.swarm.id(0), actor: PIPELINE.into(), plan };
        context.directory.spawn(model::NAME, Models, served, Some(root.clone())).await.unwrap();
        if i == 0 {
            let args = (context.clone(), self.script.clone(), self.generated.clone());
            context.directory.spawn(PIPELINE, Pipeline, args, Some(root.clone())).await.unwrap();
        }
        actor::start(context, root).await.unwrap();
    }

    /// Tokens that the model really read and wrote.
    pub(crate) fn generated(&self) -> u64 {
        self.generated.load(Ordering::SeqCst)
    }

    pub(crate) async fn ask<T>(&self, i: usize, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> Message) -> T
    where
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let agents = self.swarm.context(i).directory.here::<Message>(NAME);
        agents.ask(Duration::from_secs(120), make).await.unwrap()
    }

    pub(crate) async fn run(&self, goal: Goal) -> Run {
        self.ask(0, |r| Message::Start(Wire(goal), r)).await.unwrap()
    }

    /// The place of a sub-agent of this run on node 0.
    pub(crate) fn parent_of_one(&self, run: Uuid) -> Parent {
        let node = self.swarm.id(0);
        Parent {
            run,
            node,
            thread: run,
            budget_owner: node,
            root: run,
            root_node: node,
            turn: run,
            depth: 1,
            child: Uuid::from_u128(3),
            errand: Digest::of(b"an errand"),
        }
    }

    pub(crate) async fn get(&self, i: usize, id: Uuid) -> Result<Run, AgentError> {
        self.ask(i, |r| Message::Get(Wire(id), r)).await
    }

    /// Whether node `i` has a run at work.
    pub(crate) fn busy(&self, i: usize) -> bool {
        self.swarm.context(i).directory.names().iter().any(|name| name.starts_with(run::PREFIX))
    }

    /// Follows a run from node `i` until `until` says so, or to its end. Answers all that came.
    pub(crate) async fn follow(&self, i: usize, id: Uuid, mut until: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let context = self.swarm.context(i);
        let me = context.directory.id();
        let expected = context.directory.expect(me, context.env.ticket()).unwrap();
        let asked = Wire((id, me, expected.ticket()));
        self.ask(i, |r| Message::Follow(asked, r)).await.unwrap();
        let mut stream = expected.opened().await.unwrap();
        let mut events = Vec::new();
        while let Some(event) = frames::read::<Event>(&mut stream.reader).await.unwrap() {
            let stop = until(&event) || event == Event::End;
            events.push(event);
            if stop {
                break;
            }
        }
        events
    }

    /// Waits for a run's end; answers it and all that was seen.
    pub(crate) async fn end(&self, id: Uuid) -> (Run, Vec<Event>) {
        let events = self.follow(0, id, |_| false).await;
        assert_eq!(events.last(), Some(&Event::End));
        (self.get(0, id).await.unwrap(), events)
    }

    /// Tries to set a token of the thread aside on node 0.
    pub(crate) async fn reserve(&self, thread: Uuid) -> Result<budget::Reservation, BudgetError> {
        let budget = self.swarm.context(0).directory.here::<budget::Message>(budget::NAME);
        budget.ask(Duration::from_secs(5), |r| budget::Message::Reserve(Wire((thread, 1.into())), r)).await.unwrap()
    }

    pub(crate) async fn budget(&self, thread: Uuid) -> budget::Budget {
        let budget = self.swarm.context(0).directory.here::<budget::Message>(budget::NAME);
        budget.ask(Duration::from_secs(5), |r| budget::Message::Get(Wire(thread), r)).await.unwrap().unwrap()
    }
}

/// A goal with everything left open.
pub(crate) fn goal(strategy: Strategy, tools: &[&str], documents: usize) -> Goal {
    let text = |i: usize| format!("document {i} {}", "word ".repeat(40));
    Goal {
        goal: "the goal".into(),
        strategy,
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        budget: 100_000,
        documents: (0..documents).map(|i| (format!("d{i}"), text(i))).collect(),
        ..Goal::default()
    }
}

/// Words are the scripted model's tokens.
fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

struct Models;

impl Actor for Models {
    type Msg = model::Message;
    type State = Served;
    type Arguments = Served;

    async fn pre_start(&self, _: ActorRef<model::Message>, served: Served) -> Result<Served, ActorProcessingErr> {
        Ok(served)
    }

    async fn handle(
        &self,
        _: ActorRef<model::Message>,
        message: model::Message,
        served: &mut Served,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            model::Message::Serve(_, reply) => drop(reply.send(Wire(Ok(served.clone())))),
            // A model may take more than its pipeline has room for.
            model::Message::Get(Wire(name), reply) => {
                let model = Model {
                    name: name.clone(),
                    digest: String::new(),
                    bytes: 0,
                    architecture: "llama".into(),
                    quantization: "Q8_0".into(),
                    layers: 1,
                    hidden: 1,
                    context: 100 * CONTEXT_TOKENS,
                    vocabulary: 1,
                    source: String::new(),
                    added_ms: 0,
                };
                let known = if name == "m" { Ok(model) } else { Err(ModelError::NoSuchModel(name)) };
                drop(reply.send(Wire(known)));
            }
            _ => {}
        }
        Ok(())
    }
}

struct Pipeline;

impl Actor for Pipeline {
    type Msg = pipeline::Message;
    type State = (Context, Script, Arc<AtomicU64>);
    type Arguments = (Context, Script, Arc<AtomicU64>);

    async fn pre_start(
        &self,
        _: ActorRef<pipeline::Message>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _: ActorRef<pipeline::Message>,
        message: pipeline::Message,
        (context, script, generated): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let count = |turns: &[pipeline::Turn]| turns.iter().map(|turn| words(&turn.content) + 1).sum::<u64>();
        match message {
            pipeline::Message::Count(Wire(turns), reply) => {
                let lies = turns.iter().any(|turn| turn.content.contains(UNCOUNTED));
                drop(reply.send(Wire(Ok(if lies { 0 } else { count(&turns) }))));
            }
            pipeline::Message::Context(reply) => drop(reply.send(Wire(u64::from(CONTEXT_TOKENS)))),
            pipeline::Message::Generate(Wire(request), reply) => {
                let prompt_tokens = count(&request.turns);
                drop(reply.send(Wire(Ok(Accepted { id: Uuid::nil(), prompt_tokens }))));
                let (context, generated, said) = (context.clone(), generated.clone(), script(&request));
                context.clone().tasks.spawn(async move {
                    let Ok(mut stream) = context.directory.open(request.to, request.ticket).await else { return };
                    generated.fetch_add(prompt_tokens, Ordering::SeqCst);
                    let mut end = [0];
                    let (text, reason) = tokio::select! {
                        text = said => (text, Finish::Stop),
                        _ = stream.reader.read(&mut end) => (String::new(), Finish::Cancelled),
                    };
                    let kept: Vec<&str> = text.split_inclusive(' ').take(request.max_tokens as usize).collect();
                    let completion_tokens = words(&kept.concat());
                    generated.fetch_add(completion_tokens, Ordering::SeqCst);
                    let _ = frames::write(&mut stream.writer, &Chunk::Text(kept.concat())).await;
                    let (prompt_tokens, completion_tokens) = match text.split(' ').next() {
                        Some(FREE) => (0, 0),
                        Some(DEAR) => (u64::MAX, u64::MAX),
                        _ => (prompt_tokens, completion_tokens),
                    };
                    let _ = frames::write(&mut stream.writer, &Chunk::End { reason, prompt_tokens, completion_tokens })
                        .await;
                });
            }
            _ => {}
        }
        Ok(())
    }
}
