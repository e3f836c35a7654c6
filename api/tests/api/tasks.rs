//! Commands over HTTP.

use crate::stage::{Stage, answer, events, json, problem};
use poem::http::StatusCode;
use serde_json::json;
use skep_actors::{
    Context,
    runtime::{NodeId, Wire},
    scheduler::{
        self, Message, Record, ScheduleError, Spec, State, Stats,
        messages::{Ending, Output, Term},
    },
};
use std::collections::BTreeMap;
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(7);
const GONE: Uuid = Uuid::from_u128(8);

fn record(spec: Spec, owner: NodeId) -> Record {
    Record {
        attempts: 1,
        assigned: Some(owner),
        state: State::Running,
        output: "hi\n".into(),
        output_bytes: 3,
        started_ms: Some(1_700_000_000_500),
        ..Record::new(ID, spec, owner, Term(1), 1_700_000_000_000)
    }
}

fn act(context: Context) -> impl FnMut(Message) + Send {
    let me = context.directory.id();
    let known = |id: Uuid| if id == ID { Ok(()) } else { Err(ScheduleError::NoSuchTask(id)) };
    let spec = || Spec::new("echo hi");
    move |message| match message {
        Message::Submit(Wire(spec), port) if spec.command == "fill" => {
            drop(spec);
            answer(port, Err(ScheduleError::QueueFull(9)));
        }
        Message::Submit(Wire(spec), port) => answer(port, Ok(record(spec, me))),
        Message::Get(Wire(id), port) => answer(port, known(id).map(|()| record(spec(), me))),
        Message::Cancel(Wire(id), port) => answer(port, known(id).map(|()| record(spec(), me))),
        Message::List(Wire(rows), port) => answer(port, vec![record(spec(), me); rows.min(2) as usize]),
        Message::Stats(port) => {
            let queued = BTreeMap::from([("high".to_owned(), 2), ("low".to_owned(), 1)]);
            answer(port, Stats { queued, in_flight: 4, ..Stats::default() });
        }
        Message::Follow(Wire((id, to, ticket)), port) => {
            answer(port, known(id));
            let ending = Ending {
                state: State::Failed,
                exit_code: Some(3),
                error: None,
                output: String::new(),
                output_bytes: 5,
                artefacts: Vec::new(),
                lost: false,
            };
            // A character is cut in two between the frames.
            let told = vec![
                Output::Skipped(10),
                Output::Bytes(vec![b'a', 0xc3]),
                Output::Bytes(vec![0xa9]),
                Output::Ended(ending),
            ];
            Stage::stream(context.clone(), to, ticket, told);
        }
        _ => {}
    }
}

async fn stage() -> Stage {
    let stage = Stage::new().await;
    let script = act(stage.context().clone());
    stage.play(scheduler::NAME, script).await;
    stage
}

#[tokio::test]
async fn a_command_is_taken_with_all_its_wishes() {
    let stage = stage().await;
    let hints = json!({"priority": "background", "min_ram_mb": 2, "node": "box"});
    let body = json!({"command": "make", "env": ["A=1=2"], "preferred_node": "pi", "hints": hints});
    let (status, task) = json(stage.post_json("/api/tasks", body).await).await;
    assert_eq!(status, 201);
    assert_eq!((&task["id"], &task["status"]), (&json!(ID.to_string()), &json!("running")));
    assert_eq!((&task["env"], &task["priority"]), (&json!(["A=1=2"]), &json!("low")));
    assert_eq!(task["requirements"]["memory_bytes"], 2 << 20);
    let body = json!({"command": "make", "vram_bytes": 9, "model": "tiny", "labels": ["arch=arm", "!battery"]});
    let (_, task) = json(stage.post_json("/api/tasks", body).await).await;
    let needs = &task["requirements"];
    assert_eq!((&needs["gpus"], &needs["vram_bytes"], &needs["model"]), (&json!(1), &json!(9), &json!("tiny")));
    assert_eq!(needs["labels"], json!(["arch=arm", "!battery"]));
    let (status, problem) = json(stage.post_json("/api/tasks", json!({"command": "x", "labels": ["a b"]})).await).await;
    assert_eq!((status, &problem["field"]), (400, &json!("labels")), "{problem}");
    assert_eq!(task["submitted_at"], "2023-11-14T22:13:20Z");
    assert_eq!(task.get("finished_at"), None);
}

#[tokio::test]
async fn commands_are_listed_shown_and_ended() {
    let stage = stage().await;
    let (_, list) = json(stage.get("/api/tasks").send().await).await;
    assert_eq!(list.as_array().unwrap().len(), 2);
    let (_, list) = json(stage.get("/api/tasks?limit=1").send().await).await;
    assert_eq!(list.as_array().unwrap().len(), 1);
    let (_, task) = json(stage.get(&format!("/api/tasks/{ID}")).send().await).await;
    assert_eq!((&task["command"], &task["output"]), (&json!("echo hi"), &json!("hi\n")));
    stage.delete(&format!("/api/tasks/{ID}")).send().await.assert_status(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_unknown_command_is_a_404_in_the_documented_words() {
    let stage = stage().await;
    for path in [format!("/api/tasks/{GONE}"), format!("/api/tasks/{GONE}/events")] {
        problem(stage.get(&path).send().await, 404, &format!("Task not found: {GONE}")).await;
    }
    problem(stage.get("/api/tasks/nonsense").send().await, 404, "Task not found: nonsense").await;
    problem(stage.delete(&format!("/api/tasks/{GONE}")).send().await, 404, &format!("Task not found: {GONE}")).await;
}

#[tokio::test]
async fn a_full_queue_says_so() {
    let response = stage().await.post_json("/api/tasks", json!({"command": "fill"})).await;
    let problem = problem(response, 503, "the queue is full (9 commands wait): try again later").await;
    assert_eq!(problem["code"], "queue_full");
}

#[tokio::test]
async fn output_comes_as_events_and_no_character_is_torn() {
    let told = events(stage().await.get(&format!("/api/tasks/{ID}/events")).send().await).await;
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["skipped", "output", "output", "ended"]);
    let data: Vec<serde_json::Value> = told.iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(data[0], json!({"type": "skipped", "bytes": 10}));
    assert_eq!((&data[1]["text"], &data[2]["text"]), (&json!("a"), &json!("é")));
    assert_eq!((&data[3]["status"], &data[3]["exit_code"]), (&json!("failed"), &json!(3)));
}

#[tokio::test]
async fn the_schedulers_numbers_add_up() {
    let (_, stats) = json(stage().await.get("/api/scheduler/stats").send().await).await;
    assert_eq!((&stats["queue_depth"], &stats["in_flight"], &stats["node_count"]), (&json!(3), &json!(4), &json!(2)));
}
