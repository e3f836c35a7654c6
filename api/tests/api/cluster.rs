//! Machines over HTTP.

use crate::stage::{Stage, answer, json, problem};
use poem::http::StatusCode;
use serde_json::json;
use skep_actors::{
    Context,
    node::{
        self, Card, Gpu, Message, NodeError, Summary,
        messages::{Duty, Listed},
    },
    runtime::{
        Wire,
        member::State,
        swarm::{self, Finding, Invite, Waiting},
    },
};
use std::sync::{Arc, Mutex};

const LINE: &str = "skep1abcdef";

type Heard = Arc<Mutex<Vec<String>>>;

fn listed(context: &Context, i: usize) -> Listed {
    let mut member = context.members.now().values().nth(i).unwrap().as_ref().clone();
    member.load.cpu_permille = 255;
    member.load.memory_permille = 500;
    let gpu = Gpu { name: "H".into(), memory_bytes: 100, used_bytes: 40, ..Gpu::default() };
    let card = Card { os: "linux".into(), memory_bytes: 8000, gpus: vec![gpu], ..Card::default() };
    if i == 1 {
        member.state = State::Down;
    }
    Listed { member, card: (i == 0).then_some(card) }
}

fn act(context: Context, heard: Heard) -> impl FnMut(Message) + Send {
    let me = context.directory.id();
    let find = move |context: &Context, who: &str| match who {
        "n0" => Ok(listed(context, 0)),
        "n1" => Ok(listed(context, 1)),
        "n" => Err(NodeError::Ambiguous("n".into())),
        other => Err(NodeError::NoSuchNode(other.into())),
    };
    move |message| {
        let hear = |what: String| heard.lock().unwrap().push(what);
        match message {
            Message::Summary(port) => {
                answer(port, Summary { nodes: 3, online: 2, cpus: 8, memory_bytes: 8000, ..Summary::default() });
            }
            Message::List(port) => answer(port, vec![listed(&context, 0), listed(&context, 1)]),
            Message::Get(Wire(who), port) => answer(port, find(&context, &who)),
            Message::Evict(Wire((who, force)), port) => {
                hear(format!("evict {who} {force}"));
                let minority = NodeError::Swarm(swarm::Error::NoMajority { up: 1, of: 2 });
                answer(port, if force { find(&context, &who).map(|l| l.member.id) } else { Err(minority) });
            }
            Message::Drain(Wire(duty), port) => {
                hear(format!("drain {duty:?}"));
                answer(port, Ok(()));
            }
            Message::Invite(port) => {
                answer(
                    port,
                    Ok(Invite {
                        line: LINE.into(),
                        code: "ab12cd".into(),
                        addresses: vec!["192.168.1.7:4892".parse().unwrap()],
                        expires_ms: 600_000,
                    }),
                );
            }
            Message::Join(Wire(invite), port) => {
                hear(format!("join {invite}"));
                answer(port, if invite == "spent" { Err(swarm::Error::Spent.into()) } else { Ok(()) });
            }
            Message::Waiting(port) => {
                let address = "10.0.0.9:4893".parse().unwrap();
                answer(port, vec![Waiting { id: me, name: "new".into(), address, code: "123456".into(), since_ms: 0 }]);
            }
            Message::Approve(Wire(_), port) => answer(port, Ok(me)),
            Message::Leave(Wire(forget), port) => {
                hear(format!("leave {forget}"));
                answer(port, Ok(()));
            }
            Message::Diagnose(port) => {
                answer(port, vec![Finding { check: "multicast".into(), ok: false, detail: "blocked".into() }]);
            }
            _ => {}
        }
    }
}

async fn stage() -> (Stage, Heard) {
    let stage = Stage::new().await;
    let heard = Heard::default();
    let script = act(stage.context().clone(), heard.clone());
    stage.play(node::NAME, script).await;
    (stage, heard)
}

#[tokio::test]
async fn the_swarm_is_summed_up_over_the_machines_that_answer() {
    let (stage, _) = stage().await;
    let (_, status) = json(stage.get("/api/status").send().await).await;
    assert_eq!((&status["node_count"], &status["offline_count"]), (&json!(3), &json!(1)));
    assert_eq!(
        (&status["total_vram"], &status["free_vram"], &status["gpu_node_count"]),
        (&json!(100), &json!(60), &json!(1))
    );
}

#[tokio::test]
async fn machines_are_shown_as_documented() {
    let (stage, _) = stage().await;
    let (_, nodes) = json(stage.get("/api/nodes").send().await).await;
    assert_eq!((&nodes[0]["status"], &nodes[1]["status"]), (&json!("online"), &json!("offline")));
    let (_, node) = json(stage.get("/api/nodes/n0").send().await).await;
    assert_eq!((&node["cpu_percent"], &node["ram_used"], &node["os"]), (&json!(25.5), &json!(4000), &json!("linux")));
    assert_eq!(
        node["gpu"],
        json!({"available": true, "name": "H", "vram": 100, "vram_free": 60, "driver": "", "backend": "cpu",
        "generator": "none", "devices": [{"name": "H", "vendor": "", "backend": "", "vram": 100, "vram_used": 40, "driver": ""}]})
    );
}

