//! `skep demo`, as the README promises it; and that it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a failed test panics and says where")]

mod bee;

use bee::{Hive, PATIENCE};
use skep_engine::synthetic;
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

fn demo(hive: &Hive) -> Command {
    let model = hive.folder.path().join("tiny.gguf");
    synthetic::tiny_llama(&model, 7, &synthetic::Options::default()).expect("it is written");
    let mut demo = Command::new(bee::program());
    // Its folders land in ours, so that what it leaves can be seen.
    demo.args(["demo", "--budget", "100000", "--model"])
        .arg(model)
        .arg("--models")
        .arg(hive.models())
        .env("TMPDIR", hive.folder.path());
    demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    demo
}

#[tokio::test]
async fn the_demo_ends_with_its_answer_and_leaves_nothing_behind() {
    let hive = Hive::new();
    let output = timeout(PATIENCE * 5, demo(&hive).output()).await.expect("in time").unwrap();
    let story = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{story}");
    for part in [
        "three nodes are up",
        "split by layers over three nodes",
        "times here",
        "tokens spent",
        "the goal is done",
        "sub-agents worked on the other nodes",
    ] {
        assert!(story.contains(part), "{part} is missing in:\n{story}");
    }
    assert_clean(hive.folder.path()).await;
}

#[tokio::test]
async fn ctrl_c_ends_the_demo_and_all_its_processes() {
    let hive = Hive::new();
    let mut demo = demo(&hive).arg("--keep").spawn().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let up = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("three nodes are up") {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, up).await.unwrap());
    let pid = rustix::process::Pid::from_raw(demo.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    timeout(PATIENCE, demo.wait()).await.expect("it stops in time").unwrap();
    assert_clean(hive.folder.path()).await;
}

#[tokio::test]
async fn a_demo_that_is_kept_ends_well_with_ctrl_c_and_prints_json_alone() {
    let hive = Hive::new();
    let mut demo = demo(&hive).args(["--keep", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let mut story = Vec::new();
    while !story.last().is_some_and(|line: &String| line.contains("stay up until Ctrl-C")) {
        let line = timeout(PATIENCE * 5, lines.next_line()).await.expect("in time").unwrap();
        story.push(line.unwrap_or_else(|| panic!("it ended: {story:#?}")));
    }
    let pid = rustix::process::Pid::from_raw(demo.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = timeout(PATIENCE, demo.wait_with_output()).await.expect("it stops in time").unwrap();
    assert_eq!(output.status.code(), Some(0), "{story:#?}");
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the run's record and nothing else");
    assert_eq!(run["status"], "completed");
}

#[tokio::test]
async fn a_demo_that_is_killed_takes_its_nodes_with_it() {
    let hive = Hive::new();
    let mut demo = demo(&hive).arg("--keep").spawn().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    while let Some(line) = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        if line.contains("three nodes are up") {
            break;
        }
    }
    demo.kill().await.unwrap();
    no_process_of(hive.folder.path()).await;
}

async fn assert_clean(folder: &Path) {
    no_process_of(folder).await;
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name()).collect();
    let left: Vec<_> = left.iter().filter(|n| n.to_string_lossy().starts_with("skep-demo")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Waits until no process names the folder in its arguments.
async fn no_process_of(folder: &Path) {
    let folder = folder.as_os_str().as_encoded_bytes();
    let none = || {
        let all = std::fs::read_dir("/proc").expect("a Linux machine").flatten();
        let mut lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        !lines.any(|line| line.windows(folder.len()).any(|w| w == folder))
    };
    bee::until("no process of the demo is left", none).await;
}
