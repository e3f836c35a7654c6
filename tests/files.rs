//! Files that commands are given and leave, on whichever machine they run.

mod bee;

use bee::{Bee, Hive};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Stores bytes over the API, as any client would.
async fn store(bee: &Bee, bytes: Vec<u8>) -> (u16, Value) {
    let request = reqwest::Client::builder().no_proxy().build().expect("a client").post(bee.url("/api/blobs"));
    let request = request.bearer_auth(&bee.token).header("content-type", "application/octet-stream").body(bytes);
    let answer = request.send().await.expect("it answers");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn fetch(bee: &Bee, digest: &str) -> (u16, Vec<u8>) {
    let request =
        reqwest::Client::builder().no_proxy().build().expect("a client").get(bee.url(&format!("/api/blobs/{digest}")));
    let answer = request.bearer_auth(&bee.token).send().await.expect("it answers");
    (answer.status().as_u16(), answer.bytes().await.expect("all of it").to_vec())
}

async fn ended(bee: &Bee, task: Value) -> Value {
    let (status, task) = bee.call("POST", "/api/tasks", Some(task)).await;
    assert_eq!(status, 201, "{task}");
    let path = format!("/api/tasks/{}", task["id"].as_str().expect("an id"));
    bee.until("it has ended", &path, |task| task["finished_at"].is_string()).await
}

fn names(task: &Value) -> Vec<&str> {
    bee::list(task, "artefacts").iter().filter_map(|artefact| artefact["path"].as_str()).collect()
}

#[tokio::test]
async fn what_a_command_needs_goes_with_it_and_what_it_leaves_comes_back() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let here = hive.folder.path().join("here");
    fs::create_dir_all(here.join("data/deep")).unwrap();
    fs::write(here.join("data/deep/words"), "wax\nhoney\n").unwrap();
    // More than a piece of anything.
    let large: Vec<u8> = (0..5_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    fs::write(here.join("large"), &large).unwrap();
    fs::write(here.join("job"), "#!/bin/sh\nmkdir -p out && sort data/deep/words > out/sorted && cp big out/big\n")
        .unwrap();
    fs::set_permissions(here.join("job"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| here.join(name).display().to_string();
    let (data, job, big, into) = (path("data"), path("job"), format!("big={}", path("large")), path("back"));
    let line = [
        "run", "--on", "birch", "--input", &data, "--input", &job, "--input", &big, "--output", "out", "--into", &into,
        "./job",
    ];
    let ran = alder.run(&line).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("2 files are in"), "{said}");
    assert_eq!(fs::read_to_string(Path::new(&into).join("out/sorted")).unwrap(), "honey\nwax\n");
    assert!(fs::read(Path::new(&into).join("out/big")).unwrap() == large);

    // Any machine has it, the same twice is one, and it is fetched from whoever has it.
    let tasks = birch.get("/api/tasks").await;
    let task = &bee::list(&tasks, "tasks")[0];
    assert_eq!((names(task), &task["assigned_node"]), (vec!["out/big", "out/sorted"], &json!(birch.id())));
    let again = alder.skep(&["fetch", task["id"].as_str().unwrap(), "--into", &path("again")]).await;
    assert_eq!(again.as_array().map(Vec::len), Some(2));
    assert_eq!(fs::read_to_string(here.join("again/out/sorted")).unwrap(), "honey\nwax\n");
    let cedar = hive.join("cedar", &birch).await;
    let digest = bee::list(task, "artefacts")[0]["digest"].as_str().unwrap();
    assert!(fetch(&cedar, digest).await == (200, large));
    let held = cedar.get("/api/blobs").await;
    assert_eq!((&held["count"], &held["blobs"][0]["digest"]), (&json!(1), &json!(digest)));
    assert_eq!(cedar.call("DELETE", &format!("/api/blobs/{digest}"), None).await.0, 204);
    assert_eq!(cedar.get("/api/blobs").await["count"], 0);
}

#[tokio::test]
async fn a_file_is_on_two_machines_before_its_storing_is_answered() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let (status, stored) = store(&alder, b"honey".to_vec()).await;
    assert_eq!((status, &stored["bytes"]), (201, &json!(5)), "{stored}");
    let id = alder.id().to_owned();
    alder.kill().await;
    birch.until("alder is missed", "/api/nodes", |nodes| bee::status(nodes, &id) == Some("offline")).await;
    let digest = stored["digest"].as_str().unwrap();
    let given = json!([{ "path": "jar", "digest": digest }]);
    let task = ended(&birch, json!({ "command": "cat jar", "inputs": given })).await;
    assert_eq!((&task["status"], &task["output"]), (&json!("completed"), &json!("honey")), "{task}");
}

#[tokio::test]
async fn nothing_leaves_the_folder_and_what_is_wrong_is_said_before_or_after() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let digest = store(&alder, b"honey".to_vec()).await.1["digest"].as_str().unwrap().to_owned();
    let other = "0".repeat(64);
    let refused = [
        (json!([{ "path": "../jar", "digest": digest }]), json!([]), 400, "inputs", "no path within"),
        (json!([{ "path": "/etc/jar", "digest": digest }]), json!([]), 400, "inputs", "no path within"),
        (
            json!([{ "path": "a", "digest": digest }, { "path": "a/b", "digest": digest }]),
            json!([]),
            400,
            "inputs",
            "a file and a folder",
        ),
        (json!([{ "path": "jar", "digest": "honey" }]), json!([]), 400, "inputs", "SHA-256"),
        (json!([{ "path": "jar", "digest": other }]), json!([]), 404, "inputs", "store it again"),
        (json!([]), json!(["out/../.."]), 400, "outputs", "no path within"),
    ];
    for (inputs, outputs, wanted, field, why) in refused {
        let task = json!({ "command": "true", "inputs": inputs, "outputs": outputs });
        let (status, problem) = alder.call("POST", "/api/tasks", Some(task.clone())).await;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!((status, &problem["field"]), (wanted, &json!(field)), "{task}: {problem}");
        assert!(detail.contains(why), "{task}: {problem}");
    }
    assert_eq!(fetch(&alder, &other).await.0, 404);
    assert_eq!(fetch(&alder, "..%2f..%2ftoken").await.0, 400);

    let run = |line: &str, outputs: Value| ended(&alder, json!({ "command": line, "outputs": outputs }));
    let task = run("ln -s /etc/passwd out; ln -s /etc all", json!(["out", "all"])).await;
    assert_eq!((&task["status"], names(&task)), (&json!("failed"), vec![]), "{task}");
    let task = run("echo 1 > one", json!(["one", "two"])).await;
    assert_eq!((&task["status"], names(&task)), (&json!("failed"), vec!["one"]), "{task}");
    assert!(task["error"].as_str().unwrap().contains("left nothing under its output two"), "{task}");
    // One that fails keeps what it left, and its own reason.
    let task = run("echo 1 > one; exit 3", json!(["one", "two"])).await;
    assert_eq!((&task["exit_code"], names(&task)), (&json!(3), vec!["one"]), "{task}");
    let task = run("for i in $(seq 65); do echo $i > $i; done; mkdir d; mv [0-9]* d", json!(["d"])).await;
    assert!(task["error"].as_str().unwrap().contains("pack them into one"), "{task}");

    // What a task needs that has not ended stays.
    let given = json!([{ "path": "jar", "digest": digest }]);
    let task = alder.post("/api/tasks", json!({ "command": "sleep 600", "inputs": given })).await;
    let (status, problem) = alder.call("DELETE", &format!("/api/blobs/{digest}"), None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("blob_in_use")), "{problem}");
    alder.skep(&["cancel", task["id"].as_str().unwrap()]).await;
    assert_eq!(alder.call("DELETE", &format!("/api/blobs/{digest}"), None).await.0, 204);
}
