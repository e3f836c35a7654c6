//! Commands on machines: placed, followed, ended with everything that they started.

mod bee;

use bee::Hive;
use serde_json::json;

#[tokio::test]
async fn a_command_runs_on_the_chosen_machine_and_its_exit_code_is_ours() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let ran = alder.run(&["run", "--on", "birch", "--", "echo", "hello from", "birch"]).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "hello from birch\n");

    let ran = alder.run(&["run", "--on", "birch", "exit 7"]).await;
    assert_eq!(ran.status.code(), Some(7));

    let tasks = birch.get("/api/tasks").await;
    let tasks = bee::list(&tasks, "tasks");
    assert_eq!(tasks.len(), 2, "every node shows the swarm's tasks");
    assert!(tasks.iter().all(|t| t["assigned_node"] == birch.id()));
}

#[tokio::test]
async fn a_command_finds_the_machine_with_its_label() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let shown = alder.skep(&["label", "birch", "room=attic", "quiet="]).await;
    assert_eq!(shown, json!({ "room": "attic", "quiet": "" }));
    let attic = |nodes: &serde_json::Value| bee::list(nodes, "nodes").iter().any(|n| n["labels"]["room"] == "attic");
    alder.until("alder has heard of it", "/api/nodes", attic).await;
    for condition in ["quiet", "room=attic"] {
        let task = alder.skep(&["run", "--detach", "--where", condition, "--where", "os=linux", "true"]).await;
        let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
        let task = alder.until("it is done", &path, |t| t["status"] == "completed").await;
        assert_eq!(task["assigned_node"], birch.id(), "{task}");
    }
    let refused = alder.try_skep(&["run", "--where", "room=cellar", "true"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("birch is not room=cellar"), "{said}");
    assert_eq!(alder.skep(&["label", "birch", "quiet-"]).await, json!({ "room": "attic" }));
}

#[tokio::test]
async fn a_cancelled_command_leaves_no_orphan() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    // Two generations, one of them in the background of the other.
    let mark = format!("skep-orphan-{}", std::process::id());
    let line = format!("exec -a {mark} sleep 300 & bash -c 'exec -a {mark} sleep 301' & echo ready; wait");
    let task = alder.post("/api/tasks", json!({ "command": "bash", "args": ["-c", line], "node": birch.id() })).await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    alder.until("it runs", &path, |t| t["output"].as_str().is_some_and(|o| o.contains("ready"))).await;
    bee::until("both sleepers started", || processes(&mark) == 2).await;
    alder.skep(&["cancel", task["id"].as_str().unwrap()]).await;
    let task = alder.get(&path).await;
    assert_eq!(task["status"], "cancelled");
    assert_eq!(processes(&mark), 0, "nothing of it is left when the cancel is answered");
}

#[tokio::test]
async fn a_command_that_never_runs_twice_at_once_runs_again_when_its_machine_is_gone() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    birch.until("cedar is online", "/api/nodes", |n| bee::status(n, cedar.id()) == Some("online")).await;
    let (log, first) = (hive.folder.path().join("log"), hive.folder.path().join("first"));
    let line = format!(
        "echo \"$SKEP_TASK\" >> '{}'; [ -e '{first}' ] || {{ touch '{first}'; sleep 600; }}",
        log.display(),
        first = first.display()
    );
    let wanted = |delivery: &str| {
        json!({
            "command": line, "delivery": delivery, "preferred_node": birch.id(), "sandbox": "none",
            "idempotency_key": "the one",
        })
    };
    let (status, why) = alder.call("POST", "/api/tasks", Some(wanted("exactly_once"))).await;
    assert!(status == 400 && why["field"] == "delivery", "{status} {why}");
    let task = alder.post("/api/tasks", wanted("at_most_once")).await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    bee::until("it runs", || first.exists()).await;
    // Whoever asks elsewhere with the same key has the same one.
    let again = cedar.post("/api/tasks", wanted("at_most_once")).await;
    assert_eq!(again["id"], task["id"]);
    birch.kill().await;
    let ended = cedar.until("it is done", &path, |t| t["status"] == "completed").await;
    assert_eq!(ended["attempts"], 2, "{ended}");
    let marks = std::fs::read_to_string(log).unwrap();
    assert_eq!(marks.lines().count(), 2, "{marks}");
    // Of three, one that is left decides nothing.
    let id = alder.id().to_owned();
    alder.kill().await;
    cedar.until("alder is missed", "/api/nodes", |n| bee::status(n, &id) == Some("offline")).await;
    let (status, why) =
        cedar.call("POST", "/api/tasks", Some(json!({ "command": "true", "delivery": "at_most_once" }))).await;
    assert_eq!(status, 503, "{why}");
    let usual = cedar.post("/api/tasks", json!({ "command": "true" })).await;
    let path = format!("/api/tasks/{}", usual["id"].as_str().unwrap());
    cedar.until("what may run twice runs", &path, |t| t["status"] == "completed").await;
}

