//! The one writer: a thread that takes batches off a bounded queue, commits them in groups, then tells everyone.
//!
//! One flush for up to 256 waiting batches is 3 to 11 times the commits of one flush each, and no engine here
//! does it well by itself. When a group fails every waiter is told, the engine is mended, and the next group is
//! tried: nobody is ever told "durable" for what isn't.

use super::{Batch, Disk, Error, Exported, export, files::Files};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver as Ended, RecvTimeoutError, Sender as Ends, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Batches in one flush: beyond it the flush no longer dominates.
const GROUP_BATCHES_MAX: usize = 256;
/// Batches that may wait; callers wait before the queue when it is full.
const QUEUE_BATCHES_MAX: usize = 1024;
/// Bytes that may wait, in KiB: two of the largest batches.
const QUEUE_KIB_MAX: usize = 128 << 10;
/// How long a commit, an export or a close waits for the disk. A disk that takes longer is as good as gone.
const DISK_WAIT: Duration = Duration::from_secs(60);
/// How long dropping the last handle waits for the thread to finish what is queued.
const DROP_WAIT: Duration = Duration::from_secs(10);

/// The way to the writer's thread.
pub(super) struct Writer {
    /// `None` once closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<(JoinHandle<()>, Ended<()>)>>,
}

enum Job {
    Commit(Waiting),
    Export(oneshot::Sender<Result<Exported, Error>>),
    Mend,
    Close(oneshot::Sender<()>),
}

/// A batch and who waits for it.
struct Waiting {
    batch: Batch,
    done: oneshot::Sender<Result<(), Error>>,
    /// Its room in the queue, given back when it is answered.
    _room: OwnedSemaphorePermit,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(disk: Arc<dyn Disk>, files: Option<Files>) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::channel(QUEUE_BATCHES_MAX);
        let (ends, ended) = channel();
        // The one thread that the kernel starts itself: it ends with the last handle, and the simulation's back
        // end never comes here. A builder says when the system has no thread to give.
        let thread = Builder::new()
            .name("store".to_owned())
            .spawn(move || run(&*disk, files.as_ref(), queue, ends))
            .map_err(|error| Error::Io { path: "the store's thread".to_owned(), reason: error.to_string() })?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            room: Arc::new(Semaphore::new(QUEUE_KIB_MAX)),
            thread: Mutex::new(Some((thread, ended))),
        })
    }

    pub(super) async fn commit(&self, batch: Batch) -> Result<(), Error> {
        let jobs = self.jobs()?;
        in_time(async {
            let kib = u32::try_from(batch.bytes() / 1024 + 1).expect("a batch is at most 64 MiB");
            let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Error::Closed)?;
            let (done, answer) = oneshot::channel();
            let job = Job::Commit(Waiting { batch, done, _room: room });
            jobs.send(job).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)?
        })
        .await
    }

    pub(super) async fn export(&self) -> Result<Exported, Error> {
        let jobs = self.jobs()?;
        in_time(async {
            let (done, answer) = oneshot::channel();
            jobs.send(Job::Export(done)).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)?
        })
        .await
    }

    /// Asks for the engine to be reopened, if it is suspect. A full queue means that it soon will be anyway.
    pub(super) fn mend(&self) {
        if let Ok(jobs) = self.jobs() {
            // Dropped when the queue is full: each commit mends first.
            let _ = jobs.try_send(Job::Mend);
        }
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        in_time(async {
            let (done, answer) = oneshot::channel();
            jobs.send(Job::Close(done)).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)
        })
        .await
    }

    fn jobs(&self) -> Result<mpsc::Sender<Job>, Error> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }
}

impl Drop for Writer {
    /// Waits for the thread, so that the files are free when the last handle is gone.
    fn drop(&mut self) {
        self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some((thread, ended)) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        match ended.recv_timeout(DROP_WAIT) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the disk didn't finish in time, leaving its thread")
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    tracing::error!("the store's thread panicked");
                }
            }
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(DISK_WAIT, work).await.unwrap_or(Err(Error::Stalled { seconds: DISK_WAIT.as_secs() }))
}

/// The thread. `_ends` is dropped with it, which is how `Drop` knows.
fn run(disk: &dyn Disk, files: Option<&Files>, mut queue: mpsc::Receiver<Job>, _ends: Ends<()>) {
    let mut carried = None;
    let mut failing = false;
    while let Some(job) = carried.take().or_else(|| queue.blocking_recv()) {
        match job {
            Job::Commit(first) => carried = commit_group(disk, first, &mut queue, &mut failing),
            // Whoever waited may be gone: then nobody wants the answer.
            Job::Export(done) => drop(done.send(export_now(disk, files))),
            Job::Mend => mend(disk),
            Job::Close(done) => {
                disk.close();
                let _ = done.send(());
                return;
            }
        }
    }
    disk.close();
}

