//! Models over HTTP; and the scripted model that OpenAI's tests talk to as well.

use crate::stage::{Stage, answer, events, json, problem};
use poem::http::StatusCode;
use serde_json::json;
use skep_actors::{
    Context,
    budget::{self, Budget, BudgetError, Reservation, Spent},
    model::{self, Model, ModelError, PullEvent, messages},
    node::{
        self, Card,
        messages::{CardModel, CardPipeline, Listed},
    },
    pipeline::{
        self, Chunk, Generate, GenerateError,
        messages::{Accepted, Finish, Session},
    },
    runtime::Wire,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) const MODEL: &str = "hf:owner/small.gguf";
pub(crate) const SESSION: Uuid = Uuid::from_u128(7);
/// The thread that is exhausted.
pub(crate) const SPENT: Uuid = Uuid::from_u128(7);

/// What the scripted actors were told.
#[derive(Clone)]
pub(crate) struct Heard {
    pub(crate) asked: Arc<Mutex<Vec<Generate>>>,
    /// What was settled, in order; a watch, so that tests can wait for it.
    pub(crate) settled: watch::Sender<Vec<(Reservation, Spent)>>,
    pub(crate) released: Arc<Mutex<u32>>,
}

/// A node with one model, which says "Hello", " world".
pub(crate) async fn stage() -> (Stage, Heard) {
    let stage = Stage::new().await;
    let heard = Heard { asked: Arc::default(), settled: watch::Sender::new(Vec::new()), released: Arc::default() };
    let context = stage.context().clone();
    stage.play(model::NAME, models(context.clone())).await;
    stage.play("pipeline/1", pipeline(context.clone(), heard.clone())).await;
    stage.play(budget::NAME, budgets(&context, heard.clone())).await;
    stage.play(node::NAME, nodes(context)).await;
    (stage, heard)
}

fn plan(context: &Context) -> messages::Plan {
    let stage = messages::Stage { node: context.directory.id(), from: 0, to: 4, weight_bytes: 99 };
    messages::Plan {
        model: MODEL.into(),
        digest: "d".into(),
        stages: vec![stage],
        predicted: 20.0,
        predicted_alone: Some(20.0),
        reason: "it fits".into(),
    }
}

fn models(context: Context) -> impl FnMut(model::Message) + Send {
    use model::Message;
    let known = |name: Option<String>| match name {
        None => Ok(()),
        Some(name) if name == MODEL => Ok(()),
        Some(name) => Err(ModelError::NoSuchModel(name)),
    };
    let model = Model {
        name: MODEL.into(),
        digest: "d".into(),
        bytes: 99,
        architecture: "llama".into(),
        quantization: "Q8_0".into(),
        layers: 4,
        hidden: 8,
        context: 2048,
        vocabulary: 100,
        source: "hf".into(),
        added_ms: 5000,
    };
    move |message| match message {
        Message::List(port) => answer(port, vec![model.clone()]),
        Message::Get(Wire(name), port) => answer(port, known(Some(name)).map(|()| model.clone())),
        Message::Plan(Wire(serve), port) => answer(port, known(serve.model).map(|()| plan(&context))),
        Message::Serve(Wire(serve), port) => {
            let served = messages::Served {
                model: MODEL.into(),
                node: context.directory.id(),
                actor: "pipeline/1".into(),
                plan: plan(&context),
            };
            answer(port, known(serve.model).map(|()| served));
        }
        Message::Delete(Wire(name), port) => answer(port, known(Some(name)).and(Err(ModelError::InUse(MODEL.into())))),
        Message::Pull(Wire((source, to, ticket)), port) => {
            answer(port, if source == "bad" { Err(ModelError::BadSource(source)) } else { Ok(()) });
            let told = vec![
                PullEvent::Stage("resolving".into()),
                PullEvent::Bytes { done: 5, total: 9 },
                PullEvent::Done(MODEL.into()),
            ];
            Stage::stream(context.clone(), to, ticket, told);
        }
        _ => {}
    }
}

