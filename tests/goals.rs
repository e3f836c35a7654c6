//! Goals over the API and the command line: graphs of commands that go their way over machines.

mod bee;

use bee::Hive;
use serde_json::{Value, json};

fn step(name: &str, prerequisites: &[&str], line: &str) -> Value {
    json!({ "task_id": name, "prerequisites": prerequisites, "run": { "command": line } })
}

#[tokio::test]
async fn a_goal_runs_in_order_over_two_machines_and_every_machine_can_tell_of_it() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let say = |what: &str| format!("echo \"{what} $SKEP_INDEX of $SKEP_COUNT\" >> '{}'", log.display());
    let mut shards = step("shards", &["fetch"], &say("shard"));
    shards["count"] = json!(5);
    let mut last = step("report", &[], &say("report"));
    last["execution_mode"] = json!("sequential");
    let mut fetch = step("fetch", &[], &format!("sleep 0.3; {}", say("fetch")));
    for step in [&mut shards, &mut last, &mut fetch] {
        step["run"]["writable"] = json!([logs.path()]);
    }
    let plan = json!({
        "title": "a report", "idempotency_key": "report 1",
        "tasks": [fetch, shards, last],
    });
    let goal = alder.post("/api/goals", plan.clone()).await;
    let again = birch.post("/api/goals", plan).await;
    assert_eq!(goal["goal_id"], again["goal_id"], "the key names one goal");
    let path = format!("/api/goals/{}", goal["goal_id"].as_str().unwrap());
    for bee in [&birch, &alder] {
        let goal = bee.until("it is done", &path, |goal| goal["status"] == "completed").await;
        assert_eq!(goal["progress"]["completed"], 7, "{goal}");
    }
    let lines = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!((lines[0], lines[6], lines.len()), ("fetch 0 of 1", "report 0 of 1", 7), "{lines:?}");
    let mut shards = lines[1..6].to_vec();
    shards.sort_unstable();
    assert_eq!(shards, (0..5).map(|n| format!("shard {n} of 5")).collect::<Vec<_>>());
    assert_eq!(birch.get("/api/goals").await["count"], 1);
}

#[tokio::test]
async fn what_waits_for_a_failure_fails_with_its_reason_and_a_circle_is_refused_by_name() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let plan = json!({ "title": "t", "tasks": [
        step("a", &[], "exit 3"), step("b", &["a"], "true"), step("c", &["b"], "true"), step("d", &[], "true"),
    ]});
    let goal = alder.post("/api/goals", plan).await;
    let path = format!("/api/goals/{}", goal["goal_id"].as_str().unwrap());
    let goal = alder.until("it is over", &path, |goal| goal["status"] == "failed").await;
    let why = |n: usize| goal["tasks"][n]["error"].as_str().unwrap_or_default().to_owned();
    assert!(why(0).contains("status 3") && why(1).contains("for which it waited, failed"), "{goal}");
    assert_eq!((&goal["tasks"][2]["status"], &goal["tasks"][3]["status"]), (&json!("failed"), &json!("completed")));
    let circle = json!({ "title": "t", "tasks": [step("a", &["b"], "true"), step("b", &["a"], "true")] });
    let (status, problem) = alder.call("POST", "/api/goals", Some(circle)).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("a waits for b waits for a"), "{problem}");
    let (status, problem) = alder.call("GET", "/api/goals/none", None).await;
    assert_eq!((status, problem["detail"].as_str()), (404, Some("Goal not found: none")));
}

#[tokio::test]
async fn a_goal_is_ended_and_forgotten_and_the_command_line_waits_for_one() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let plan = json!({ "title": "endless", "tasks": [step("a", &[], "sleep 600"), step("b", &["a"], "true")] });
    let file = hive.folder.path().join("goal.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    let goal = alder.skep(&["goal", "run", "--detach", file.to_str().unwrap()]).await;
    let id = goal["goal_id"].as_str().unwrap();
    alder.until("it runs", &format!("/api/goals/{id}"), |goal| goal["progress"]["running"] == 1).await;
    let ended = alder.skep(&["goal", "cancel", id]).await;
    assert_eq!((&ended["status"], &ended["progress"]["cancelled"]), (&json!("cancelled"), &json!(2)), "{ended}");
    alder.skep(&["goal", "cancel", id]).await;
    assert_eq!(alder.call("GET", &format!("/api/goals/{id}"), None).await.0, 404, "it is forgotten");
    let ran = alder.run(&["run", "--array", "3", "test $SKEP_INDEX -lt 3"]).await;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && said.contains("3 of 3 completed") && said.contains("run[2]"), "{said}");
    let ran = alder.run(&["run", "--array", "3", "test $SKEP_INDEX -lt 2"]).await;
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[tokio::test]
async fn a_gang_waits_until_there_is_room_for_all_of_it_lets_others_pass_and_runs_at_the_same_time() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let all = |nodes: &Value| bee::list(nodes, "nodes").iter().filter(|node| node["cpus"].as_u64() > Some(0)).count();
    let nodes = alder.until("both machines are known", "/api/nodes", |nodes| all(nodes) == 2).await;
    let cores = bee::list(&nodes, "nodes")[0]["cpus"].to_string();
    let beside = alder.post("/api/tasks", json!({ "command": "sleep 600", "node": birch.id(), "cpus": 1 })).await;
    let beside = beside["id"].as_str().unwrap();
    alder.until("it runs", &format!("/api/tasks/{beside}"), |task| task["started_at"].is_string()).await;

    // Each takes a whole machine, and ends only once the other one has begun.
    let meeting = tempfile::tempdir().unwrap();
    let at = meeting.path().to_str().unwrap();
    let line = format!("touch '{at}'/$SKEP_INDEX; until [ -e '{at}'/$((1 - SKEP_INDEX)) ]; do sleep 0.1; done");
    let gang = ["run", "--detach", "--array", "2", "--gang", "--cpus", &cores, "--writable", at, &line];
    let goal = alder.skep(&gang).await;
    let path = format!("/api/goals/{}", goal["goal_id"].as_str().unwrap());
    let ran = alder.run(&["run", "--cpus", "1", "true"]).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(alder.get(&path).await["progress"]["pending"], 2);
    alder.skep(&["cancel", beside]).await;
    let goal = alder.until("it is done", &path, |goal| goal["status"] == "completed").await;
    let mut ran_on = Vec::new();
    for task in bee::list(&goal, "tasks") {
        let task = alder.get(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await;
        assert_eq!(task["gang_size"], 2, "{task}");
        ran_on.push(task["assigned_node"].clone());
    }
    assert_ne!(ran_on[0], ran_on[1]);

    let refused = alder.try_skep(&["run", "--array", "3", "--gang", "--cpus", &cores, "true"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("these 3 can never run at once: all 2 nodes together have room for 2"), "{said}");
}
