//! The documented routes: each row of `documents/endpoints.tsv` is asked for, and answers with the fields that its document
//! names, or is said to come later, and with what.
//!
//! A row that is neither fails; so does one that is said to come later and is there. Functions and concepts of documents are
//! no routes: which command or route does what they say stands in [`ELSEWHERE`].

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Bee, Hive};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ROWS: &str = include_str!("documents/endpoints.tsv");

const AGENTS: &str = "
agents:
  - {name: scout, description: looks around, payload_class: Question, payload: {question: text}}
  - {name: scribe, description: writes things down}
  - {name: main, description: answers}
";

/// Routes, where each is asked for (empty: at its own path), with what body, and the fields of its answer: `a[].b` is a field
/// of the first of a list.
const CASES: &str = include_str!("documents/cases.tsv");

/// A line of [`CASES`].
struct Case<'a> {
    route: &'a str,
    at: &'a str,
    body: &'a str,
    fields: &'a str,
}

impl<'a> Case<'a> {
    fn read(line: &'a str) -> Case<'a> {
        let parts: Vec<&str> = line.split('\t').collect();
        let [route, at, body, fields] = parts[..] else { panic!("no case: {line}") };
        Case { route, at, body, fields }
    }
}

/// Routes that are asked for in another test, and why not here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("GET /docs", "a page: tests/http.rs"),
    ("POST /api/approvals/{id}/approve", "a call that waits: tests/approvals.rs"),
    ("POST /api/approvals/{id}/deny", "a call that waits: tests/approvals.rs"),
    ("GET /ws", "a socket: tests/events.rs"),
    ("DELETE /api/nodes/{id}", "evicts a machine: tests/evict.rs"),
    ("DELETE /api/llm/models/{model}", "tests/chat.rs"),
    ("POST /api/llm/pull", "an event stream: actors/tests/pulls.rs"),
    ("POST /api/llm/chat", "an event stream: tests/chat.rs"),
    ("GET /api/llm/inference/sessions/{id}", "a generation that runs: tests/chat.rs"),
    ("POST /api/agent/message/stream", "an event stream: tests/threads.rs"),
    ("GET /api/agents/{id}/log", "a text: api/tests/api/agents.rs"),
    ("POST /api/cluster/join", "joins over QUIC; the route says so: api/tests/api"),
    ("POST /api/cluster/join-remote", "joins another swarm: tests/join.rs"),
    ("GET /join/{token}", "a page: api/tests/api"),
    ("PLANNED (websocket, no path given)", "served through /ws"),
];

/// What comes later, by the words of the table's second column, and with what.
const LATER: &[(&str, &str)] = &[
    ("000 Speculative", "speculative answers come with the router of models"),
    ("000 Revenue", "there is no money in the swarm yet"),
    ("000 Tools", "media tools come with what agents act with"),
    ("000 System", "comes with what agents act with"),
    ("000 Coding", "coding tools come with what agents act with"),
    ("000 Skills", "skills come with what agents act with"),
    ("003 Config", "a node is set up by its command line"),
    ("003 Logs", "logs go to standard error"),
    ("003 Memory", "memory comes with what agents act with"),
    ("003 Models", "providers come with the router of models"),
    ("003 Providers", "providers come with the router of models"),
    ("003 Statistics", "statistics come with the router of models"),
    ("003 Circuit Breaker", "providers come with the router of models"),
    ("003 Recommendations", "come with statistics"),
    ("003 Wallet", "there is no money in the swarm yet"),
    ("003 Skills", "skills come with what agents act with"),
    ("003 Plugins", "plugins come with what agents act with"),
    ("003 Browser", "the browser comes with what agents act with"),
    ("003 Interview", "comes with a memory"),
    ("003 Runtime", "devices and MCP come with what agents act with"),
    ("003 Workspace", "comes with storage"),
    ("003 A2A", "comes with channels"),
    ("003 Webhooks", "come with channels"),
    ("003 Channels", "come later"),
    ("004 2 Shared Storage", "files of commands are at /api/blobs; shared storage comes later"),
    ("004 5 Brain", "comes with memory"),
    ("004 6 Flow", "flows come later; graphs of commands are at /api/goals"),
    ("004 7 SDN", "comes later"),
    ("004 8 MCP", "comes with what agents act with"),
    ("004 9 Memory & Pulse", "comes with memory"),
    ("004 11 Pipelines", "comes with media tools"),
    ("004 12 GPU", "comes with media tools"),
    ("004 14 Tunnel", "comes later"),
    ("004 15 WoL", "comes later"),
    ("004 16 Bench", "benchmarks are `cargo bench` so far"),
    ("GET /anthropic/v1/models", "comes with the router of models"),
];

