//! Goals over HTTP.

use crate::stage::{Stage, answer, events, json, problem};
use poem::http::StatusCode;
use serde_json::json;
use skep_actors::{
    Context,
    agent::{self, AgentError, Goal, Message, Run, RunState, Step, messages::Event},
    budget::BudgetError,
    organism,
    runtime::{NodeId, Wire},
    thread,
};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);
const GONE: Uuid = Uuid::from_u128(8);

fn run(goal: Goal, node: NodeId, state: RunState) -> Run {
    let step = Step {
        number: 1,
        tool: "think".into(),
        args: r#"{"a":1}"#.into(),
        result: Some("two\nlines".into()),
        state: RunState::Completed,
        elapsed_ms: 12,
        tokens: 34,
    };
    Run {
        id: ID,
        goal,
        node,
        thread: ID,
        state,
        steps: vec![step],
        children: vec![],
        exhausted: false,
        output: Some("done".into()),
        error: None,
        prompt_tokens: 0,
        answered_by: None,
        context: None,
        tokens: 34,
        created_ms: 1_700_000_000_000,
        completed_ms: None,
    }
}

fn goal(goal: &str) -> Goal {
    Goal {
        goal: goal.into(),
        strategy: agent::Strategy::Answer,
        tools: vec![],
        sandbox: None,
        model: None,
        node: None,
        budget: 10,
        budget_cost: None,
        parent: None,
        documents: vec![],
        folder: None,
        warrant: Default::default(),
        seat: None,
        agent: None,
    }
}

fn act(context: Context) -> impl FnMut(Message) + Send {
    let me = context.directory.id();
    let known = |id: Uuid| if id == ID { Ok(()) } else { Err(AgentError::NoSuchRun(id)) };
    move |message| match message {
        Message::Start(Wire(goal), port) if goal.budget == 1 => {
            drop(goal);
            answer(port, Err(AgentError::Budget(BudgetError::Exhausted { wanted: 9, remaining: 1, max: 1 })));
        }
        Message::Start(Wire(goal), port) => answer(port, Ok(run(goal, me, RunState::Running))),
        Message::Get(Wire(id), port) => answer(port, known(id).map(|()| run(goal("why"), me, RunState::Running))),
        Message::Cancel(Wire(id), port) => answer(port, known(id).map(|()| run(goal("why"), me, RunState::Cancelled))),
        Message::List(_, port) => {
            answer(port, vec![run(goal("why\nnot"), me, RunState::Running), run(goal("old"), me, RunState::Lost)]);
        }
        Message::Follow(Wire((id, to, ticket)), port) => {
            answer(port, known(id));
            let told = vec![
                Event::Run(Box::new(run(goal("why"), me, RunState::Completed))),
                Event::Budget { spent: 1, held: 2, max: 3 },
                Event::End,
            ];
            Stage::stream(context.clone(), to, ticket, told);
        }
        _ => {}
    }
}

async fn stage() -> Stage {
    let stage = Stage::new().await;
    let script = act(stage.context().clone());
    stage.play(agent::NAME, script).await;
    stage
        .play(organism::NAME, |message| {
            if let organism::Message::List(port) = message {
                answer(port, Ok(organism::messages::Listed::default()));
            }
        })
        .await;
    stage
        .play(thread::NAME, |message| {
            if let thread::Message::Activity(port) = message {
                answer(port, Vec::new());
            }
        })
        .await;
    stage
}

#[tokio::test]
async fn a_goal_is_taken_and_its_strategy_follows_from_what_it_brings() {
    let stage = stage().await;
    let check = async |body, strategy: &str| {
        let (status, run) = json(stage.post_json("/api/agents", body).await).await;
        assert_eq!((status, &run["strategy"]), (200, &json!(strategy)));
        run
    };
    let run = check(json!({"goal": "why", "tools": []}), "answer").await;
    assert_eq!((&run["budget"], &run["steps"][0]["args"]), (&json!(100_000), &json!({"a": 1})));
    check(json!({"goal": "why", "tools": ["spawn_sub_agent"]}), "react").await;
    check(json!({"goal": "why", "documents": [{"name": "a", "text": "b"}]}), "map_reduce").await;
    check(json!({"goal": "why", "tools": ["x"], "strategy": "answer"}), "answer").await;
}

#[tokio::test]
async fn both_documented_views_are_in_the_list() {
    let (_, list) = json(stage().await.get("/api/agents").send().await).await;
    assert_eq!((&list["count"], &list["runs_count"]), (&json!(2), &json!(2)));
    assert_eq!((&list["agents"][0]["name"], &list["agents"][0]["state"]), (&json!("main"), &json!("Idle")));
    assert_eq!((&list["agents"][1]["name"], &list["agents"][1]["state"]), (&json!("why"), &json!("Running")));
    assert_eq!((&list["runs"][1]["status"], &list["runs"][1]["lost"]), (&json!("failed"), &json!(true)));
    let (_, runs) = json(stage().await.get("/api/agents?view=runs").send().await).await;
    assert_eq!(runs, list["runs"]);
    let (_, only) = json(stage().await.get("/api/agents?kind=instance").send().await).await;
    assert_eq!((&only["count"], &only["runs_count"]), (&json!(2), &json!(0)));
    let (status, odd) = json(stage().await.get("/api/agents?kind=bee").send().await).await;
    assert_eq!((status, &odd["field"]), (400, &json!("kind")));
}

#[tokio::test]
async fn an_unknown_run_is_a_404_in_the_documented_words() {
    let stage = stage().await;
    let text = format!("Agent not found: {GONE}");
    for path in ["", "/log", "/events"] {
        problem(stage.get(&format!("/api/agents/{GONE}{path}")).send().await, 404, &text).await;
    }
    problem(stage.post(&format!("/api/agents/{GONE}/cancel")).send().await, 404, &text).await;
    problem(stage.get("/api/agents/nonsense").send().await, 404, "Agent not found: nonsense").await;
}

#[tokio::test]
async fn an_exhausted_budget_is_a_402() {
    let response = stage().await.post_json("/api/agents", json!({"goal": "why", "budget": 1})).await;
    let problem = problem(response, 402, "the budget is exhausted: 9 tokens are needed, 1 of 1 remain").await;
    assert_eq!(problem["code"], "insufficient_quota");
}

#[tokio::test]
async fn a_run_is_ended_and_told_as_text() {
    let stage = stage().await;
    stage.post(&format!("/api/agents/{ID}/cancel")).send().await.assert_status(StatusCode::NO_CONTENT);
    let response = stage.get(&format!("/api/agents/{ID}/log")).send().await;
    response.assert_content_type("text/plain; charset=utf-8");
    let text = response.0.into_body().into_string().await.unwrap();
    assert!(text.contains("  1. think {\"a\":1} (completed, 12 ms, 34 tokens)\n     two\n     lines\n"), "{text}");
}

#[tokio::test]
async fn a_run_is_followed_to_its_end() {
    let told = events(stage().await.get(&format!("/api/agents/{ID}/events")).send().await).await;
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["run", "budget", "end"]);
    assert!(told[0].1.contains(r#""status":"completed""#) && told[0].1.contains(r#""type":"run""#), "{}", told[0].1);
}

#[tokio::test]
async fn templates_lie_beside_the_runs() {
    let (status, list) = json(stage().await.get("/api/agents/templates").send().await).await;
    assert_eq!(status, 200);
    assert!(list.as_array().unwrap().iter().all(|t| t["goal"].is_string() && t["tools"].is_array()));
}