fn pipeline(context: Context, heard: Heard) -> impl FnMut(pipeline::Message) + Send {
    use pipeline::Message;
    move |message| match message {
        Message::Count(Wire(turns), port) => answer(port, Ok(turns.len() as u64 * 5)),
        Message::Generate(Wire(request), port) => {
            let said = request.turns.last().map(|t| t.content.clone()).unwrap_or_default();
            if said == "busy" {
                return answer(port, Err(GenerateError::Busy(3)));
            }
            answer(port, Ok(Accepted { id: SESSION, prompt_tokens: 5 }));
            let text = |text: &str| Chunk::Text(text.into());
            let end = Chunk::End { reason: Finish::Stop, prompt_tokens: 5, completion_tokens: 2 };
            let lost = GenerateError::StageLost { stage: 1, node: request.to, reason: "gone".into() };
            let told = match said.as_str() {
                "break" => vec![text("Hel"), Chunk::Failed { error: lost, completion_tokens: 1 }],
                "vanish" => vec![text("Hel")],
                _ => vec![text("Hello"), text(" world"), end],
            };
            Stage::stream(context.clone(), request.to, request.ticket, told);
            heard.asked.lock().unwrap().push(request);
        }
        Message::Sessions(port) => {
            let session = Session {
                id: SESSION,
                model: MODEL.into(),
                nodes: vec![context.directory.id()],
                prompt_tokens: 5,
                completion_tokens: 2,
                tokens_per_second: 20.5,
                first_token_ms: 40,
                started_ms: 0,
            };
            answer(port, vec![session]);
        }
        _ => {}
    }
}

/// Budgets that must be opened first, but for one thread that is exhausted.
fn budgets(context: &Context, heard: Heard) -> impl FnMut(budget::Message) + Send + use<> {
    use budget::Message;
    let owner = context.directory.id();
    let mut open = BTreeSet::new();
    let budget = move |thread| Budget::new(thread, owner, 10);
    move |message| match message {
        Message::Open(Wire((thread, _)), port) => {
            open.insert(thread);
            answer(port, Ok(budget(thread)));
        }
        Message::Get(Wire(thread), port) => {
            let known = thread == SPENT || open.contains(&thread);
            answer(port, known.then(|| budget(thread)).ok_or(BudgetError::NoSuchThread(thread)));
        }
        Message::Reserve(Wire((thread, call)), port) => {
            let tokens = call.prompt + call.completion;
            let reserved = if thread == SPENT {
                Err(BudgetError::Exhausted { wanted: tokens, remaining: 1, max: 10 })
            } else if open.contains(&thread) {
                Ok(Reservation { id: SESSION, thread, tokens })
            } else {
                Err(BudgetError::NoSuchThread(thread))
            };
            answer(port, reserved);
        }
        Message::Settle(Wire(settled), port) => {
            let thread = settled.0.thread;
            heard.settled.send_modify(|all| all.push(settled));
            answer(port, Ok(budget(thread)));
        }
        Message::Release(_, port) => {
            *heard.released.lock().unwrap() += 1;
            answer(port, ());
        }
        _ => {}
    }
}

fn nodes(context: Context) -> impl FnMut(node::Message) + Send {
    move |message| {
        if let node::Message::List(port) = message {
            let member = |i| context.members.now().values().nth(i).unwrap().as_ref().clone();
            let found = |name: &str| CardModel { name: name.into(), digest: "d".into(), bytes: 99, layers: 4 };
            let pipeline = CardPipeline { model: MODEL.into(), actor: "pipeline/1".into(), stages: 1 };
            let here = Card {
                models: vec![found(MODEL)],
                pipelines: vec![pipeline],
                memory_free_bytes: 500,
                ..Card::default()
            };
            let there = Card { models: vec![found(MODEL), found("other")], ..Card::default() };
            answer(
                port,
                vec![Listed { member: member(0), card: Some(here) }, Listed { member: member(1), card: Some(there) }],
            );
        }
    }
}