#[tokio::test]
async fn every_documented_route_answers_with_its_fields_or_is_said_to_come_later() {
    let hive = Hive::new();
    hive.tiny();
    let bee = hive.start("alder").await;
    std::fs::write(bee.home.join("organism.yaml"), AGENTS.replace("description:", "model: tiny, description:"))
        .unwrap();
    bee.post("/api/v1/organism/reload", Value::Null).await;
    let names = prepared(&bee).await;
    let cases: Vec<Case> = CASES.lines().skip(1).map(Case::read).collect();
    let described: Value = bee.get("/openapi.json").await;
    let (mut wrong, mut asked, mut later) = (Vec::new(), 0, BTreeMap::new());
    // What ends the node comes last.
    let rows = || ROWS.lines().skip(1).map(|line| line.split('\t').collect::<Vec<_>>());
    let last = |row: &Vec<&str>| row[3] == "/api/v1/organism/stop";
    for row in rows().filter(|row| !last(row)).chain(rows().filter(last)) {
        let (area, method, path) = (format!("{} {}", row[0], row[1]), row[2], row[3]);
        if matches!(method, "FN" | "CONCEPT" | "TOOL") {
            continue;
        }
        let route = format!("{method} {path}");
        if let Some(case) = cases.iter().find(|case| case.route == route) {
            wrong.extend(failing(&bee, case, &names).await);
            asked += 1;
            continue;
        }
        if ELSEWHERE.iter().any(|(known, _)| *known == route) {
            continue;
        }
        match LATER.iter().find(|(known, _)| *known == route || *known == area) {
            Some(_) if is_described(&described, method, path) => {
                wrong.push(format!("{route} is there and said to come later"))
            }
            Some((_, why)) => *later.entry((area, *why)).or_insert(0) += 1,
            None => wrong.push(format!("{route} is neither served nor said to come later")),
        }
    }
    for ((area, why), count) in &later {
        eprintln!("{count} of {area} are not served: {why}");
    }
    assert!(wrong.is_empty(), "{} of {asked} that were asked for:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether the node's own description has a route, whatever its parameters are called.
fn is_described(described: &Value, method: &str, path: &str) -> bool {
    let plain = |path: &str| {
        path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect::<Vec<_>>().join("/")
    };
    let paths = described["paths"].as_object().unwrap();
    paths.iter().any(|(known, methods)| plain(known) == plain(path) && methods.get(method.to_lowercase()).is_some())
}

/// What is wrong with the answer to a case.
async fn failing(bee: &Bee, case: &Case<'_>, names: &BTreeMap<&str, String>) -> Option<String> {
    let Case { route, at, body, fields } = *case;
    let (method, path) = route.split_once(' ').unwrap();
    let at = names.iter().fold(if at.is_empty() { path } else { at }.to_owned(), |at, (name, id)| {
        at.replace(&format!("{{{name}}}"), id)
    });
    let body = (!body.is_empty()).then(|| serde_json::from_str(body).unwrap());
    let (status, answer) = bee.call(method, &at, body).await;
    if !(200..300).contains(&status) {
        return Some(format!("{method} {at} answered {status}: {answer}"));
    }
    let missing: Vec<&str> = fields.split_whitespace().filter(|field| !has(&answer, field)).collect();
    (!missing.is_empty()).then(|| format!("{method} {at} lacks {missing:?}: {answer}"))
}

fn has(value: &Value, field: &str) -> bool {
    let mut at = value;
    for part in field.split('.') {
        let (name, list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
        if !name.is_empty() {
            match at.get(name) {
                Some(inner) => at = inner,
                None => return false,
            }
        }
        if list {
            match at.get(0) {
                Some(first) => at = first,
                None => return false,
            }
        }
    }
    true
}

/// Makes what the routes show, and tells what it is called.
async fn prepared(bee: &Bee) -> BTreeMap<&'static str, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let inject = |body: Value| async move { bee.post("/api/v1/inject", body).await };
    let said = inject(json!({ "to": "scribe", "payload": { "content": "what is a bee?" } })).await;
    let (thread, turn) = (text(&said["threadId"]), text(&said["turnId"]));
    let over = |turn: &Value| turn["status"] == "completed";
    bee.until("it is answered", &format!("/api/turns/{turn}"), over).await;
    bee.post(&format!("/api/turns/{turn}/feedback"), json!({ "grade": 3 })).await;
    let again = inject(json!({ "to": "scribe", "payload": { "content": "and an ant?" }, "threadId": thread })).await;
    let ungraded = text(&again["turnId"]);
    bee.until("that too", &format!("/api/turns/{ungraded}"), over).await;
    let chat = bee.post("/api/llm/sessions", json!({ "model": "tiny" })).await;
    let doomed = bee.post("/api/sessions", json!({ "agent_id": "scribe" })).await;
    let run = bee.post("/api/agents", json!({ "goal": "say something", "model": "tiny" })).await;
    let task = bee.post("/api/tasks", json!({ "command": "true" })).await;
    let sleeper = bee.post("/api/tasks", json!({ "command": "sleep", "args": ["300"] })).await;
    let job = json!({ "name": "n", "schedule_kind": "every", "schedule_expr": "1h", "task": { "command": "true" } });
    let (kept, gone) = (bee.post("/api/cron/jobs", job.clone()).await, bee.post("/api/cron/jobs", job).await);
    bee.post("/agents/register", json!({ "agent_id": "w1", "agent_type": "worker" })).await;
    [
        ("thread", thread),
        ("turn", turn),
        ("ungraded", ungraded),
        ("doomed_chat", text(&chat["id"])),
        ("doomed", text(&doomed["id"])),
        ("run", text(&run["id"])),
        ("task", text(&task["id"])),
        ("sleeper", text(&sleeper["id"])),
        ("job", text(&kept["job_id"])),
        ("doomed_job", text(&gone["job_id"])),
        ("node", bee.id().to_owned()),
    ]
    .into()
}
