//! Usage over HTTP, in both spellings.

use crate::stage::{Stage, answer, json, problem};
use serde_json::json;
use skep_actors::{
    budget::{self, Budget, BudgetError, Message, Usage, messages::Sum},
    runtime::Wire,
};
use uuid::Uuid;

const THREAD: Uuid = Uuid::from_u128(7);

async fn stage() -> Stage {
    stage_that_resets(Ok(())).await
}

async fn stage_that_resets(reset: Result<(), BudgetError>) -> Stage {
    let stage = Stage::new().await;
    let owner = stage.context().directory.id();
    let budget = move || Budget {
        prompt: 600,
        completion: 150,
        reserved: 50,
        cost: 123_450,
        ..Budget::new(THREAD, owner, 1000)
    };
    let sum = Sum { prompt: 6, completion: 4, requests: 2, latency_ms: 30, cost: 98_765 };
    let mut prices = Vec::new();
    let script = move |message| match message {
        Message::Usage(port) => {
            let by_model = vec![("hf:o/m".to_owned(), sum.clone())];
            let usage =
                Usage { total: sum.clone(), by_agent: vec![("chat".into(), sum.clone())], by_model, active_threads: 1 };
            answer(port, usage);
        }
        Message::List(port) => answer(port, vec![budget()]),
        Message::Get(Wire(id), port) => {
            answer(port, if id == THREAD { Ok(budget()) } else { Err(BudgetError::NoSuchThread(id)) });
        }
        Message::ByNode(port) => answer(port, vec![(owner, sum.clone())]),
        Message::Prices(port) => answer(port, prices.clone()),
        Message::SetPrices(Wire(new), port) => {
            prices = new;
            answer(port, Ok(()));
        }
        Message::ResetUsage(port) => answer(port, reset.clone()),
        _ => {}
    };
    stage.play(budget::NAME, script).await;
    stage
}

#[tokio::test]
async fn totals_are_told_in_both_spellings() {
    let (_, answer) = json(stage().await.get("/api/v1/usage").send().await).await;
    let usage = &answer["usage"];
    assert_eq!((&usage["totals"]["total_tokens"], &usage["totals"]["totalTokens"]), (&json!(10), &json!(10)));
    assert_eq!(usage["totals"]["avgLatencyMs"], 15.0);
    assert_eq!((&usage["byAgent"][0]["agentId"], &usage["activeThreads"]), (&json!("chat"), &json!(1)));
    assert_eq!(usage["by_model"], usage["byModel"]);
    assert_eq!((&usage["totals"]["total_cost"], &usage["by_node"][0]["totalCost"]), (&json!(0.0988), &json!(0.0988)));
}

#[tokio::test]
async fn a_threads_budget_is_shown_and_an_unknown_one_is_not_made() {
    let stage = stage().await;
    let (_, list) = json(stage.get("/api/v1/usage/threads").send().await).await;
    assert_eq!((&list["count"], &list["default_max_tokens"]), (&json!(1), &json!(100_000)));
    let (_, budget) = json(stage.get(&format!("/api/v1/usage/threads/{THREAD}")).send().await).await;
    assert_eq!(
        (&budget["percent_used"], &budget["remaining"], &budget["is_exhausted"]),
        (&json!(75.0), &json!(200), &json!(false))
    );
    assert_eq!((&budget["total_cost"], &budget["max_cost"]), (&json!(0.1235), &json!(null)));
    assert_eq!((&budget["thread_id"], &budget["threadId"]), (&json!(THREAD.to_string()), &json!(THREAD.to_string())));
    let gone = Uuid::from_u128(8);
    let response = stage.get(&format!("/api/v1/usage/threads/{gone}")).send().await;
    problem(response, 404, &format!("No budget found for thread: {gone}")).await;
    let response = stage.get("/api/v1/usage/threads/x").send().await;
    problem(response, 404, "No budget found for thread: x").await;
}

#[tokio::test]
async fn whoever_is_not_known_has_used_nothing() {
    let stage = stage().await;
    let (_, agent) = json(stage.get("/api/v1/usage/agents/nobody").send().await).await;
    assert_eq!((&agent["agent_id"], &agent["total_tokens"]), (&json!("nobody"), &json!(0)));
    for path in ["hf:o/m", "hf:o%2Fm"] {
        let (_, model) = json(stage.get(&format!("/api/v1/usage/models/{path}")).send().await).await;
        assert_eq!((&model["model"], &model["request_count"]), (&json!("hf:o/m"), &json!(2)));
    }
    let (_, reset) = json(stage.post("/api/v1/usage/reset").send().await).await;
    assert_eq!(reset, json!({"success": true, "message": "Usage tracking reset"}));
}

#[tokio::test]
async fn prices_are_replaced_and_shown_to_the_millionth() {
    let stage = stage().await;
    let (_, none) = json(stage.get("/api/prices").send().await).await;
    assert_eq!(none, json!({ "prices": [] }));
    let table = json!({ "prices": [{ "model": "gpt-4o", "prompt": 2.5, "completion": 0.150001 }] });
    let (status, shown) = json(stage.put_json("/api/prices", table.clone()).await).await;
    assert_eq!((status, &shown), (200, &table));
    let wrong = json!({ "prices": [{ "model": "m", "prompt": -1, "completion": 0 }] });
    let (status, problem) = json(stage.put_json("/api/prices", wrong).await).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_field")), "{problem}");
}

#[tokio::test]
async fn a_reset_that_could_not_be_saved_is_no_success() {
    let full = BudgetError::Store("the disk is full".into());
    let response = stage_that_resets(Err(full.clone())).await.post("/api/v1/usage/reset").send().await;
    problem(response, 500, &full.to_string()).await;
}
