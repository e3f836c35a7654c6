//! One thread, one budget, whichever machine is asked.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Bee, Hive};
use serde_json::{Value, json};
use skep_engine::synthetic;

const THREAD: &str = "3f0c8a52-6f2e-4d53-9d4b-0f3f4f0e7a11";

/// About as many tokens as the made model's context holds.
const CHAT_TOKENS: u64 = 1024;
/// More chats than a thread's budget can pay for, if each costs half of that.
const CHATS_MAX: usize = 400;

/// A chat on this thread that asks for as much as there is room for.
async fn long_chat(bee: &Bee, model: &str) -> Result<u64, Value> {
    ask(bee, model, &"bees ".repeat(300), 1000).await
}

/// A chat on this thread that may cost this much; the tokens that it did cost, or the problem.
async fn chat(bee: &Bee, model: &str, max_tokens: u64) -> Result<u64, Value> {
    ask(bee, model, "bees", max_tokens).await
}

async fn ask(bee: &Bee, model: &str, text: &str, max_tokens: u64) -> Result<u64, Value> {
    let body = json!({
        "model": model, "thread_id": THREAD, "max_tokens": max_tokens, "temperature": 0,
        "messages": [{ "role": "user", "content": text }],
    });
    match bee.call("POST", "/v1/chat/completions", Some(body)).await {
        (200, answer) => Ok(answer["usage"]["total_tokens"].as_u64().unwrap()),
        (status, problem) => {
            assert_eq!((status, &problem["code"]), (402, &json!("insufficient_quota")), "{problem}");
            Err(problem)
        }
    }
}

#[tokio::test]
async fn a_budget_that_two_machines_use_at_once_is_exhausted_for_both_and_never_exceeded() {
    let hive = Hive::new();
    let model = "smallest";
    let shape =
        synthetic::Options { layers: 1, hidden: 32, heads: 1, kv_heads: 1, feed_forward: 32, ..Default::default() };
    synthetic::tiny_llama(hive.models().join("smallest.gguf"), 7, &shape).unwrap();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    chat(&alder, model, 8).await.unwrap();
    // Both go on until they are refused: what one has reserved, the other can't have.
    let exhaust = async |bee: &Bee| {
        let mut refusals = 0;
        for _ in 0..CHATS_MAX {
            match long_chat(bee, model).await {
                Ok(_) => refusals = 0,
                Err(_) => refusals += 1,
            }
            // The other's last reservation may come back once, when it has cost less.
            if refusals == 2 {
                return;
            }
        }
        panic!("{} was never refused", bee.name);
    };
    futures::join!(exhaust(&alder), exhaust(&birch));
    let path = format!("/api/v1/usage/threads/{THREAD}");
    let settled = |b: &Value| b["leased_tokens"] == 0 && b["reserved_tokens"] == 0;
    for bee in [&alder, &birch] {
        let budget = bee.until("all is settled", &path, settled).await;
        let (spent, max) = (budget["total_tokens"].as_u64().unwrap(), budget["max_tokens"].as_u64().unwrap());
        assert!(spent <= max && spent + CHAT_TOKENS > max, "{budget}");
        assert!(long_chat(bee, model).await.is_err());
    }
}

#[tokio::test]
async fn a_budget_that_two_machines_spend_from_is_counted_to_the_token() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    // The first use makes it, on the machine that is asked; the other finds it there.
    let mut sums = [chat(&alder, model, 20).await.unwrap(), 0];
    let path = format!("/api/v1/usage/threads/{THREAD}");
    sums[1] += chat(&birch, model, 20).await.unwrap();
    let settled = |b: &Value| b["leased_tokens"] == 0 && b["reserved_tokens"] == 0;
    for bee in [&alder, &birch] {
        let budget = bee.until("all is settled", &path, settled).await;
        assert_eq!(budget["owner_node"], alder.id(), "{budget}");
        assert_eq!(budget["total_tokens"].as_u64().unwrap(), sums.iter().sum::<u64>(), "{budget}");
        assert_eq!(budget["max_tokens"], 100_000, "{budget}");
    }
    assert!(sums.iter().all(|sum| *sum > 0), "{sums:?}");
    // Each machine metered its own.
    for (bee, sum) in [&alder, &birch].into_iter().zip(sums) {
        let usage = bee.get("/api/v1/usage").await;
        assert_eq!(usage["usage"]["totals"]["total_tokens"].as_u64().unwrap(), sum, "{}: {usage}", bee.name);
    }
}

#[tokio::test]
async fn a_thread_that_a_goal_has_ended_gets_no_second_budget_elsewhere() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let run = alder.skep(&["agent", "bees", "--model", model, "--budget", "2000"]).await;
    let thread = run["thread_id"].as_str().unwrap();
    let body = json!({
        "model": model, "thread_id": thread, "max_tokens": 8, "messages": [{ "role": "user", "content": "more" }],
    });
    let (status, problem) = birch.call("POST", "/v1/chat/completions", Some(body)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("thread_ended")), "{problem}");
    let budgets = birch.get("/api/v1/usage/threads").await;
    assert!(budgets["threads"].as_array().unwrap().iter().all(|b| b["thread_id"] != thread), "{budgets}");
}

#[tokio::test]
async fn money_is_counted_by_the_swarms_prices_and_refused_before_it_is_spent() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    // Two and four thousand for a million tokens.
    alder.skep(&["budget", "prices", "set", model, "2000", "4000"]).await;
    birch.until("the price is known", "/api/prices", |table| table["prices"][0]["model"] == model).await;
    chat(&birch, model, 20).await.unwrap();
    let settled = |b: &Value| b["leased_tokens"] == 0 && b["reserved_tokens"] == 0;
    let budget = birch.until("all is settled", &format!("/api/v1/usage/threads/{THREAD}"), settled).await;
    let tokens = |name: &str| budget[name].as_f64().unwrap();
    let cost = (tokens("prompt_tokens") * 2000.0 + tokens("completion_tokens") * 4000.0) / 1e6;
    assert!((budget["total_cost"].as_f64().unwrap() - cost).abs() < 1e-4 && cost > 0.0, "{cost}: {budget}");
    let usage = alder.get("/api/v1/usage").await;
    let of = |node: &Bee| {
        let nodes = usage["usage"]["by_node"].as_array().unwrap();
        nodes.iter().find(|n| n["node_id"] == node.id()).unwrap()["total_cost"].clone()
    };
    assert_eq!((of(&birch), of(&alder)), (budget["total_cost"].clone(), json!(0.0)), "{usage}");
    let goal = json!({ "goal": "bees", "model": model, "budget_cost": 0.01 });
    let (status, run) = alder.call("POST", "/api/agents", Some(goal)).await;
    assert_eq!(status, 200, "{run}");
    let path = format!("/api/agents/{}", run["id"].as_str().unwrap());
    let run = alder.until("it is refused", &path, |run| run["status"] == "failed").await;
    assert!(run["error"].as_str().unwrap().contains("the call may cost"), "{run}");
    assert_eq!((&run["tokens"], &run["budget_cost"]), (&json!(0), &json!(0.01)));
}
