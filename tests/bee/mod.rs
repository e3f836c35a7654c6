//! Real nodes for black-box tests: processes of the program, each in a folder of its own, on loopback, gone when the
//! test ends. Everything is asked through the command line or the HTTP API, as a user would.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a failed test panics and says why")]

mod parrot;

use serde_json::Value;
use skep_engine::synthetic;
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How long anything may take before the test says what it waited for. Generous: machines are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One running node.
pub struct Bee {
    pub name: String,
    pub home: PathBuf,
    /// `node.json`.
    pub note: Value,
    pub token: String,
    child: Child,
    http: reqwest::Client,
    /// What it says on standard error, whole when it has ended.
    said: JoinHandle<String>,
}

/// The folders of a test's nodes, and the models' folder that they share.
pub struct Hive {
    pub folder: TempDir,
}

impl Hive {
    pub fn new() -> Hive {
        skep::install_crypto();
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("models")).unwrap();
        Hive { folder }
    }

    pub fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    /// A tiny model with random weights, and its name: what it says means nothing, but it must always say the same.
    pub fn tiny(&self) -> &'static str {
        let file = self.models().join("tiny.gguf");
        synthetic::tiny_llama(file, 7, &synthetic::Options::default()).expect("it is written");
        "tiny"
    }

    /// A model that says this whatever it is asked, and its name.
    pub fn parrot(&self, text: &str) -> &'static str {
        parrot::write(&self.models().join("parrot.gguf"), text);
        "parrot"
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a node and waits until it says that it is up.
    pub async fn start(&self, name: &str) -> Bee {
        self.start_with(name, &[], &[]).await
    }

    /// Starts a node that joins `other` by an invite.
    pub async fn join(&self, name: &str, other: &Bee) -> Bee {
        let invite = other.skep(&["invite"]).await;
        let bee = self.start_with(name, &[], &[("SKEP_JOIN", invite["token"].as_str().expect("an invite"))]).await;
        let id = bee.id().to_string();
        other.until(&format!("{name} is online"), "/api/nodes", |nodes| status(nodes, &id) == Some("online")).await;
        bee
    }

    /// Three nodes that know each other: alder, birch, cedar.
    pub async fn three(&self) -> Vec<Bee> {
        let first = self.start("alder").await;
        let second = self.join("birch", &first).await;
        let third = self.join("cedar", &first).await;
        second.until("all are online", "/api/nodes", |nodes| status(nodes, third.id()) == Some("online")).await;
        vec![first, second, third]
    }

    /// Starts a node with more arguments and environment.
    pub async fn start_with(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Bee {
        self.try_start(name, args, env).await.unwrap_or_else(|e| panic!("{name} did not start: {e}"))
    }

    /// The same, or what the program said instead.
    pub async fn try_start(&self, name: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Bee, String> {
        let home = self.home(name);
        let mut child = Command::new(program())
            .args(["--json", "up", "--name", name, "--api", "127.0.0.1:0", "--until-stdin-closes"])
            .args(if args.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"][..] })
            .args(if args.contains(&"--mdns") { None } else { Some("--no-mdns") })
            .args(args.iter().filter(|a| **a != "--mdns"))
            .arg("--home")
            .arg(&home)
            .arg("--models")
            .arg(self.models())
            // Several engines on one machine: each takes one core, or they spin against each other.
            .env("CANDLE_NUM_THREADS", "1")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut stdout = child.stdout.take().expect("piped");
        // It prints its note once it is up: that is the event to wait for.
        let mut text = Vec::new();
        let note = async {
            loop {
                if let Ok(note) = serde_json::from_slice::<Value>(&text) {
                    return Some(note);
                }
                if stdout.read_buf(&mut text).await.ok()? == 0 {
                    return None;
                }
            }
        };
        let Ok(Some(note)) = timeout(PATIENCE, note).await else {
            let _ = child.start_kill();
            let output = child.wait_with_output().await.expect("it ended");
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        };
        let token = std::fs::read_to_string(home.join("token")).expect("a token");
        let stderr = child.stderr.take().expect("piped");
        let said = forward(name.to_string(), stderr);
        Ok(Bee {
            name: name.into(),
            home,
            note,
            token: token.trim().into(),
            child,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            said,
        })
    }
}

impl Bee {
    pub fn id(&self) -> &str {
        self.note["node_id"].as_str().expect("an id")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.note["api"].as_str().expect("an address"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// A subcommand with `--json` against this node, as JSON; it must succeed.
    pub async fn skep(&self, args: &[&str]) -> Value {
        let output = self.try_skep(args).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "skep {args:?} failed: {error}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("skep {args:?}: {}", String::from_utf8_lossy(&output.stdout)))
    }

    /// A subcommand with `--json` against this node, however it ends.
    pub async fn try_skep(&self, args: &[&str]) -> Output {
        self.run(&[&["--json"], args].concat()).await
    }

    /// A subcommand against this node, as a person types it.
    pub async fn run(&self, args: &[&str]) -> Output {
        let run = Command::new(program())
            .args(args)
            .env("SKEP_HOME", &self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        timeout(PATIENCE * 2, run)
            .await
            .unwrap_or_else(|_| panic!("skep {args:?} took too long"))
            .expect("the program starts")
    }

    /// A request to the API: status and JSON.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, self.url(path)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = timeout(PATIENCE * 2, request.send()).await.expect("in time").expect("it answers");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body)).await;
        assert!((200..300).contains(&status), "POST {path}: {status} {answer}");
        answer
    }

    /// Asks `path` again and again until the answer is as wanted; gives that answer.
    pub async fn until(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{}: {what}: still {answer:#}", self.name);
            pause().await;
        }
    }

    /// Ends the process as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it ran");
    }

    /// Ends it in the polite way.
    pub async fn stop(self) {
        self.last_words().await;
    }

    /// The same; all that it said on standard error.
    pub async fn last_words(mut self) -> String {
        drop(self.child.stdin.take());
        timeout(PATIENCE, self.child.wait()).await.expect("it stops in time").expect("it ran");
        timeout(PATIENCE, self.said).await.expect("its output ends").expect("it was read")
    }
}

/// Waits until something outside of every node is so: what no event tells, like the system's list of processes.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not yet");
        pause().await;
    }
}

/// Between two looks. The one place where these tests let real time pass: a look costs a process or a request.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The status of one node in a list of nodes.
pub fn status<'a>(nodes: &'a Value, id: &str) -> Option<&'a str> {
    list(nodes, "nodes").iter().find(|n| n["id"] == id)?["status"].as_str()
}

/// A list that the API shows bare or under its name.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.as_array().or(value[name].as_array()).map_or(&[], Vec::as_slice)
}

/// A test can't run here: said past the harness, which hides what a passing test prints. It fails where `.ci/run` has
/// seen to what it needs.
pub fn not_run(test: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}");
    let must = std::env::var("SKEP_MUST_RUN").unwrap_or_default();
    assert!(!must.split_whitespace().any(|name| name == test), "{test} must run here: {why}");
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_skep"))
}

/// What a node says goes to the test's own output, marked with its name.
fn forward(name: String, mut stderr: tokio::process::ChildStderr) -> JoinHandle<String> {
    #[expect(clippy::disallowed_methods, reason = "it ends when the node's standard error does")]
    tokio::spawn(async move {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        for line in text.lines() {
            eprintln!("[{name}] {line}");
        }
        text
    })
}