/// Commits `first` and what waits behind it with one flush; returns a job that didn't fit.
fn commit_group(disk: &dyn Disk, first: Waiting, queue: &mut mpsc::Receiver<Job>, failing: &mut bool) -> Option<Job> {
    // On a full disk deletes go by themselves: they are admitted where writes are not.
    let apart = failing.then(|| first.batch.only_deletes());
    let mut group = first.batch;
    let mut waiting = vec![(first.done, first._room)];
    let mut carried = None;
    while waiting.len() < GROUP_BATCHES_MAX {
        match queue.try_recv() {
            Ok(Job::Commit(next))
                if group.has_room_for(&next.batch)
                    && apart.is_none_or(|deletes| deletes == next.batch.only_deletes()) =>
            {
                group.append(next.batch);
                waiting.push((next.done, next._room));
            }
            Ok(job) => {
                carried = Some(job);
                break;
            }
            Err(_) => break,
        }
    }
    let result = disk.mend().and_then(|()| disk.commit(&group));
    match &result {
        // Said once, not at each of the many writes that follow.
        Err(error) if !*failing => tracing::warn!(%error, "writes are not acknowledged"),
        Ok(()) if *failing => tracing::warn!("writes are acknowledged again"),
        _ => {}
    }
    *failing = result.is_err();
    if *failing {
        mend(disk);
    }
    for (done, _room) in waiting {
        let _ = done.send(result.clone());
    }
    carried
}

fn export_now(disk: &dyn Disk, files: Option<&Files>) -> Result<Exported, Error> {
    disk.mend()?;
    export::write(disk, files.ok_or(Error::NoExport)?)
}

fn mend(disk: &dyn Disk) {
    if let Err(error) = disk.mend() {
        tracing::debug!(%error, "the store could not be reopened, the next write tries again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Commits, Medium, Memory, Rows, Span, Table};
    use futures::future::join_all;

    const NUMBERS: Table<u64, u64> = Table::new("numbers");

    /// Memory behind a thread: each commit says how many writes it has, then waits for what comes of it.
    struct Gated {
        memory: Memory,
        entered: Mutex<Ends<usize>>,
        outcomes: Mutex<Ended<Result<(), Error>>>,
    }

    impl Disk for Gated {
        fn read(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
            self.memory.read(table, key)
        }

        fn scan(&self, table: &str, span: &Span, rows: &mut Rows) -> Result<(), Error> {
            self.memory.scan(table, span, rows)
        }

        fn tables(&self) -> Result<Vec<String>, Error> {
            self.memory.tables()
        }

        fn commit(&self, batch: &Batch) -> Result<(), Error> {
            self.entered.lock().unwrap().send(batch.ops().len()).unwrap();
            self.outcomes.lock().unwrap().recv().unwrap()?;
            self.memory.commit(batch)
        }

        fn mend(&self) -> Result<(), Error> {
            Ok(())
        }

        fn close(&self) {
            self.memory.close();
        }

        fn commits(&self) -> Commits<'_> {
            Commits::Thread
        }
    }

    fn put(n: u64) -> Batch {
        let mut batch = Batch::new();
        batch.put(NUMBERS, &n, &n).unwrap();
        batch
    }

    fn full() -> Result<(), Error> {
        Err(Error::Full { path: "here".to_owned() })
    }

    /// Queues `batches` behind a commit that is held until all are queued, then lets one outcome after the other
    /// happen. Returns what each batch was told, and the sizes of the groups.
    async fn groups(batches: Vec<Batch>, outcomes: Vec<Result<(), Error>>) -> (Vec<Result<(), Error>>, Vec<usize>) {
        let (entered, enters) = channel();
        let (outcome, outcomes_in) = channel();
        let disk = Gated {
            memory: Medium::new().open().unwrap(),
            entered: Mutex::new(entered),
            outcomes: Mutex::new(outcomes_in),
        };
        let writer = Writer::start(Arc::new(disk), None).unwrap();
        let queued = batches.len();
        let held = writer.commit(put(u64::MAX));
        let rest = async {
            assert_eq!(enters.recv(), Ok(1));
            join_all(batches.into_iter().map(|batch| writer.commit(batch))).await
        };
        let release = async {
            while writer.jobs().unwrap().capacity() > QUEUE_BATCHES_MAX - queued {
                tokio::task::yield_now().await;
            }
            for result in outcomes {
                outcome.send(result).unwrap();
            }
        };
        let (_, results, ()) = tokio::join!(held, rest, release);
        drop(writer);
        (results, enters.try_iter().collect())
    }

    #[tokio::test]
    async fn what_waits_behind_a_flush_shares_the_next_one() {
        let (results, sizes) = groups((0..600).map(put).collect(), vec![Ok(()); 4]).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(sizes, [256, 256, 88]);
    }

    #[tokio::test]
    async fn a_failed_flush_is_told_to_its_whole_group_and_the_next_is_tried() {
        let (results, sizes) = groups((0..300).map(put).collect(), vec![Ok(()), full(), Ok(())]).await;
        assert_eq!(sizes, [256, 44]);
        assert_eq!(results.iter().filter(|result| **result == full()).count(), 256);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 44);
    }

    #[tokio::test]
    async fn deletes_are_not_refused_for_the_company_they_are_in() {
        let mut delete = Batch::new();
        delete.delete(NUMBERS, &0).unwrap();
        let batches = vec![put(1), put(2), delete, put(3)];
        // The held one finds the disk full; from then on deletes go by themselves.
        let (results, sizes) = groups(batches, vec![full(), full(), Ok(()), full()]).await;
        assert_eq!(results, [full(), full(), Ok(()), full()]);
        assert_eq!(sizes, [2, 1, 1]);
    }
}
