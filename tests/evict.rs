//! Who is evicted is out, and who died comes back as the same machine.

mod bee;

use bee::{Hive, list, status};

#[tokio::test]
async fn an_evicted_machine_is_refused_by_everyone() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    birch.until("cedar is online", "/api/nodes", |n| status(n, cedar.id()) == Some("online")).await;

    alder.skep(&["evict", "cedar"]).await;
    for bee in [&alder, &birch] {
        bee.until("cedar is gone", "/api/nodes", |n| status(n, cedar.id()).is_none()).await;
    }
    // It is alone now, however often it tries.
    cedar
        .until("the others are out of reach", "/api/nodes", |n| {
            list(n, "nodes").iter().all(|n| n["id"] == cedar.id() || n["status"] != "online")
        })
        .await;
}

#[tokio::test]
async fn a_killed_machine_is_listed_as_down_and_comes_back_without_a_ghost() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let cedar = hive.join("cedar", &alder).await;
    birch.until("cedar is online", "/api/nodes", |n| status(n, cedar.id()) == Some("online")).await;

    let id = cedar.id().to_string();
    cedar.kill().await;
    for bee in [&alder, &birch] {
        bee.until("cedar is down", "/api/nodes", |n| status(n, &id) == Some("offline")).await;
    }
    let cedar = hive.start("cedar").await;
    assert_eq!(cedar.id(), id, "the key is kept");
    for bee in [&alder, &birch] {
        let nodes = bee.until("cedar is back", "/api/nodes", |n| status(n, &id) == Some("online")).await;
        assert_eq!(list(&nodes, "nodes").len(), 3, "no ghost stays");
    }
}

#[tokio::test]
async fn who_says_goodbye_is_known_to_have_left() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let birch = hive.join("birch", &alder).await;
    let id = birch.id().to_string();
    birch.stop().await;
    alder.until("birch has left", "/api/nodes", |n| status(n, &id) == Some("offline")).await;
    assert!(!hive.home("birch").join("node.json").exists(), "a node that stopped takes its note back");
}
