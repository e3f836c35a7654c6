//! Three machines of which one dies every few seconds, as if its power were cut: whatever was acknowledged ends, and
//! nothing runs more often than its record says.

mod bee;

use bee::{Bee, Hive, PATIENCE};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::RwLock,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

const NAMES: [&str; 3] = ["alder", "birch", "cedar"];
const TASKS: usize = 1000;
/// Clients that submit at the same time.
const CLIENTS: usize = 8;
/// Between two deaths.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// Machines that die at least, however fast the work is done.
const KILLS_MIN: usize = 6;
/// How long one answer may take. A node that just died refuses at once; one that adopts work may take a while.
const ANSWER: Duration = Duration::from_secs(20);

/// Where a node is reached: its address changes when it starts again.
#[derive(Clone)]
struct Door {
    url: String,
    token: String,
}

/// The nodes and how to reach them now.
struct Swarm {
    hive: Hive,
    bees: RwLock<Vec<Option<Bee>>>,
    doors: RwLock<Vec<Door>>,
    http: reqwest::Client,
}

impl Swarm {
    async fn new() -> Swarm {
        let hive = Hive::new();
        let first = hive.start(NAMES[0]).await;
        let second = hive.join(NAMES[1], &first).await;
        let third = hive.join(NAMES[2], &first).await;
        second.until("all are online", "/api/nodes", |n| bee::status(n, third.id()) == Some("online")).await;
        let bees = [first, second, third];
        let doors = bees.iter().map(door).collect();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Swarm { hive, bees: RwLock::new(bees.map(Some).into()), doors: RwLock::new(doors), http }
    }

    /// Cuts one node's power and starts it again.
    async fn kill(&self, which: usize) {
        let bee = self.bees.write().await[which].take().expect("one at a time");
        bee.kill().await;
        let bee = self.hive.start(NAMES[which]).await;
        self.doors.write().await[which] = door(&bee);
        self.bees.write().await[which] = Some(bee);
    }

    /// One request to one node. `None`: no answer.
    async fn call(&self, which: usize, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let door = self.doors.read().await[which].clone();
        let url = format!("{}{path}", door.url);
        let request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        let answer = async {
            let response = request.bearer_auth(door.token).send().await.ok()?;
            let status = response.status().as_u16();
            Some((status, response.json().await.ok()?))
        };
        timeout(ANSWER, answer).await.ok().flatten()
    }

    /// Submits until some node has acknowledged, as a client that doesn't hear an answer would. The task's id.
    async fn submit(&self, n: usize, log: &Path) -> String {
        let line = format!("echo \"{n} $SKEP_TASK\" >> '{}'; sleep 1; echo done", log.display());
        let writable = log.parent().expect("it lies in a folder");
        let task = json!({ "command": line, "idempotency_key": format!("kill-{n}"), "writable": [writable] });
        let deadline = Instant::now() + PATIENCE;
        let mut said = None;
        let mut pace = interval(Duration::from_millis(100));
        for which in (0..NAMES.len()).cycle().skip(n) {
            pace.tick().await;
            match self.call(which, "/api/tasks", Some(&task)).await {
                Some((200..300, task)) => return task["id"].as_str().expect("an id").into(),
                // A client's own mistake would be refused for ever.
                Some((status, why)) if status < 500 => panic!("task {n}: {status} {why}"),
                other => said = other.or(said),
            }
            assert!(Instant::now() < deadline, "task {n} was not taken: {said:?}");
        }
        unreachable!("the nodes are asked for ever")
    }
}

fn door(bee: &Bee) -> Door {
    Door { url: bee.url(""), token: bee.token.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_commands_end_though_a_machine_dies_every_five_seconds() {
    let swarm = Arc::new(Swarm::new().await);
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let done = AtomicUsize::new(0);
    let kills = AtomicUsize::new(0);
    // Which one dies is drawn, and printed with the rest if the test fails.
    let seed = std::process::id() as usize;
    let work = async {
        let ids: Vec<String> =
            stream::iter(0..TASKS).map(|n| swarm.submit(n, &log)).buffer_unordered(CLIENTS).collect().await;
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), TASKS, "each key names one task");
        let mut ended = BTreeMap::new();
        let mut look = interval(Duration::from_millis(500));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Of one thousand commands, at 24 at a time and three attempts each, the last has ended long before.
        let deadline = Instant::now() + PATIENCE * 10;
        while ended.len() < TASKS || kills.load(Ordering::Relaxed) < KILLS_MIN {
            look.tick().await;
            for id in ids.iter().filter(|id| !ended.contains_key(*id)).cloned().collect::<Vec<_>>() {
                let Some((200, task)) = swarm.call(ended.len() % NAMES.len(), &format!("/api/tasks/{id}"), None).await
                else {
                    break;
                };
                if !task["finished_at"].is_string() {
                    break;
                }
                ended.insert(id, task);
            }
            assert!(Instant::now() < deadline, "{} of {TASKS} ended; seed {seed}", ended.len());
        }
        done.store(1, Ordering::Relaxed);
        ids
    };
    let deaths = async {
        let mut every = interval(KILL_EVERY);
        every.tick().await;
        while done.load(Ordering::Relaxed) == 0 {
            every.tick().await;
            let n = kills.load(Ordering::Relaxed);
            let which = (seed / 3usize.pow((n % 12) as u32) + n * n) % NAMES.len();
            swarm.kill(which).await;
            kills.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (ids, ()) = tokio::join!(work, deaths);

    // What every node says now is what it will say: nothing runs any more.
    let mut attempts = BTreeMap::new();
    let mut records = BTreeMap::new();
    let (mut completed, mut failed) = (0, BTreeMap::<String, usize>::new());
    for id in &ids {
        let (status, task) = swarm.call(0, &format!("/api/tasks/{id}"), None).await.expect("an answer");
        assert_eq!(status, 200, "{id} is known: {task}");
        match task["status"].as_str() {
            Some("completed") => completed += 1,
            Some("failed") => *failed.entry(task["error"].as_str().expect("a reason").into()).or_default() += 1,
            _ => panic!("{id} has not ended: {task}"),
        }
        attempts.insert(id.clone(), task["attempts"].as_u64().expect("a number") as usize);
        records.insert(id.clone(), task);
    }
    // A line a run: the number and TASK/ATTEMPT/NODE.
    let lines = std::fs::read_to_string(&log).expect("the commands wrote it");
    let mut runs = BTreeMap::<String, Vec<&str>>::new();
    for line in lines.lines() {
        let (_, mark) = line.split_once(' ').expect("a number and a mark");
        let id = mark.split('/').next().expect("an id");
        runs.entry(id.into()).or_default().push(mark);
    }
    let times = |id: &String| runs.get(id).map_or(0, Vec::len);
    let doubles: usize = ids.iter().map(|id| times(id).saturating_sub(1)).sum();
    println!(
        "{completed} completed, failed {failed:?}, {} deaths, {doubles} run again; seed {seed}",
        kills.into_inner()
    );
    for id in &ids {
        let marks = runs.get(id).cloned().unwrap_or_default();
        let distinct = marks.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(distinct, marks.len(), "an attempt ran twice: {marks:?} of {}", records[id]);
        assert!(marks.len() <= attempts[id], "more than it says: {marks:?} of {}", records[id]);
    }
    assert!(runs.keys().all(|id| attempts.contains_key(id)), "only what was acknowledged ran");
    assert!(completed > TASKS * 9 / 10, "{failed:?}");
}