#[tokio::test]
async fn an_unknown_machine_is_a_404_and_an_unclear_name_a_409() {
    let (stage, _) = stage().await;
    problem(stage.get("/api/nodes/x").send().await, 404, "no such node: x (`skep nodes` lists them)").await;
    stage.get("/api/nodes/n").send().await.assert_status(StatusCode::CONFLICT);
}

#[tokio::test]
async fn evicting_needs_a_majority_or_force() {
    let (stage, heard) = stage().await;
    let refused = problem(
        stage.delete("/api/nodes/n1").send().await,
        409,
        "only 1 of 2 members answer: more than half are needed, or --force, which risks two rosters",
    );
    assert_eq!(refused.await["code"], "no_majority");
    stage.delete("/api/nodes/n1?force=true").send().await.assert_status(StatusCode::NO_CONTENT);
    assert_eq!(*heard.lock().unwrap(), ["evict n1 false", "evict n1 true"]);
}

#[tokio::test]
async fn draining_is_told_to_the_machine_itself() {
    let (stage, heard) = stage().await;
    let there = heard.clone();
    let drained = move |message| {
        if let Message::Drain(Wire(duty), port) = message {
            there.lock().unwrap().push(format!("n1: drain {duty:?}"));
            answer(port, if duty != Duty::Work { Ok(()) } else { Err(NodeError::Store("the disk is full".into())) });
        }
    };
    stage.play_on(1, node::NAME, drained).await;
    stage.post("/api/nodes/n1/drain").send().await.assert_status(StatusCode::NO_CONTENT);
    stage.post("/api/nodes/n1/drain?within_s=60").send().await.assert_status(StatusCode::NO_CONTENT);
    stage.delete("/api/nodes/n0/drain").send().await.assert_status(StatusCode::NO_CONTENT);
    let unsaved = stage.delete("/api/nodes/n1/drain").send().await;
    problem(unsaved, 500, "it could not be saved: the disk is full").await;
    assert_eq!(
        *heard.lock().unwrap(),
        ["n1: drain NoNewWork", "n1: drain NoWork { within_s: 60 }", "drain Work", "n1: drain Work"]
    );
}

#[tokio::test]
async fn an_invite_says_what_to_run_on_the_other_machine() {
    let (stage, _) = stage().await;
    let (_, invite) = json(stage.get("/api/cluster/join-token").send().await).await;
    assert_eq!(
        invite,
        json!({"token": LINE, "short_code": "ab12cd", "expires_at": "1970-01-01T00:10:00Z", "addresses": ["192.168.1.7:4892"],
        "cli_command": format!("skep join {LINE}"), "join_url": format!("/join/{LINE}")})
    );
}

#[tokio::test]
async fn both_documented_ways_let_this_node_join() {
    let (stage, heard) = stage().await;
    let (status, joined) = json(stage.post_json("/api/cluster/join", json!({"token": LINE})).await).await;
    assert_eq!((status, &joined["status"]), (200, &json!("success")));
    stage.post_json("/api/cluster/join-remote", json!({"invite": LINE})).await.assert_status_is_ok();
    let code = json!({"coordinator_ip": "10.0.0.1:4893", "token": "ab12cd"});
    stage.post_json("/api/cluster/join-remote", code).await.assert_status_is_ok();
    assert_eq!(*heard.lock().unwrap(), ["join skep1abcdef", "join skep1abcdef", "join ab12cd@10.0.0.1:4893"]);
    let spent = stage.post_json("/api/cluster/join", json!({"token": "spent"})).await;
    spent.assert_status(StatusCode::GONE);
    let joiner = stage.post_json("/api/cluster/join", json!({"token": LINE, "node_id": "n", "name": "pi"})).await;
    joiner.assert_status(StatusCode::FAILED_DEPENDENCY);
    assert_eq!(heard.lock().unwrap().len(), 4, "this node didn't join for it");
}

#[tokio::test]
async fn machines_that_wait_are_listed_and_let_in() {
    let (stage, heard) = stage().await;
    let (_, waiting) = json(stage.get("/api/cluster/waiting").send().await).await;
    assert_eq!((&waiting[0]["code"], &waiting[0]["address"]), (&json!("123456"), &json!("10.0.0.9:4893")));
    let (_, approved) = json(stage.post_json("/api/cluster/approve", json!({"code": "123456"})).await).await;
    assert_eq!(approved["id"], stage.context().directory.id().to_string());
    stage.post("/api/cluster/leave?forget=true").send().await.assert_status_is_ok();
    assert_eq!(*heard.lock().unwrap(), ["leave true"]);
    let (_, doctor) = json(stage.get("/api/cluster/doctor").send().await).await;
    assert_eq!(doctor[0]["check"], "multicast");
}
