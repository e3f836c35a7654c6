//! A model split by layers over machines says what it says on one.

mod bee;

use bee::{Bee, Hive, list};
use serde_json::{Value, json};

async fn say(bee: &Bee, model: &str, prompt: &str) -> Value {
    let body = json!({
        "model": model, "temperature": 0, "max_tokens": 24,
        "messages": [{ "role": "user", "content": prompt }],
    });
    bee.post("/v1/chat/completions", body).await
}

#[tokio::test]
async fn a_chat_over_three_machines_equals_one_machine_s() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let alone = say(&alder, model, "one two three").await;
    assert!(alone["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    alder.stop().await;

    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    let served = alder.post("/api/llm/serve", json!({ "model": model, "stages": 3 })).await;
    let stages = list(&served["plan"], "shards");
    assert_eq!(stages.len(), 3, "{served}");
    for bee in [&alder, &birch, &cedar] {
        assert!(stages.iter().any(|s| s["node_id"] == bee.id()), "{} has a stage: {served}", bee.name);
    }
    // Any machine may be asked; all reach the same pipeline.
    for bee in [&alder, &birch, &cedar] {
        let split = say(bee, model, "one two three").await;
        assert_eq!(
            split["choices"][0]["message"]["content"], alone["choices"][0]["message"]["content"],
            "asked {}",
            bee.name
        );
        assert_eq!(split["usage"], alone["usage"]);
    }
}

#[tokio::test]
async fn a_machine_that_holds_a_stage_dies_and_the_next_request_is_served_without_it() {
    let hive = Hive::new();
    let model = hive.tiny();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    alder.post("/api/llm/serve", json!({ "model": model, "stages": 2 })).await;
    let before = say(&alder, model, "hello").await;
    let id = birch.id().to_string();
    birch.kill().await;
    alder.until("birch is down", "/api/nodes", |n| bee::status(n, &id) == Some("offline")).await;
    let after = say(&alder, model, "hello").await;
    assert_eq!(after["choices"][0]["message"]["content"], before["choices"][0]["message"]["content"]);
}

#[tokio::test]
async fn unknown_models_and_bad_requests_are_told_apart() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let body = json!({ "model": "nobody", "messages": [{ "role": "user", "content": "hi" }] });
    let (status, answer) = alder.call("POST", "/v1/chat/completions", Some(body)).await;
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = alder.call("POST", "/v1/chat/completions", Some(json!({ "model": "nobody" }))).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("messages"), "{answer}");
}

#[tokio::test]
async fn a_hostile_model_file_is_refused_and_the_machine_goes_on() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let file = hive.folder.path().join("evil.gguf");
    // A header that claims 2^60 tensors in a file of 40 bytes.
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((1u64 << 60).to_le_bytes());
    bytes.extend((1u64 << 60).to_le_bytes());
    bytes.extend([0; 16]);
    std::fs::write(&file, bytes).unwrap();
    let pulled = alder.try_skep(&["pull", file.to_str().unwrap()]).await;
    assert!(!pulled.status.success());
    assert_eq!(list(&alder.get("/api/llm/models").await, "models").len(), 0);
}
