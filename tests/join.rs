//! Machines become members: by invite, by short code, never without.

mod bee;

use bee::{Hive, list, status};
use serde_json::json;

#[tokio::test]
async fn a_machine_joins_by_an_invite_and_both_see_each_other() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    for bee in [&alder, &birch] {
        let nodes = bee
            .until("both are online", "/api/nodes", |n| {
                list(n, "nodes").iter().filter(|n| n["status"] == "online").count() == 2
            })
            .await;
        assert_eq!(list(&nodes, "nodes").len(), 2);
    }
    assert!(alder.get("/api/status").await["node_count"] == 2);
}

#[tokio::test]
async fn a_machine_joins_by_the_short_code() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.start("birch").await;
    let invite = alder.skep(&["invite"]).await;
    let code = format!("{}@{}", invite["short_code"].as_str().unwrap(), alder.note["quic"].as_str().unwrap());
    birch.skep(&["join", &code]).await;
    birch.until("alder is online", "/api/nodes", |n| status(n, alder.id()) == Some("online")).await;
}

#[tokio::test]
async fn an_invite_works_once_and_a_wrong_one_never() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let line = alder.skep(&["invite"]).await["token"].as_str().unwrap().to_string();
    let birch = hive.start_with("birch", &[], &[("SKEP_JOIN", &line)]).await;
    let refused = hive.try_start("cedar", &[], &[("SKEP_JOIN", &line)]).await.err().expect("the invite was used");
    assert!(refused.contains("used already"), "{refused}");

    let cedar = hive.start("cedar").await;
    let (code, answer) = cedar.call("POST", "/api/cluster/join", Some(json!({ "token": "skep1notaninvite" }))).await;
    assert_eq!(code, 400, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("not an invite"), "{answer}");
    assert_eq!(list(&birch.get("/api/nodes").await, "nodes").len(), 2);
}

#[tokio::test]
async fn a_wrong_code_is_refused_and_the_tries_are_few() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.start("birch").await;
    let invite = alder.skep(&["invite"]).await;
    let right = invite["short_code"].as_str().unwrap();
    let at = alder.note["quic"].as_str().unwrap();
    // The first character names the invite, the rest is the secret: another secret for the same invite.
    let secret: String = right[1..].chars().rev().collect();
    let secret = if secret == right[1..] { format!("{}{}", &right[2..], &right[1..2]) } else { secret };
    let wrong = format!("{}{secret}", &right[..1]);
    for _ in 0..3 {
        let refused = birch.try_skep(&["join", &format!("{wrong}@{at}")]).await;
        assert!(!refused.status.success());
    }
    let refused = birch.try_skep(&["join", &format!("{right}@{at}")]).await;
    assert!(!refused.status.success(), "after three wrong tries even the right code is dead");
}

#[tokio::test]
async fn the_invite_of_a_unit_file_goes_on_to_work_once_it_has_worked() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let line = alder.skep(&["invite"]).await["token"].as_str().unwrap().to_string();
    let birch = hive.start_with("birch", &[], &[("SKEP_JOIN", &line)]).await;
    birch.stop().await;
    let birch = hive.start_with("birch", &[], &[("SKEP_JOIN", &line)]).await;
    birch.until("alder is online", "/api/nodes", |n| status(n, alder.id()) == Some("online")).await;
}

#[tokio::test]
async fn a_machine_that_has_joined_gets_work_at_once() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let task = alder.skep(&["run", "--on", "birch", "--", "echo", "here"]).await;
    assert_eq!((task["status"].as_str(), task["assigned_node"].as_str()), (Some("completed"), Some(birch.id())));
}

#[tokio::test]
async fn what_an_invite_says_to_type_can_be_reached() {
    let hive = Hive::new();
    // As by default, it listens on every interface.
    let alder = hive.start_with("alder", &["--listen", "0.0.0.0:0"], &[]).await;
    let said = alder.run(&["invite"]).await;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.contains("0.0.0.0"), "{said}");
    let Some(short) = said.split_whitespace().find(|word| word.contains('@')) else {
        // Without a network there is no address to type, and none is made up.
        assert!(alder.skep(&["invite"]).await["addresses"].as_array().unwrap().is_empty());
        return;
    };
    let birch = hive.start_with("birch", &["--listen", "0.0.0.0:0"], &[]).await;
    birch.skep(&["join", short]).await;
    birch.until("alder is online", "/api/nodes", |n| status(n, alder.id()) == Some("online")).await;
}
