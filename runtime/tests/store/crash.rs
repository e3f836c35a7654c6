//! A process dies at any moment: nothing acknowledged is lost, no batch is torn.

use crate::place::{LEFT, Place, look, open, pair, value};
use skep_runtime::store::{Kind, Medium, Store, Tear};
use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// Tells this test binary to be the process that dies: `kind start dir`.
const WRITER: &str = "SKEP_TEST_STORE_WRITER";
const KILLS: usize = 8;
/// Acknowledgements after which the process is killed, growing by the loop so that each dies elsewhere.
const ACKS: usize = 40;

#[test]
fn nothing_acknowledged_is_lost_to_kill_9_on_redb() {
    kill_and_look(Kind::Redb);
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9_on_sled() {
    kill_and_look(Kind::Sled);
}

fn kill_and_look(kind: Kind) {
    let dir = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    let mut start = 0;
    for kill in 0..KILLS {
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::the_process_that_dies", "--nocapture", "--test-threads=1"])
            .env(WRITER, format!("{kind} {start} {}", dir.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut numbers = lines.by_ref().filter_map(|line| line.unwrap().strip_prefix("ack ")?.parse::<u64>().ok());
        let before = acknowledged.len();
        acknowledged.extend(numbers.by_ref().take(ACKS + kill * 37));
        writer.kill().unwrap();
        // What is still in the pipe was acknowledged before it died.
        acknowledged.extend(numbers);
        writer.wait().unwrap();
        assert!(acknowledged.len() > before, "the writer acknowledged nothing");

        let opened = open(kind, dir.path()).unwrap();
        assert_eq!(opened.set_aside, None, "kill -9 never makes a store unreadable");
        start = acknowledged.iter().max().unwrap() + 100;
        let found = look(&opened.store, start);
        assert_eq!(found.refused, []);
        assert_eq!(found.half, [] as [u64; 0], "a batch was torn");
        for n in &acknowledged {
            assert!(found.whole.binary_search(n).is_ok(), "{n} was acknowledged and is gone");
        }
    }
}

/// Not a test by itself: writes until it is killed, if it is told to.
#[tokio::test]
async fn the_process_that_dies() {
    let Ok(order) = env::var(WRITER) else { return };
    let mut words = order.splitn(3, ' ');
    let kind: Kind = words.next().unwrap().parse().unwrap();
    let start: u64 = words.next().unwrap().parse().unwrap();
    let store = open(kind, Path::new(words.next().unwrap())).unwrap().store;
    futures::future::join_all((0..8).map(|lane| write_for_ever(store.clone(), start + lane))).await;
}

async fn write_for_ever(store: Store, start: u64) {
    for n in (start..).step_by(8) {
        store.commit(pair(n)).await.unwrap();
        // One write, so that a line is whole or absent.
        if std::io::stdout().lock().write_all(format!("ack {n}\n").as_bytes()).is_err() {
            return;
        }
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_simulated_crash_takes_only_what_was_not_acknowledged() {
    const FLUSH: Duration = Duration::from_millis(5);
    for draw in 0..200_u64 {
        let medium = Medium::new();
        medium.set_flush_delay(FLUSH);
        let store = Store::new(Arc::new(medium.open().unwrap())).unwrap();
        store.commit(pair(0)).await.unwrap();
        store.commit(pair(1)).await.unwrap();
        // Three more are written when it crashes in the middle of their flush.
        let flushing = futures::future::join_all((2..5).map(|n| store.commit(pair(n))));
        assert!(tokio::time::timeout(FLUSH / 2, flushing).await.is_err());
        medium.crash(Tear::At(draw * 97));
        assert!(store.get(LEFT, &0).is_err(), "the dead node's handle is dead");

        let store = Store::new(Arc::new(medium.open().unwrap())).unwrap();
        let found = look(&store, 5);
        assert_eq!(found.half, [] as [u64; 0]);
        assert!(found.whole.len() >= 2);
        // What survives is what was written first.
        assert_eq!(found.whole, (0..found.whole.len() as u64).collect::<Vec<_>>());
        store.commit(pair(9)).await.unwrap();
        assert_eq!(store.get(LEFT, &9), Ok(Some(value(9))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_clean_simulated_crash_leaves_exactly_what_was_acknowledged() {
    let medium = Medium::new();
    let place = Place::Memory(Arc::clone(&medium));
    let store = place.open();
    // Enough for the log to be folded several times.
    for n in 0..1_000 {
        store.commit(pair(n)).await.unwrap();
    }
    medium.set_flush_delay(Duration::from_secs(1));
    assert!(tokio::time::timeout(Duration::from_millis(1), store.commit(pair(1_000))).await.is_err());
    medium.crash(Tear::Clean);
    let found = look(&place.open(), 1_001);
    assert_eq!(found.whole.len(), 1_000);
    assert_eq!(found.missing, [1_000]);
}
