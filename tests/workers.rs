//! External workers over HTTP: they register, take and finish tasks, fall silent, and outlive the machine that they or
//! their tasks were given to.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Bee, Hive};
use serde_json::{Value, json};

async fn register(bee: &Bee, id: &str, capabilities: &[&str]) {
    let new = json!({ "agent_id": id, "agent_type": "worker", "capabilities": capabilities });
    let answer = bee.post("/agents/register", new).await;
    assert_eq!((&answer["status"], &answer["agent_id"]), (&json!("success"), &json!(id)), "{answer}");
}

async fn submit(bee: &Bee, priority: &str, capabilities: &[&str]) -> String {
    let task = json!({
        "task_data": { "task_type": "summary", "model": "any", "prompt": "bees", "parameters": { "length": 3 } },
        "priority": priority,
        "requirements": { "capabilities": capabilities, "agent_type": "worker" },
    });
    let answer = bee.post("/tasks/submit", task).await;
    assert_eq!((&answer["status"], &answer["priority"]), (&json!("success"), &json!(priority)), "{answer}");
    answer["task_id"].as_str().unwrap().into()
}

/// The task that a worker is given, or nothing.
async fn take(bee: &Bee, id: &str, wish: Value) -> Option<Value> {
    let (status, task) = bee.call("POST", &format!("/agents/{id}/take"), Some(wish)).await;
    assert!([200, 204].contains(&status), "{status} {task}");
    (status == 200).then_some(task)
}

async fn finish(bee: &Bee, worker: &str, task: &str, result: Value) -> (u16, Value) {
    let path = format!("/agents/{worker}/tasks/{task}/finish");
    bee.call("POST", &path, Some(json!({ "ok": true, "result": result }))).await
}

#[tokio::test]
async fn a_task_goes_to_the_worker_that_suits_and_its_result_is_known_everywhere() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    register(&alder, "plain", &[]).await;
    register(&birch, "able", &["summary"]).await;
    let odd = json!({ "task_data": { "task_type": "t" }, "priority": "asap" });
    let (status, problem) = alder.call("POST", "/tasks/submit", Some(odd)).await;
    assert_eq!((status, &problem["detail"]), (400, &json!("Invalid priority: asap")));
    assert_eq!(problem["error"], problem["detail"]);
    let (status, problem) = alder.call("GET", "/agents/nobody", None).await;
    assert_eq!((status, &problem["detail"]), (404, &json!("Agent not found")));

    // One waits for work at one machine, the work is given to the other.
    let waiting = take(&birch, "able", json!({ "wait_s": 30 }));
    let (task, id) = futures::join!(waiting, submit(&alder, "high", &["summary"]));
    let task = task.unwrap();
    assert_eq!((&task["task_id"], &task["state"], &task["attempt"]), (&json!(id), &json!("assigned"), &json!(1)));
    assert_eq!(task["task_data"]["parameters"]["length"], 3);
    assert!(take(&alder, "plain", json!({})).await.is_none());
    let (status, heard) = birch.call("POST", "/agents/able/heartbeat", None).await;
    assert_eq!((status, &heard["agent_id"]), (200, &json!("able")), "{heard}");
    let (status, ended) = finish(&alder, "able", &id, json!({ "text": "buzz" })).await;
    assert_eq!((status, &ended["state"]), (200, &json!("completed")), "{ended}");
    assert_eq!(finish(&birch, "able", &id, json!("other")).await.1["result"]["text"], "buzz");
    assert_eq!(finish(&birch, "plain", &id, json!("other")).await.0, 409);
    for bee in [&alder, &birch] {
        assert_eq!(bee.get(&format!("/tasks/{id}")).await["result"]["text"], "buzz");
        let stats = bee.get("/tasks/status").await["stats"].clone();
        assert_eq!((&stats["tasks_distributed"], &stats["tasks_completed"]), (&json!(1), &json!(1)), "{stats}");
        let balancer = &stats["load_balancer_stats"];
        assert_eq!((&balancer["strategy"], &balancer["active_agents"]), (&json!("least_connections"), &json!(2)));
        let busy = json!({ "capabilities": ["summary"], "status": "active" });
        let found = bee.post("/agents/discover", busy).await;
        assert_eq!((&found["count"], &found["agents"][0]["agent_id"]), (&json!(1), &json!("able")), "{found}");
    }
    let load = json!({ "status": "busy", "load_metrics": { "active_connections": 2, "cpu_usage": 0.9 } });
    assert_eq!(alder.call("PUT", "/agents/able/status", Some(load)).await.0, 200);
    let agent = alder.get("/agents/able").await["agent"].clone();
    assert_eq!((&agent["status"], &agent["load_metrics"]["active_connections"]), (&json!("busy"), &json!(2)));

    submit(&alder, "low", &["nothing has it"]).await;
    assert_eq!(
        birch.until("it is known", "/tasks/queues", |q| q["queue_sizes"]["low"] == 1).await["status"],
        "success"
    );
    let cleared = birch.post("/tasks/queues/low/clear", json!({})).await;
    assert_eq!(cleared["cleared_count"], 1, "{cleared}");
    assert_eq!(alder.get("/tasks/queues/stats").await["queue_sizes"]["low"], 0);
    let workers = alder.skep(&["workers"]).await;
    assert_eq!(workers.as_array().unwrap().len(), 2, "{workers}");
}

#[tokio::test]
async fn a_silent_workers_task_goes_to_another() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    register(&alder, "silent", &[]).await;
    register(&alder, "loud", &[]).await;
    let id = submit(&alder, "normal", &[]).await;
    let wish = json!({ "lease_s": 5 });
    assert_eq!(take(&alder, "silent", wish.clone()).await.unwrap()["task_id"], id);
    // It comes when the lease of the other has run out.
    let again = take(&alder, "loud", json!({ "wait_s": 30, "lease_s": 5 })).await.unwrap();
    assert_eq!((&again["task_id"], &again["attempt"]), (&json!(id), &json!(2)));
    let (status, problem) = finish(&alder, "silent", &id, json!(1)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("lease_lost")), "{problem}");
    assert_eq!(finish(&alder, "loud", &id, json!(2)).await.0, 200);
}

#[tokio::test]
async fn a_task_and_a_worker_outlive_the_machine_that_they_were_given_to() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    register(&alder, "w", &[]).await;
    let id = submit(&alder, "urgent", &[]).await;
    let gone = alder.id().to_string();
    alder.kill().await;
    let path = format!("/tasks/{id}");
    birch.until("it is taken over", &path, |task| task["owner_node"] != gone.as_str()).await;
    let task = take(&birch, "w", json!({ "wait_s": 30 })).await.unwrap();
    assert_eq!(task["task_id"], id);
    assert_eq!(finish(&birch, "w", &id, json!("done")).await.0, 200);
    assert_eq!(birch.get("/agents/w").await["agent"]["home_node"], birch.id());
}
