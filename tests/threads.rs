//! Agents that are defined for the swarm, and what is said to them: on real machines, which die.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Bee, Hive, list};
use serde_json::{Value, json};

fn definition(model: &str) -> String {
    format!(
        "
[organism]
name = 'bees'

[[agents]]
name = 'scribe'
description = 'writes things down'
model = '{model}'
instructions = 'You write things down.'

[[agents]]
name = 'main'
description = 'answers'
model = '{model}'
"
    )
}

async fn defined(hive: &Hive, bee: &Bee) {
    let file = hive.folder.path().join("bees.toml");
    std::fs::write(&file, definition(hive.tiny())).unwrap();
    let change = bee.skep(&["organism", "load", file.to_str().unwrap()]).await;
    assert_eq!(change["added"], json!(["scribe", "main"]));
}

async fn knows_the_agents(bee: &Bee) {
    bee.until("it knows the agents", "/api/v1/agents", |agents| {
        list(agents, "agents").iter().any(|agent| agent["name"] == "scribe")
    })
    .await;
}

fn over(turn: &Value) -> bool {
    !matches!(turn["status"].as_str(), Some("waiting" | "running"))
}

#[tokio::test]
async fn what_is_said_on_one_machine_is_answered_and_known_on_all_and_outlives_the_one_that_keeps_it() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    defined(&hive, &alder).await;
    knows_the_agents(&birch).await;
    knows_the_agents(&cedar).await;

    let asked = birch.skep(&["ask", "scribe", "what", "is", "a", "bee?"]).await;
    assert_eq!(asked["turn"]["status"], "completed", "{asked:#}");
    let thread = asked["thread"].as_str().unwrap();
    let path = format!("/api/v1/threads/{thread}");
    let there = cedar
        .until("cedar has it", &path, |thread| thread["messageCount"] == 2 && thread["status"] == "completed")
        .await;
    assert_eq!(
        (&there["ownerNode"], &there["participants"]),
        (&json!(birch.id()), &json!(["api", "scribe"])),
        "{there}"
    );

    let birch_id = birch.id().to_owned();
    birch.kill().await;
    let body = json!({ "to": "scribe", "payload": { "content": "and an ant?" }, "threadId": thread });
    let path = "/api/nodes";
    cedar.until("birch is missed", path, |nodes| bee::status(nodes, &birch_id) == Some("offline")).await;
    let posted = cedar.post("/api/v1/inject", body).await;
    let turn = format!("/api/turns/{}", posted["turnId"].as_str().unwrap());
    let turn = cedar.until("it is answered", &turn, over).await;
    assert_eq!(turn["status"], "completed", "{turn:#}");
    let context = cedar.get(&format!("/api/turns/{}/context", posted["turnId"].as_str().unwrap())).await;
    assert_eq!(context["history_depth"], 2, "what was said before is known to who took it over: {context}");
    let said = alder
        .until("alder has the answer", &format!("/api/sessions/{thread}/messages"), |said| {
            list(said, "messages").len() == 4
        })
        .await;
    let roles: Vec<&Value> = list(&said, "messages").iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    let budget = cedar.get(&format!("/api/v1/usage/threads/{thread}")).await;
    assert!(budget["total_tokens"].as_u64().unwrap() <= budget["max_tokens"].as_u64().unwrap(), "{budget}");
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_definition_is_told_at_once_and_nothing_changes() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    defined(&hive, &alder).await;
    let file = hive.folder.path().join("wrong.yaml");
    let text = "agents:\n  - {name: a, description: x, peers: [b]}\n  - {name: b, description: y, peers: [a, ghost]}\n  - {name: a, description: z, tools: [fly]}\n";
    std::fs::write(&file, text).unwrap();
    let told = alder.try_skep(&["organism", "load", file.to_str().unwrap()]).await;
    assert_eq!(told.status.code(), Some(5));
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    for part in
        ["a: is defined twice", "its peer ghost is not defined", "go in a circle: a -> b -> a", "there is no tool fly"]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let agents = alder.get("/api/v1/agents").await;
    assert_eq!(list(&agents, "agents").len(), 2, "{agents}");
    let (status, problem) = alder.call("POST", "/api/v1/organism/reload", None).await;
    assert_eq!(status, 404, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("skep organism load"), "{problem}");
}

#[tokio::test]
async fn bad_requests_are_told_in_the_words_of_the_documents() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    defined(&hive, &alder).await;
    let nowhere = "00000000-0000-4000-8000-000000000000";
    let cases = [
        ("GET", format!("/api/v1/threads/{nowhere}"), Value::Null, 404, format!("Thread not found: {nowhere}")),
        ("GET", "/api/v1/threads?status=asleep".into(), Value::Null, 400, "Invalid status: asleep".into()),
        ("GET", "/api/v1/threads?limit=101".into(), Value::Null, 400, "limit".into()),
        ("GET", "/api/v1/messages?limit=0".into(), Value::Null, 400, "limit".into()),
        ("GET", "/api/v1/agents/ghost".into(), Value::Null, 404, "Agent not found: ghost".into()),
        ("GET", "/api/v1/agents/ghost/schema".into(), Value::Null, 404, "Schema not found for agent: ghost".into()),
        ("GET", "/api/v1/capabilities/ghost".into(), Value::Null, 404, "Capability not found: ghost".into()),
        ("POST", "/api/v1/agents/ghost/pause".into(), Value::Null, 404, "Agent not found: ghost".into()),
        (
            "POST",
            "/api/v1/inject".into(),
            json!({ "to": "ghost", "payload": { "content": "x" } }),
            400,
            "Unknown target agent: ghost".into(),
        ),
        ("POST", "/api/v1/inject".into(), json!({ "to": "scribe", "payload": "x" }), 400, "payload".into()),
        (
            "POST",
            "/api/v1/inject".into(),
            json!({ "to": "scribe", "payload": { "content": "x".repeat(33 << 10) } }),
            413,
            "32768".into(),
        ),
        ("GET", format!("/api/turns/{nowhere}"), Value::Null, 404, "Turn not found".into()),
        ("POST", format!("/api/turns/{nowhere}/feedback"), json!({ "grade": 3 }), 404, "Turn not found".into()),
    ];
    for (method, path, body, expected, words) in cases {
        let body = (!body.is_null()).then_some(body);
        let (status, problem) = alder.call(method, &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(&words), "{method} {path}: {problem}");
    }
}

#[tokio::test]
async fn the_main_agent_streams_its_answer_and_a_node_ends_when_it_is_told_to() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    defined(&hive, &alder).await;
    let body = json!({ "content": "hello" });
    let http = reqwest::Client::new();
    let request = http.post(alder.url("/api/agent/message/stream")).bearer_auth(&alder.token).json(&body);
    let text = request.send().await.unwrap().text().await.unwrap();
    let places: Vec<Option<usize>> =
        ["event: stream_start", "event: chunk", "event: stream_end"].iter().map(|event| text.find(event)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    assert!(text.matches("event: chunk").count() > 1, "its words come one by one: {text}");
    let begun = text.find("data:").map(|at| text[at..].lines().next().unwrap_or_default());
    assert!(begun.is_some_and(|data| data.contains(r#""model":"tiny""#)), "the model of its definition: {text}");

    alder.post("/api/v1/agents/main/pause", Value::Null).await;
    alder.until("it is paused", "/api/agent/status", |agent| agent["state"] == "paused").await;
    let stopping = alder.post("/api/v1/organism/stop", Value::Null).await;
    assert_eq!(stopping["status"], "stopping");
    let home = alder.home.clone();
    bee::until("it has ended", || !home.join("node.json").exists()).await;
}
