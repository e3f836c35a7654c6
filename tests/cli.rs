//! The command line without a swarm: mistakes, exit codes, what the folder holds.

mod bee;

use bee::Hive;
use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
};
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
    let more = ["--join", "skep1nonsense", "--api-host", "http://bee"];
    let mut up = Command::new(bee::program());
    up.args(args).args(more).env("SKEP_HOME", &home).env("SKEP_SWARM_KEY", OsStr::from_bytes(b"\xff"));
    let output = up.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    for flag in ["--api ", "--listen", "--store", "--label", "--name", "--join", "--api-host", "SKEP_SWARM_KEY"] {
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

#[tokio::test]
async fn the_link_of_open_signs_a_browser_in_once() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    let url = alder.skep(&["open"]).await["url"].as_str().unwrap().to_string();
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let entered = browser.get(&url).send().await.unwrap();
    assert_eq!(entered.status(), 303);
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_string();
    let nodes = browser.get(alder.url("/api/nodes")).header("cookie", cookie).send().await.unwrap();
    assert_eq!(nodes.status(), 200);
    assert_eq!(browser.get(&url).send().await.unwrap().status(), 410, "the link is spent");
}

#[tokio::test]
async fn an_unknown_machine_is_told_by_its_exit_code() {
    let hive = Hive::new();
    let alder = hive.start("alder").await;
    for args in [&["run", "--on", "nobody", "--", "true"][..], &["agent", "--on", "nobody", "x"], &["evict", "nobody"]]
    {
        assert_eq!(alder.try_skep(args).await.status.code(), Some(4), "{args:?}");
    }
}

#[tokio::test]
async fn without_a_node_there_is_no_token_to_print() {
    let hive = Hive::new();
    let output =
        Command::new(bee::program()).arg("token").env("SKEP_HOME", hive.home("nobody")).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("skep up"));
}
