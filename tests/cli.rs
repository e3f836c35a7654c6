//! The command line without a swarm: mistakes, exit codes, what the folder holds.

mod bee;

use bee::Hive;
use std::os::unix::fs::PermissionsExt;
use tokio::process::Command;

#[tokio::test]
async fn without_a_node_every_question_says_what_to_do() {
    let hive = Hive::new();
    let output =
        Command::new(bee::program()).args(["nodes"]).env("SKEP_HOME", hive.home("nobody")).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("skep up"));
}

#[tokio::test]
async fn all_mistakes_are_told_together_before_anything_is_opened() {
    let hive = Hive::new();
    let home = hive.home("wrong");
    let args = ["up", "--api", "nonsense", "--listen", "127.0.0.1", "--store", "paper", "--label", "x", "--name", ""];
    let output = Command::new(bee::program()).args(args).env("SKEP_HOME", &home).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    for flag in ["--api", "--listen", "--store", "--label", "--name"] {
        assert!(error.contains(flag), "{flag} is missing in {error}");
    }
    assert!(!home.exists(), "nothing was opened");
}

#[tokio::test]
async fn a_busy_port_is_said_and_the_node_that_has_it_goes_on() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let api = alder.note["api"].as_str().unwrap().to_string();
    let output = Command::new(bee::program())
        .args(["up", "--listen", "127.0.0.1:0", "--no-mdns", "--api", &api])
        .env("SKEP_HOME", hive.home("birch"))
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("can't listen"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    alder.get("/api/health").await;
}

#[tokio::test]
async fn secrets_on_disk_are_the_owners_alone() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    for file in ["key", "token"] {
        let mode = std::fs::metadata(alder.home.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_second_node_in_the_same_folder_is_refused() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let refused = hive.try_start("alder", &[], &[]).await.err().expect("the folder is taken");
    assert!(!refused.is_empty());
    alder.get("/api/health").await;
}