#[tokio::test]
async fn models_of_all_machines_are_listed_with_their_plans() {
    let (stage, _) = stage().await;
    let (_, models) = json(stage.get("/api/llm/models").send().await).await;
    assert_eq!(
        (&models[0]["model"], &models[0]["is_downloaded"], &models[0]["can_run"]),
        (&json!(MODEL), &json!(true), &json!(true))
    );
    assert_eq!(models[0]["shard_plan"]["shards"][0]["layer_end"], 4);
    assert_eq!(models[0]["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&models[1]["model"], &models[1]["is_downloaded"], &models[1]["can_run"]),
        (&json!("other"), &json!(false), &json!(false))
    );
}

#[tokio::test]
async fn a_model_is_planned_served_and_protected() {
    let (stage, _) = stage().await;
    let (_, plan) = json(stage.post_json("/api/llm/plan", json!({"model": MODEL})).await).await;
    assert_eq!(plan["predicted"], 20.0);
    let (_, served) = json(stage.post_json("/api/llm/serve", json!({"model": "auto"})).await).await;
    assert_eq!((&served["model"], &served["actor"]), (&json!(MODEL), &json!("pipeline/1")));
    let unknown = stage.post_json("/api/llm/plan", json!({"model": "x"})).await;
    problem(unknown, 404, "no such model: x (`skep models` lists them, `skep pull` fetches one)").await;
    stage.delete(&format!("/api/llm/models/{MODEL}")).send().await.assert_status(StatusCode::CONFLICT);
    stage.delete("/api/llm/models/x/y").send().await.assert_status(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_pull_tells_its_progress() {
    let (stage, _) = stage().await;
    let told = events(stage.post_json("/api/llm/pull", json!({"model": "hf:a/b/c"})).await).await;
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["llm_pull_progress", "llm_pull_progress", "llm_pull_done"]);
    assert!(told[1].1.contains(r#""completed":5"#) && told[1].1.contains(r#""total":9"#));
    stage.post_json("/api/llm/pull", json!({"model": "bad"})).await.assert_status(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_chat_is_told_word_by_word_and_settled() {
    let (stage, heard) = stage().await;
    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    let told = events(stage.post_json("/api/llm/chat", body).await).await;
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["llm_session_started", "inference_info", "llm_token", "llm_token", "llm_done"]);
    heard.settled.subscribe().wait_for(|all| all.len() == 1).await.unwrap();
    let (_, spent) = heard.settled.borrow()[0].clone();
    assert_eq!((spent.prompt, spent.completion, spent.agent.as_str()), (5, 2, "chat"));
}

#[tokio::test]
async fn running_generations_are_listed() {
    let (stage, _) = stage().await;
    let (_, sessions) = json(stage.get("/api/llm/inference/sessions").send().await).await;
    assert_eq!((&sessions[0]["phase"], &sessions[0]["shard_stat"]["was_local"]), (&json!("running"), &json!(true)));
    let (_, session) = json(stage.get(&format!("/api/llm/inference/sessions/{SESSION}")).send().await).await;
    assert_eq!(session["shard_stat"]["latency_ns"], 40_000_000);
    problem(stage.get("/api/llm/inference/sessions/x").send().await, 404, "Session not found: x").await;
    let (_, status) = json(stage.get("/api/llm/status").send().await).await;
    assert_eq!(
        status,
        json!({"ollama_ready": true, "local_models": [MODEL], "active_sessions": 1, "active_distrib_sessions": 0})
    );
    let (_, able) = json(stage.get("/api/llm/inference/capabilities").send().await).await;
    assert_eq!((&able[0]["free_ram"], &able[1]["models"]), (&json!(500), &json!([MODEL, "other"])));
}
