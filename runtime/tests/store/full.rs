//! The disk is full: writes fail and say so, what was acknowledged stays, and writing goes on by itself
//! once there is room. The real ones need a disk of their own, which only root can mount.

use crate::place::{LEFT, Place, RIGHT, look, open, pair};
use skep_runtime::store::{self, Batch, Config, Error, Kind, Medium, Store};
use std::{fs, io::Write, path::Path, process::Command, sync::Arc};
use tempfile::TempDir;

const DISK_MIB: u64 = 20;
const FILLER_BYTES: usize = 10 << 20;

/// A small disk of its own, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with a word on stderr, where it may not be mounted.
    fn mount() -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let size = format!("size={DISK_MIB}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        let word = b"no small disk can be mounted here (needs root): only the store in memory is tested full\n";
        std::io::stderr().write_all(word).unwrap();
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a store that a failed test leaves open must not keep the disk.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Writes pairs, 16 at a time so that whole groups fail and then one by one, until there is no room for one;
/// returns how many were acknowledged, and why the next was not.
async fn fill(store: &Store) -> (u64, Error) {
    let mut n = 0;
    for group in [16, 1] {
        loop {
            let results = futures::future::join_all((n..n + group).map(|n| store.commit(pair(n)))).await;
            n += results.iter().take_while(|result| result.is_ok()).count() as u64;
            match results.into_iter().find_map(Result::err) {
                Some(error) if group == 1 => return (n, error),
                Some(_) => break,
                None => {}
            }
        }
    }
    unreachable!("the last loop ends by returning")
}

#[tokio::test]
async fn a_full_disk_is_said_before_the_engine_meets_it() {
    for kind in [Kind::Redb, Kind::Sled] {
        let Some(disk) = SmallDisk::mount() else {
            return;
        };
        let filler = disk.path().join("filler");
        fs::write(&filler, vec![1; FILLER_BYTES]).unwrap();
        let config = Config { reserve_bytes: 4 << 20, ..Config::new(kind, disk.path().join("store")) };
        let store = store::open(&config).unwrap().store;
        let (acknowledged, error) = fill(&store).await;
        assert!(matches!(error, Error::Full { .. }), "{kind}: {error}");
        assert!(acknowledged > 100, "{kind}: {acknowledged}");
        let found = look(&store, acknowledged);
        assert_eq!(found.whole.len() as u64, acknowledged, "{kind}: reads go on while the disk is full");

        // Deletes may use the reserve: they are the way out, also while others try to write.
        let mut batch = Batch::new();
        batch.delete(LEFT, &0).unwrap();
        batch.delete(RIGHT, &0).unwrap();
        let (write, delete) = tokio::join!(store.commit(pair(acknowledged)), store.commit(batch));
        assert!(matches!(write, Err(Error::Full { .. })), "{kind}: {write:?}");
        assert_eq!(delete, Ok(()), "{kind}");

        fs::remove_file(&filler).unwrap();
        store.commit(pair(0)).await.unwrap();
        store.commit(pair(acknowledged)).await.unwrap();
        drop(store);
        let found = look(&store::open(&config).unwrap().store, acknowledged + 1);
        assert_eq!(found.whole.len() as u64, acknowledged + 1, "{kind}");
    }
}

#[tokio::test]
async fn an_engine_that_ran_out_of_space_is_reopened_and_goes_on() {
    for kind in [Kind::Redb, Kind::Sled] {
        let Some(disk) = SmallDisk::mount() else {
            return;
        };
        let filler = disk.path().join("filler");
        fs::write(&filler, vec![1; FILLER_BYTES]).unwrap();
        let dir = disk.path().join("store");
        // No reserve: the engine itself meets the end of the disk.
        let store = open(kind, &dir).unwrap().store;
        let (acknowledged, error) = fill(&store).await;
        assert!(matches!(error, Error::Full { .. }), "{kind}: {error}");
        assert!(acknowledged > 100, "{kind}: {acknowledged}");
        assert!(store.commit(pair(1_000_000)).await.is_err(), "{kind}: still full");

        // Known limit: on a full disk redb can be opened again, sled can't and answers nothing. Hence the reserve.
        let found = look(&store, acknowledged);
        assert_eq!((found.half, found.missing), (vec![], vec![]), "{kind}");
        assert!(found.refused.is_empty() || kind == Kind::Sled, "{kind}: {:?}", found.refused);

        fs::remove_file(&filler).unwrap();
        // The same process, the same handle.
        store.commit(pair(acknowledged)).await.unwrap();
        let found = look(&store, acknowledged + 1);
        assert_eq!(found.whole.len() as u64, acknowledged + 1, "{kind}");
        drop(store);
        let opened = open(kind, &dir).unwrap();
        assert_eq!(opened.set_aside, None, "{kind}");
        assert_eq!(look(&opened.store, acknowledged + 1).whole.len() as u64, acknowledged + 1, "{kind}");
    }
}

#[tokio::test]
async fn a_simulated_disk_is_full_at_its_capacity() {
    let medium = Medium::new();
    let place = Place::Memory(Arc::clone(&medium));
    medium.set_capacity_bytes(Some(300_000));
    let store = place.open();
    let (acknowledged, error) = fill(&store).await;
    assert!(matches!(error, Error::Full { .. }));
    assert_eq!(look(&store, acknowledged).whole.len() as u64, acknowledged);
    medium.set_capacity_bytes(None);
    store.commit(pair(acknowledged)).await.unwrap();
    drop(store);
    assert_eq!(look(&place.open(), acknowledged + 1).whole.len() as u64, acknowledged + 1);
}
