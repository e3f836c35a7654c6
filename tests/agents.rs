//! Goals whose sub-agents live on other machines, within one budget.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Hive, list};
use serde_json::{Value, json};
use std::path::Path;

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

/// Pages of this repository that a goal reads: twelve of different lengths.
fn pages() -> Vec<Value> {
    let decisions = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let mut files: Vec<_> = std::fs::read_dir(decisions).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let page = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        json!({ "name": name, "text": std::fs::read_to_string(path).unwrap() })
    };
    files.iter().take(12).map(page).collect()
}

/// A goal over twelve documents, on three machines, of which one dies while sub-agents are at work: the one that it was given
/// to, or another. It ends with an answer, no token beyond its budget, all of them accounted for, and an audit log that is
/// whole.
async fn twelve_documents_though_one_dies(dies: usize) {
    const BUDGET: u64 = 300_000;
    let hive = Hive::new();
    let model = hive.parrot("It was decided with reasons.");
    let mut bees = hive.three().await;
    let goal = json!({
        "goal": "What was decided, and why?", "strategy": "map_reduce", "model": model, "budget": BUDGET,
        "documents": pages(),
    });
    let run = bees[0].post("/api/agents", goal).await;
    let (id, thread) = (run["id"].as_str().unwrap().to_owned(), run["thread_id"].as_str().unwrap().to_owned());
    let path = format!("/api/agents/{id}");
    let at_work = |run: &Value| {
        let maps = |status: &str| {
            list(run, "steps").iter().filter(|step| step["tool"] == "map" && step["status"] == status).count()
        };
        maps("completed") >= 2 && maps("running") >= 2
    };
    let seen =
        bees[0].until("some parts are done, others are worked on", &path, |run| ended(run) || at_work(run)).await;
    assert!(!ended(&seen), "it was done before anything could die: {seen:#}");
    let name = bees[dies].name.clone();
    let dead = bees.remove(dies);
    let dead_id = dead.id().to_owned();
    dead.kill().await;
    for bee in &bees {
        let run = bee.until("it is done", &path, ended).await;
        assert_eq!((&run["status"], &run["id"]), (&json!("completed"), &json!(id)), "{run:#}");
        let done = list(&run, "steps").iter().filter(|step| step["tool"] == "map" && step["status"] == "completed");
        assert_eq!(done.count(), 12, "each document was read: {run:#}");
    }
    bees.push(hive.start(&name).await);
    for bee in &bees {
        bee.until("all are back", "/api/nodes", |nodes| bee::status(nodes, &dead_id) == Some("online")).await;
    }
    let settled = |b: &Value| b["reserved_tokens"] == 0 && b["leased_tokens"] == 0;
    let budget = bees[0].until("all is settled", &format!("/api/v1/usage/threads/{thread}"), settled).await;
    let (spent, max) = (budget["total_tokens"].as_u64().unwrap(), budget["max_tokens"].as_u64().unwrap());
    assert_eq!(max, BUDGET);
    let usage = bees[0].get("/api/v1/usage").await;
    let metered: u64 = list(&usage["usage"], "by_node").iter().map(|n| n["total_tokens"].as_u64().unwrap()).sum();
    assert!(metered > 0 && metered <= spent && spent <= max, "{metered} were metered, {spent} counted: {budget:#}");
    if dies != 0 {
        // Whoever kept the budget lived: nothing is lost but what the dead one had set aside.
        assert_eq!(budget["owner_node"], bees[0].id(), "{budget:#}");
    }
    let check = bees[0].skep(&["audit", "verify"]).await;
    assert_eq!(check["whole"], true, "{check:#}");
}

#[tokio::test]
async fn a_goal_over_twelve_documents_is_done_though_a_machine_of_its_sub_agents_is_killed() {
    twelve_documents_though_one_dies(1).await;
}

#[tokio::test]
async fn a_goal_over_twelve_documents_is_done_though_the_machine_is_killed_that_it_was_given_to() {
    twelve_documents_though_one_dies(0).await;
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
