//! What OpenAI's clients read, in both modes.

use crate::{
    llm::{MODEL, SESSION, SPENT, stage},
    stage::{HOST, events, json},
};
use serde_json::{Value, json};

fn body(content: Value, more: Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": content}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape() {
    let (stage, heard) = stage().await;
    let more = json!({"temperature": 0, "seed": -1, "stop": "END", "max_completion_tokens": 9, "max_tokens": 5, "logit_bias": {}, "user": null});
    let (status, answer) = json(stage.post_json("/v1/chat/completions", body("hi".into(), more)).await).await;
    assert_eq!(status, 200);
    assert_eq!(
        answer["choices"],
        json!([{"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}])
    );
    assert_eq!(answer["usage"], json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!(MODEL)));
    assert_eq!(answer["id"], format!("chatcmpl-{}", SESSION.simple()));
    let asked = heard.asked.lock().unwrap()[0].clone();
    assert_eq!((asked.max_tokens, asked.sampling.temperature, asked.sampling.seed), (9, 0.0, u64::MAX));
    assert_eq!((asked.stop.as_slice(), asked.turns[0].role.as_str()), (["END".to_owned()].as_slice(), "system"));
}

#[tokio::test]
async fn a_streamed_answer_comes_in_chunks_and_ends_with_the_mark() {
    let (stage, _) = stage().await;
    let parts = json!([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]);
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let told = events(stage.post_json("/v1/chat/completions", body(parts, more)).await).await;
    let (last, chunks) = told.split_last().unwrap();
    assert_eq!(last.1, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(chunks.len(), 5);
    assert_eq!(
        chunks[0]["choices"],
        json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}])
    );
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello world");
    assert_eq!(chunks[3]["choices"], json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]));
    assert_eq!((&chunks[4]["choices"], &chunks[4]["usage"]["total_tokens"]), (&json!([]), &json!(7)));
    assert!(chunks.iter().all(|c| c["object"] == "chat.completion.chunk" && c["id"] == chunks[0]["id"]));
}

#[tokio::test]
async fn an_answer_that_breaks_says_so_in_both_modes() {
    let (stage, heard) = stage().await;
    for (word, code) in [("break", "stage_lost"), ("vanish", "engine")] {
        let (status, whole) = json(stage.post_json("/v1/chat/completions", body(word.into(), json!({}))).await).await;
        assert!(status >= 500, "{word}");
        assert_eq!((&whole["error"]["type"], &whole["error"]["code"]), (&json!("server_error"), &json!(code)));
        let told =
            events(stage.post_json("/v1/chat/completions", body(word.into(), json!({"stream": true}))).await).await;
        let failed: Value = serde_json::from_str(&told[told.len() - 2].1).unwrap();
        assert_eq!(failed["error"]["code"], code);
    }
    // What was generated before it broke is charged.
    heard.settled.subscribe().wait_for(|all| all.len() == 4).await.unwrap();
    assert!(heard.settled.borrow().iter().all(|(_, spent)| spent.completion == 1));
}

#[tokio::test]
async fn errors_have_both_shapes() {
    let (stage, heard) = stage().await;
    let check = async |body: Value, status: u16, param: Value, code: &str| {
        let (got, error) = json(stage.post_json("/v1/chat/completions", body).await).await;
        assert_eq!((got, &error["error"]["param"], &error["error"]["code"]), (status, &param, &json!(code)), "{error}");
        assert_eq!((&error["detail"], &error["status"]), (&error["error"]["message"], &json!(status)));
        assert!(error["error"]["type"].is_string());
    };
    check(json!({"model": "auto"}), 400, "messages".into(), "invalid_field").await;
    check(body("hi".into(), json!({"n": 2})), 400, "n".into(), "invalid_field").await;
    check(body("hi".into(), json!({"temperature": 3})), 400, "temperature".into(), "invalid_field").await;
    check(body("hi".into(), json!({"thread_id": "x"})), 400, "thread_id".into(), "invalid_field").await;
    check(body("hi".into(), json!({"model": "gpt-4"})), 404, "model".into(), "model_not_found").await;
    check(body("busy".into(), json!({})), 503, Value::Null, "busy").await;
    assert_eq!(*heard.released.lock().unwrap(), 1, "what was set aside is given back");
    let picture = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
    check(body(picture, json!({})), 400, "messages[1].content".into(), "invalid_field").await;
    let spent = json!({"thread_id": SPENT.to_string()});
    check(body("hi".into(), spent), 402, Value::Null, "insufficient_quota").await;
}

#[tokio::test]
async fn a_stranger_is_told_in_openais_shape() {
    let (stage, _) = stage().await;
    let (status, error) = json(stage.bare().get("/v1/models").header("host", HOST).send().await).await;
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    let (status, error) = json(stage.get("/v1/embeddings").send().await).await;
    assert_eq!((status, &error["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn a_caller_that_goes_away_is_charged_for_what_it_got() {
    let (stage, heard) = stage().await;
    let response = stage.post_json("/v1/chat/completions", body("hi".into(), json!({"stream": true}))).await;
    drop(response);
    heard.settled.subscribe().wait_for(|all| all.len() == 1).await.unwrap();
    let (reservation, spent) = heard.settled.borrow()[0].clone();
    // By the payer's own count, whatever the server says that the prompt had.
    assert_eq!((reservation.tokens, spent.prompt), (10 + 1024, 10));
}

#[tokio::test]
async fn no_more_is_set_aside_than_the_model_can_write() {
    let (stage, heard) = stage().await;
    stage.post_json("/v1/chat/completions", body("hi".into(), json!({"max_tokens": 120_000}))).await;
    heard.settled.subscribe().wait_for(|all| all.len() == 1).await.unwrap();
    assert_eq!(heard.settled.borrow()[0].0.tokens, 2048, "the model's context");
}

#[tokio::test]
async fn models_are_listed_by_name() {
    let (stage, _) = stage().await;
    let (_, list) = json(stage.get("/v1/models").send().await).await;
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0], json!({"id": MODEL, "object": "model", "created": 5, "owned_by": "n0"}));
    assert_eq!((&list["data"][1]["id"], &list["data"][1]["owned_by"]), (&json!("other"), &json!("n1")));
    let (_, one) = json(stage.get(&format!("/v1/models/{MODEL}")).send().await).await;
    assert_eq!(one["id"], MODEL);
    let (status, error) = json(stage.get("/v1/models/x").send().await).await;
    assert_eq!((status, &error["error"]["param"]), (404, &json!("model")));
}
