//! Bodies: their size, their kind, their fields.

use crate::stage::{Stage, problem};
use futures::stream;
use poem::Body;
use serde_json::json;

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_and_without_a_length() {
    let stage = Stage::new().await;
    let large = vec![b' '; (1 << 20) + 1];
    let told = stage.post("/api/tasks").content_type("application/json").header("content-length", "1048577");
    problem(told.body(Body::empty()).send().await, 413, "the body is over 1024 KiB").await;
    let chunks = stream::iter(large.chunks(4096).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>());
    let chunked = stage.post("/api/tasks").content_type("application/json").body(Body::from_bytes_stream(chunks));
    problem(chunked.send().await, 413, "the body is over 1024 KiB").await;
}

#[tokio::test]
async fn a_goal_may_be_larger_than_other_bodies() {
    let stage = Stage::new().await;
    let text = "x".repeat(2 << 20);
    let body = json!({"goal": "sum up", "documents": [{"name": "a", "text": text}]});
    // It was read: what is missing is the actor.
    problem(stage.post_json("/api/agents", body).await, 503, "no actor named agents on that node").await;
}

#[tokio::test]
async fn a_body_of_another_kind_is_refused() {
    let stage = Stage::new().await;
    let text = "send the body as content-type: application/json";
    problem(stage.post("/api/tasks").content_type("text/plain").body("{}").send().await, 415, text).await;
    problem(stage.post("/api/tasks").body("{}").send().await, 415, text).await;
}

#[tokio::test]
async fn a_faulty_field_is_named() {
    let stage = Stage::new().await;
    let check = async |path, body, field: &str, detail| {
        let problem = problem(stage.post_json(path, body).await, 400, detail).await;
        assert_eq!(problem["field"], field);
        assert_eq!(problem["error"], problem["detail"]);
    };
    check("/api/tasks", json!({}), "command", "command: is required").await;
    check("/api/tasks", json!({"command": 7}), "command", "command: must be a string").await;
    check("/api/tasks", json!({"command": "a", "priority": "asap"}), "priority", "Invalid priority: asap").await;
    check("/api/tasks", json!({"command": "a", "cpus": -1}), "cpus", "cpus: must be at least 0").await;
    check("/api/tasks", json!({"command": "a", "env": ["x"]}), "env", "env: each entry is NAME=value").await;
    check("/api/agents", json!({"goal": ""}), "goal", "goal: must not be empty").await;
    check("/api/cluster/approve", json!({}), "code", "code: is required").await;
    check("/api/llm/chat", json!({"messages": [], "model": "auto"}), "messages", "messages: must not be empty").await;
    let short = json!({"token": "abc123"});
    check("/api/cluster/join-remote", short, "coordinator_ip", "coordinator_ip: is required with a short code").await;
    let brain = json!({"messages": [{"role": "user", "content": "hi"}], "use_brain": true});
    check("/api/llm/chat", brain, "use_brain", "use_brain: this node has none").await;
}

#[tokio::test]
async fn a_faulty_query_is_named() {
    let stage = Stage::new().await;
    let body = problem(
        stage.get("/api/tasks?limit=0").send().await,
        400,
        "limit: verification failed. minimum(1, exclusive: false)",
    );
    assert_eq!(body.await["field"], "limit");
}
