//! How many commits a second each back end acknowledges: one writer at a time and 64 at once, against the limit
//! that the disk sets, one `write` and one `fdatasync` after the other, in the same run.
//!
//! Figures of a loaded machine are worth nothing; ratios within one run are worth something.
//! `cargo bench -p skep-runtime --bench store`

#![expect(clippy::print_stdout, reason = "a benchmark's product is what it prints")]
#![expect(clippy::disallowed_methods, reason = "it measures the machine's own time")]

use futures::future::join_all;
use skep_runtime::store::{self, Batch, Config, Kind, Store, Table};
use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const RECORDS: Table<u64, String> = Table::new("records");
const VALUE_BYTES: usize = 400;
const WRITERS: u64 = 64;
const LASTS: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let limit = raw();
    println!("{:<22} {limit:>9.0}/s", "write + fdatasync");
    for kind in [Kind::Redb, Kind::Sled] {
        for writers in [1, WRITERS] {
            let dir = TempDir::new().expect("a temporary folder can be made");
            let store = store::open(&Config::new(kind, dir.path())).expect("the store opens").store;
            let rate = runtime.block_on(commits(&store, writers));
            println!("{:<22} {rate:>9.0}/s   {:>6.2} x the limit", format!("{kind}, {writers} writers"), rate / limit);
        }
    }
}

/// Appends and flushes one record at a time.
fn raw() -> f64 {
    let dir = TempDir::new().expect("a temporary folder can be made");
    let mut file = File::create(dir.path().join("raw")).expect("a file can be made");
    let record = [7; VALUE_BYTES];
    let (start, mut written) = (Instant::now(), 0);
    while start.elapsed() < LASTS {
        file.write_all(&record).expect("the disk has room");
        file.sync_data().expect("the disk flushes");
        written += 1;
    }
    f64::from(written) / start.elapsed().as_secs_f64()
}

/// Writers that each wait for their commit before the next.
async fn commits(store: &Store, writers: u64) -> f64 {
    let start = Instant::now();
    let lanes = (0..writers).map(|lane| async move {
        let mut acknowledged = 0;
        while start.elapsed() < LASTS {
            let mut batch = Batch::new();
            let key = acknowledged * writers + lane;
            batch.put(RECORDS, &key, &"v".repeat(VALUE_BYTES)).expect("it is small");
            store.commit(batch).await.expect("the disk has room");
            acknowledged += 1;
        }
        acknowledged
    });
    let acknowledged: u64 = join_all(lanes).await.into_iter().sum();
    acknowledged as f64 / start.elapsed().as_secs_f64()
}
