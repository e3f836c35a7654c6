//! Cron jobs: made, listed, fired and removed from the command line and over HTTP, and carried on by another machine.

mod bee;

use bee::{Hive, list};
use serde_json::{Value, json};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn completed(runs: &Value) -> usize {
    list(runs, "runs").iter().filter(|run| run["status"] == "completed").count()
}

#[tokio::test]
async fn a_job_runs_each_second_until_it_is_removed() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let none = alder.run(&["cron", "list"]).await;
    assert!(text(&none).contains("skep cron add"), "{}", text(&none));
    let add = ["cron", "add", "--every", "1s", "--name", "hum", "--tz", "Europe/Zurich", "--", "echo", "hello", "bees"];
    let made = alder.skep(&add).await;
    let id = made["job_id"].as_str().expect("an id").to_owned();
    let path = format!("/api/cron/runs?job_id={id}");
    let runs = alder.until("it has run twice", &path, |runs| completed(runs) >= 2).await;
    let run = list(&runs, "runs").iter().find(|run| run["status"] == "completed").expect("one is done").clone();
    assert_eq!((&run["job_name"], &run["output_text"]), (&json!("hum"), &json!("hello bees\n")), "{run}");
    assert!(
        run["duration_ms"].is_u64()
            && run["created_at"].as_str().is_some_and(|at| at.starts_with(run["day"].as_str().unwrap_or("?"))),
        "{run}"
    );
    let task = alder.get(&format!("/api/tasks/{}", run["id"].as_str().expect("an id"))).await;
    assert_eq!(task["status"], "completed", "a run is a task: {task}");

    let job = alder.skep(&["cron", "show", "hum"]).await;
    for (field, value) in [
        ("enabled", json!(true)),
        ("schedule_kind", json!("every")),
        ("schedule_every_ms", json!(1000)),
        ("schedule_tz", json!("Europe/Zurich")),
        ("consecutive_errors", json!(0)),
        ("owner_node", json!(alder.id())),
    ] {
        assert_eq!(job[field], value, "{field}: {job}");
    }
    assert!(job["last_run_at"].is_string() && job["next_run_at"].is_string(), "{job}");
    let payload: Value = serde_json::from_str(job["payload_json"].as_str().expect("a text")).expect("it is JSON");
    assert_eq!(payload, json!({ "command": "echo", "args": ["hello", "bees"] }));
    for words in [&["cron", "list"][..], &["cron", "runs", "hum"], &["cron", "show", &id[..8]]] {
        let shown = alder.run(words).await;
        assert!(shown.status.success() && text(&shown).contains("hum"), "{words:?}: {}", text(&shown));
    }

    assert_eq!(alder.skep(&["cron", "rm", "hum"]).await, json!({ "deleted": true, "id": id }));
    let (status, _) = alder.call("GET", &format!("/api/cron/jobs/{id}"), None).await;
    assert_eq!(status, 404);
    let gone = alder.run(&["cron", "show", "hum"]).await;
    assert!(gone.status.code() == Some(4) && text(&gone).contains("skep cron list"), "{}", text(&gone));
}

#[tokio::test]
async fn a_failing_job_says_how_often_and_why_and_a_senseless_one_is_refused() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let made = alder
        .post(
            "/api/cron/jobs",
            json!({ "name": "sting", "schedule_kind": "interval", "schedule": "1s",
            "agent_id": "a", "description": "d", "payload_json": r#"{"command":"exit 3"}"# }),
        )
        .await;
    let path = format!("/api/cron/jobs/{}", made["job_id"].as_str().expect("an id"));
    let job = alder.until("it has failed twice", &path, |job| job["consecutive_errors"].as_u64() >= Some(2)).await;
    assert!(job["last_error"].as_str().is_some_and(|why| why.contains('3')), "{job}");
    assert_eq!(
        (&job["agent_id"], &job["description"], &job["schedule_kind"]),
        (&json!("a"), &json!("d"), &json!("interval"))
    );

    let body = |kind: &str, expr: &str, payload: &str| json!({ "name": "n", "schedule_kind": kind, "schedule_expr": expr, "payload_json": payload });
    for (body, field) in [
        (body("every", "5", r#"{"command":"true"}"#), "schedule_expr"),
        (body("cron", "* * *", r#"{"command":"true"}"#), "schedule_expr"),
        (body("every", "5m", r#"{"goal":"think"}"#), "payload_json"),
        (body("yearly", "5m", r#"{"command":"true"}"#), "schedule_kind"),
    ] {
        let (status, problem) = alder.call("POST", "/api/cron/jobs", Some(body)).await;
        assert_eq!((status, problem["field"].as_str()), (400, Some(field)), "{problem}");
    }
    let vague = alder.run(&["cron", "add", "true"]).await;
    assert!(!vague.status.success() && text(&vague).contains("--every 5m"), "{}", text(&vague));
}

#[tokio::test]
async fn a_job_outlives_the_machine_that_it_was_given_to() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let made = alder.skep(&["cron", "add", "--cron", "* * * * * *", "--name", "hum", "echo hello"]).await;
    let path = format!("/api/cron/jobs/{}", made["job_id"].as_str().expect("an id"));
    birch.until("birch has heard of a run's end", &path, |job| job["last_duration_ms"].is_u64()).await;
    alder.kill().await;
    birch.until("birch has taken it over", &path, |job| job["owner_node"] == birch.id()).await;
    let runs = birch.until("birch fires it", "/api/cron/runs", |runs| completed(runs) >= 15).await;
    assert!(list(&runs, "runs").iter().all(|run| run["status"] != "missed"), "{runs:#}");
}