#[tokio::test]
async fn a_command_that_never_runs_twice_at_once_does_not_while_its_node_stands_still() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    birch.until("cedar is online", "/api/nodes", |n| bee::status(n, cedar.id()) == Some("online")).await;
    let mark = format!("skep-single-{}", std::process::id());
    let wanted = json!({
        "command": "bash", "args": ["-c", format!("exec -a {mark} sleep 600")], "delivery": "at_most_once",
        "preferred_node": birch.id(), "sandbox": "none",
    });
    let task = alder.post("/api/tasks", wanted).await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    bee::until("it runs", || processes(&mark) == 1).await;
    // As a debugger would, or a machine without memory: birch's keepers go on.
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args([name, &birch.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {name}");
    };
    signal("-STOP");
    let most = std::cell::Cell::new(0);
    let elsewhere = |t: &serde_json::Value| {
        most.set(most.get().max(processes(&mark)));
        t["attempts"] == 2 && t["status"] == "running" && processes(&mark) == 1
    };
    alder.until("it runs elsewhere", &path, elsewhere).await;
    signal("-CONT");
    birch.until("birch has heard of it", &path, |t| t["attempts"] == 2).await;
    assert!(most.get().max(processes(&mark)) == 1, "{} of it ran at once", most.get());
    alder.skep(&["cancel", task["id"].as_str().unwrap()]).await;
    assert_eq!(processes(&mark), 0);
}

#[tokio::test]
async fn a_command_outlives_the_machine_that_it_was_given_to() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    birch.until("cedar is online", "/api/nodes", |n| bee::status(n, cedar.id()) == Some("online")).await;
    let go = hive.folder.path().join("go");
    let line = format!("until [ -e '{}' ]; do sleep 0.1; done; echo done", go.display());
    // It looks at a file of ours.
    let wanted = json!({ "command": "bash", "args": ["-c", line], "node": cedar.id(), "sandbox": "none" });
    let task = alder.post("/api/tasks", wanted).await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    birch.until("it runs", &path, |t| t["status"] == "running" && t["started_at"].is_string()).await;
    alder.kill().await;
    std::fs::write(go, "").unwrap();
    for bee in [&birch, &cedar] {
        let ended = bee.until("it is done", &path, |t| t["status"] == "completed").await;
        assert_eq!(
            (ended["output"].as_str(), &ended["assigned_node"]),
            (Some("done\n"), &json!(cedar.id())),
            "{ended}"
        );
    }
    // It comes back to a swarm that went on without it.
    let alder = hive.start("alder").await;
    alder.until("it is known here too", &path, |t| t["status"] == "completed").await;
}

#[tokio::test]
async fn a_command_dies_with_its_machine() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let mark = format!("skep-widow-{}", std::process::id());
    let line = format!("exec -a {mark} sleep 300");
    let task = alder.post("/api/tasks", json!({ "command": "bash", "args": ["-c", line], "node": birch.id() })).await;
    bee::until("it started", || processes(&mark) == 1).await;
    birch.kill().await;
    let path = format!("/api/tasks/{}", task["id"].as_str().unwrap());
    let task = alder.until("its record says so", &path, |t| t["status"] == "failed").await;
    assert!(task["error"].as_str().is_some_and(|e| !e.is_empty()), "{task}");
    bee::until("the command died with its machine", || processes(&mark) == 0).await;
}

#[tokio::test]
async fn mistakes_are_told_with_the_field() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let (code, problem) = alder.call("POST", "/api/tasks", Some(json!({ "preferred_node": "x" }))).await;
    assert_eq!(code, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("command"), "{problem}");
    let (code, problem) = alder.call("GET", "/api/tasks/00000000-0000-4000-8000-000000000000", None).await;
    assert_eq!((code, &problem["detail"]), (404, &problem["error"]), "{problem}");
    assert!(!alder.run(&["run", "--on", "nobody", "true"]).await.status.success());
}

fn processes(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("a Linux machine").flatten();
    all.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The process's own name, not a shell whose argument mentions it.
        line.split(|b| *b == 0).next().is_some_and(|name| name == mark.as_bytes())
    })
    .count()
}
