//! Goals whose sub-agents live on other machines, within one budget.

mod bee;

use bee::{Hive, list};
use serde_json::json;

const ENDED: [&str; 4] = ["completed", "failed", "cancelled", "lost"];

fn ended(run: &serde_json::Value) -> bool {
    run["status"].as_str().is_some_and(|s| ENDED.contains(&s))
}

#[tokio::test]
async fn sub_agents_work_on_the_other_machines_and_their_tokens_are_counted() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    let goal = json!({
        "goal": "Say what this is about.", "strategy": "map_reduce", "model": model, "budget": 20_000,
        "documents": [{ "name": "a", "text": "bees" }, { "name": "b", "text": "ants" }],
    });
    let run = alder.post("/api/agents", goal).await;
    let id = run["id"].as_str().unwrap();
    let run = alder.until("it is done", &format!("/api/agents/{id}"), ended).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    let children = list(&run, "children");
    assert!(children.len() >= 2, "{run:#}");
    for bee in [&birch, &cedar] {
        assert!(children.iter().any(|c| c["node_id"] == bee.id()), "{} had a sub-agent: {run:#}", bee.name);
    }
    let budget = alder.get(&format!("/api/v1/usage/threads/{}", run["thread_id"].as_str().unwrap())).await;
    let (spent, max) = (budget["total_tokens"].as_u64().unwrap(), budget["max_tokens"].as_u64().unwrap());
    assert!(spent > 0 && spent <= max, "{budget}");
}

#[tokio::test]
async fn a_goal_over_its_budget_is_refused_before_the_tokens_are_spent() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let _birch = hive.join("birch", &alder).await;
    let text = "bees live in hives and ".repeat(20);
    let goal = json!({
        "goal": "Say what this is about.", "strategy": "map_reduce", "model": model, "budget": 400,
        "documents": (0..6).map(|i| json!({ "name": i.to_string(), "text": text })).collect::<Vec<_>>(),
    });
    let run = alder.post("/api/agents", goal).await;
    let run = alder.until("it ended", &format!("/api/agents/{}", run["id"].as_str().unwrap()), ended).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    assert!(run["error"].as_str().unwrap().contains("budget"), "{run:#}");
    let budget = alder.get(&format!("/api/v1/usage/threads/{}", run["thread_id"].as_str().unwrap())).await;
    assert!(budget["total_tokens"].as_u64().unwrap() <= 400, "{budget}");
}

#[tokio::test]
async fn a_sub_agent_whose_machine_dies_is_reported_and_started_elsewhere() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let _cedar = hive.join("cedar", &alder).await;
    // Enough documents that birch is at work when it dies, few enough that every step stays in the record.
    let text = "bees live in hives and ".repeat(30);
    let goal = json!({
        "goal": "Say what this is about.", "strategy": "map_reduce", "model": model, "budget": 500_000,
        "documents": (0..10).map(|i| json!({ "name": i.to_string(), "text": text })).collect::<Vec<_>>(),
    });
    let run = alder.post("/api/agents", goal).await;
    let path = format!("/api/agents/{}", run["id"].as_str().unwrap());
    let id = birch.id().to_string();
    alder
        .until("birch is at work", &path, |r| {
            ended(r) || list(r, "children").iter().any(|c| c["node_id"] == id.as_str())
        })
        .await;
    birch.kill().await;
    let run = alder.until("it is done", &path, ended).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    let told = |s: &serde_json::Value| s["result"].as_str().is_some_and(|r| r.starts_with("lost:"));
    assert!(list(&run, "steps").iter().any(told), "the loss is reported: {run:#}");
}

#[tokio::test]
async fn unknown_agents_and_tools_are_told() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let (status, problem) = alder.call("GET", "/api/agents/00000000-0000-4000-8000-000000000000", None).await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("Agent not found"), "{problem}");
    let goal = json!({ "goal": "x", "tools": ["format_the_disk"] });
    let (status, problem) = alder.call("POST", "/api/agents", Some(goal)).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("format_the_disk"), "{problem}");
}
