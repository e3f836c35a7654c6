//! What was said, page by page, and what is handed on of what is said.

use crate::stage::{Stage, answer, events, json};
use poem::http::StatusCode;
use serde_json::{Value, json};
use skep_actors::{
    budget::Amount,
    ownership::Term,
    runtime::{NodeId, Wire},
    thread::{self, Message, Origin, Page, Posted, Role, Said, State, Status, Thread, Turn},
};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const THREAD: Uuid = Uuid::from_u128(7);
const TURN: Uuid = Uuid::from_u128(8);
/// Messages in the thread.
const LAST: u64 = 10;

fn said(number: u64, bytes: usize) -> Said {
    Said {
        id: Uuid::from_u128(100 + u128::from(number)),
        thread: THREAD,
        number,
        from: "api".into(),
        to: "main".into(),
        role: Role::User,
        kind: "Payload".into(),
        payload: json!({ "content": number.to_string(), "rest": "x".repeat(bytes) }).to_string(),
        turn: None,
        created_ms: 0,
    }
}

fn chat() -> Thread {
    Thread {
        id: THREAD,
        agent: "main".into(),
        origin: Origin::Chat,
        title: None,
        model: None,
        owner: NodeId::from_bytes([1; 32]),
        term: Term(1),
        status: Status::Active,
        participants: Vec::new(),
        last: LAST,
        turns: 0,
        error: None,
        budget: 0,
        budget_cost: None,
        charged: Amount::NONE,
        warned: None,
        prompt: 0,
        completion: 0,
        cost: 0,
        created_ms: 0,
        updated_ms: 0,
    }
}

/// A thread of messages of so many bytes, of which the actor tells so many at once.
async fn thread_of(bytes: usize, at_once: usize) -> Stage {
    let stage = Stage::new().await;
    let tell = move |message: Message| match message {
        Message::Said(Wire(wanted), port) => {
            assert!(!wanted.oldest_first, "pages begin with the newest");
            let (offset, limit) = (wanted.offset as usize, wanted.limit as usize);
            let numbers = (1..=LAST).rev().skip(offset).take(limit.min(at_once));
            answer(port, Ok(Page { items: numbers.map(|number| said(number, bytes)).collect(), total: LAST }));
        }
        Message::Get(_, port) => answer(port, Ok(chat())),
        _ => {}
    };
    stage.play(thread::NAME, tell).await;
    stage
}

/// The messages' words, in order, and where the next page begins.
async fn page(stage: &Stage, path: &str) -> (Vec<String>, Option<u64>) {
    let (status, answer) = json(stage.get(path).send().await).await;
    assert_eq!(status, 200, "{answer}");
    let words = |said: &Value| {
        let content = said.get("content").unwrap_or(&said["payload"]["content"]);
        content.as_str().unwrap().to_owned()
    };
    (answer["messages"].as_array().unwrap().iter().map(words).collect(), answer["next_offset"].as_u64())
}

fn numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn no_message_falls_between_two_pages_where_the_actor_cuts_its_answers() {
    let stage = thread_of(0, 3).await;
    let path = format!("/api/v1/threads/{THREAD}/messages");
    assert_eq!(page(&stage, &format!("{path}?limit=8")).await, (numbers((3..=10).rev()), Some(8)));
    assert_eq!(page(&stage, &format!("{path}?limit=8&offset=8")).await, (numbers([2, 1]), None));
    assert_eq!(page(&stage, &path).await, (numbers((1..=10).rev()), None));
    assert_eq!(page(&stage, "/api/v1/messages?limit=4&offset=3").await, (numbers((4..=7).rev()), Some(7)));
}

#[tokio::test]
async fn sessions_and_chats_show_the_newest_messages_in_their_order_and_older_ones_by_their_offset() {
    let stage = thread_of(0, 3).await;
    let session = format!("/api/sessions/{THREAD}/messages?limit=4");
    assert_eq!(page(&stage, &session).await, (numbers(7..=10), Some(4)));
    assert_eq!(page(&stage, &format!("{session}&offset=4")).await, (numbers(3..=6), Some(8)));
    assert_eq!(page(&stage, &format!("{session}&offset=8")).await, (numbers(1..=2), None));
    let chat = format!("/api/llm/sessions/{THREAD}");
    assert_eq!(page(&stage, &chat).await, (numbers(1..=10), None));
    assert_eq!(page(&stage, &format!("{chat}?offset=7")).await, (numbers(1..=3), None));
}

#[tokio::test]
async fn an_answer_that_is_full_says_where_the_next_one_begins() {
    let stage = thread_of(1 << 20, 1).await;
    let session = format!("/api/sessions/{THREAD}/messages");
    let (newest, next) = page(&stage, &session).await;
    assert_eq!((newest, next), (numbers(7..=10), Some(4)));
    assert_eq!(page(&stage, &format!("{session}?offset=8")).await, (numbers(1..=2), None));
}

#[tokio::test]
async fn an_injected_message_is_of_the_kind_that_its_payload_names_first() {
    let stage = Stage::new().await;
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let heard = kinds.clone();
    let take = move |message: Message| {
        if let Message::Post(Wire(order), port) = message {
            heard.lock().unwrap().push(order.what.kind);
            answer(port, Ok(Posted { thread: THREAD, message: Uuid::nil(), turn: TURN }));
        }
    };
    stage.play(thread::NAME, take).await;
    for payload in [r#"{"Zebra":{"b":1},"Apple":2}"#, r#"{"Apple":2,"Zebra":1}"#, "{}"] {
        let body = format!(r#"{{"payload":{payload},"to":"main"}}"#);
        let injected = stage.post("/api/v1/inject").content_type("application/json").body(body).send().await;
        injected.assert_status(StatusCode::OK);
    }
    let expected = ["Zebra", "Apple", "Payload"].map(|kind| Some(kind.to_owned()));
    assert_eq!(*kinds.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_answers_stream_names_the_model_that_was_asked_for_and_no_reason_that_nobody_knows() {
    let stage = Stage::new().await;
    let turn = Turn {
        state: State::Completed,
        attempt: 1,
        wanted: Some("other".into()),
        model: Some("other".into()),
        ..Turn::of(&said(1, 0), TURN)
    };
    let play = move |message: Message| match message {
        Message::Post(_, port) => answer(port, Ok(Posted { thread: THREAD, message: Uuid::nil(), turn: TURN })),
        Message::Get(_, port) => answer(port, Ok(Thread { model: Some("other".into()), ..chat() })),
        Message::Await(_, port) => answer(port, Ok(turn.clone())),
        Message::Exchange(_, port) => {
            let answered = Some(said(2, 0));
            answer(port, Ok(thread::messages::Exchange { asked: None, answered }));
        }
        _ => {}
    };
    stage.play(thread::NAME, play).await;
    let told = events(stage.post_json("/api/agent/message/stream", json!({ "content": "hi" })).await).await;
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["stream_start", "chunk", "stream_end"], "{told:?}");
    let start: Value = serde_json::from_str(&told[0].1).unwrap();
    assert_eq!(start["model"], "other", "{start}");
    let chunk: Value = serde_json::from_str(&told[1].1).unwrap();
    assert_eq!((&chunk["delta"], chunk.get("finish_reason")), (&json!("2"), None), "{chunk}");
}
