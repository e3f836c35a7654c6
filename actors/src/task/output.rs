//! A command's output, as far as it is kept: the first MiB and the last six to seven, in segments of a MiB on disk, which
//! are compressed when it has ended.
//!
//! What fits the record's tail is in the record, and on disk only if it is no text: most commands say little, and a file
//! for each of them costs more than running it.
//!
//! One [`Sink`] writes and never waits for a reader; any number of [`Output`]s read at their own pace, and are told
//! what was dropped before they came to it. In simulation, and if the disk fails, only the tail is kept.

use crate::scheduler::messages::{Ending, Output as Frame};
use skep_runtime::{Error, frames, tasks::Spawner};
use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    fs::{self, File},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::timeout,
};

/// Bytes of a segment.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that are kept beside the first one: 8 MiB in all.
const SEGMENTS_MAX: u64 = 7;
/// Bytes of the tail that goes into the record.
pub const TAIL_BYTES_MAX: usize = 16 << 10;
/// How the name of a segment begins, and that of a compressed one (LZ4's block format).
const PLAIN: &str = "output.";
const PACKED: &str = "packed.";
/// Bytes of one frame to a follower.
const FRAME_BYTES: u64 = 64 << 10;
/// How long a follower may not read before it is given up: a pager that somebody left open is no reason, a
/// machine that sleeps is.
const STALL_TIMEOUT: Duration = Duration::from_secs(600);

/// How far a command is.
#[derive(Debug, Clone, Default)]
struct Progress {
    bytes: u64,
    ending: Option<Arc<Ending>>,
}

/// A segment that is being read.
enum Segment {
    /// As it was written.
    Plain(File),
    /// What was compressed.
    Whole(Vec<u8>),
}

/// Writes the output of one run.
pub struct Sink {
    output: Output,
    progress: watch::Sender<Progress>,
    segment: Option<(u64, File)>,
}

/// Reads the output of one run. Cheap to clone.
#[derive(Clone)]
pub struct Output {
    dir: Option<PathBuf>,
    tail: Arc<Mutex<Vec<u8>>>,
    progress: watch::Receiver<Progress>,
}

impl Sink {
    /// An empty output in this folder, which is made when there is much to keep and not there before; in memory without one.
    pub fn new(dir: Option<PathBuf>) -> Sink {
        let (progress, watched) = watch::channel(Progress::default());
        Sink { output: Output { dir, tail: Arc::default(), progress: watched }, progress, segment: None }
    }

    /// For readers.
    pub fn output(&self) -> Output {
        self.output.clone()
    }

    /// Adds what the command wrote.
    pub async fn append(&mut self, bytes: &[u8]) {
        let at = self.progress.borrow().bytes;
        let after = at + bytes.len() as u64;
        if self.segment.is_none() && after > TAIL_BYTES_MAX as u64 {
            self.keep_tail().await;
        }
        if self.segment.is_some() || after > TAIL_BYTES_MAX as u64 {
            self.keep(at, bytes).await;
        }
        self.output.push_tail(bytes);
        self.progress.send_modify(|p| p.bytes = after);
    }

    /// Puts on disk what only the tail has so far, which is all of it.
    async fn keep_tail(&mut self) {
        let tail = self.output.tail.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.keep(0, &tail).await;
    }

    async fn keep(&mut self, mut at: u64, mut rest: &[u8]) {
        while !rest.is_empty() {
            let room = (SEGMENT_BYTES - at % SEGMENT_BYTES) as usize;
            let (now, later) = rest.split_at(rest.len().min(room));
            if let Some(dir) = self.output.dir.clone()
                && let Err(e) = self.write(&dir, at, now).await
            {
                tracing::warn!(dir = %dir.display(), error = %e, "the output of a command can't be kept on disk");
                self.output.dir = None;
            }
            at += now.len() as u64;
            rest = later;
        }
    }

    /// Nothing follows. Answers with the ending, completed by the output's tail and size.
    pub async fn end(mut self, mut ending: Ending, tasks: &Spawner) -> Ending {
        let text = std::str::from_utf8(&self.output.tail.lock().unwrap_or_else(PoisonError::into_inner)).is_ok();
        if self.segment.is_none() && !text {
            // The record holds text: after a restart the bytes would be others.
            self.keep_tail().await;
        }
        if let (Some(_), Some(dir)) = (&self.segment, self.output.dir.clone())
            && let Ok(Err(e)) = tasks.compute(move || compress(&dir)).await
        {
            tracing::debug!(error = %e, "an output stays as it was written");
        }
        let look = self.output.look();
        let silent = Ending { output: String::new(), output_bytes: look.output_bytes, ..ending.clone() };
        self.progress.send_modify(|p| p.ending = Some(Arc::new(silent)));
        (ending.output, ending.output_bytes) = (look.output, look.output_bytes);
        ending
    }

    async fn write(&mut self, dir: &Path, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        let number = at / SEGMENT_BYTES;
        if self.segment.as_ref().is_none_or(|(open, _)| *open != number) {
            if self.segment.is_none() {
                fs::create_dir_all(dir).await?;
            }
            if number > SEGMENTS_MAX {
                fs::remove_file(path(dir, number - SEGMENTS_MAX)).await?;
            }
            self.segment = Some((number, File::create(path(dir, number)).await?));
        }
        if let Some((_, file)) = &mut self.segment {
            file.write_all(bytes).await?;
            file.flush().await?;
        }
        Ok(())
    }
}

impl Output {
    /// The output of a run that ended before a restart.
    pub fn ended(dir: PathBuf, ending: &Ending) -> Output {
        let silent = Ending { output: String::new(), ..ending.clone() };
        let progress = Progress { bytes: ending.output_bytes, ending: Some(Arc::new(silent)) };
        let tail = Arc::new(Mutex::new(ending.output.clone().into_bytes()));
        Output { dir: Some(dir), tail, progress: watch::channel(progress).1 }
    }

    /// The tail and the size so far.
    pub fn look(&self) -> super::Look {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = tail.len().saturating_sub(TAIL_BYTES_MAX);
        super::Look { output: text(&tail[cut..]), output_bytes: self.progress.borrow().bytes }
    }

    /// Sends everything behind the first `from` bytes as frames, until the end. Returns when the command has ended or
    /// the reader is gone.
    ///
    /// # Errors
    /// The stream broke, or its reader took nothing for ten minutes.
    pub async fn stream(mut self, from: u64, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        let mut at = from;
        let mut open = None;
        loop {
            let progress = self.progress.borrow_and_update().clone();
            while at < progress.bytes {
                let frame = self.next(at, progress.bytes, &mut open).await;
                at += match &frame {
                    Frame::Bytes(bytes) => bytes.len() as u64,
                    Frame::Skipped(bytes) => *bytes,
                    Frame::Ended(_) => 0,
                };
                send(to, &frame).await?;
            }
            if let Some(ending) = progress.ending {
                send(to, &Frame::Ended((*ending).clone())).await?;
                let _ = timeout(STALL_TIMEOUT, to.shutdown()).await;
                return Ok(());
            }
            self.progress.changed().await.map_err(|_| Error::NoReply)?;
        }
    }

    /// The frame at `at`, of output that has `bytes` so far: what is kept there, or what is not.
    async fn next(&self, at: u64, bytes: u64, open: &mut Option<(u64, Segment)>) -> Frame {
        let number = at / SEGMENT_BYTES;
        let first_kept = ((bytes - 1) / SEGMENT_BYTES + 1).saturating_sub(SEGMENTS_MAX).max(1);
        let wanted = (bytes - at).min(SEGMENT_BYTES - at % SEGMENT_BYTES).min(FRAME_BYTES);
        if number > 0 && number < first_kept {
            return Frame::Skipped(first_kept * SEGMENT_BYTES - at);
        }
        if let Some(dir) = &self.dir
            && let Ok(read) = read(dir, number, at % SEGMENT_BYTES, wanted, open).await
            && !read.is_empty()
        {
            return Frame::Bytes(read);
        }
        // Not on disk, or removed since we looked. The tail may have it.
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.progress.borrow().bytes;
        let tail_at = now - (tail.len() as u64).min(now);
        match at.checked_sub(tail_at) {
            Some(skip) => Frame::Bytes(tail[skip as usize..].iter().take(wanted as usize).copied().collect()),
            None if self.dir.is_some() => Frame::Skipped(SEGMENT_BYTES.min(tail_at - at)),
            None => Frame::Skipped(tail_at - at),
        }
    }

    fn push_tail(&self, bytes: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = bytes.len().saturating_sub(TAIL_BYTES_MAX);
        if cut > 0 {
            tail.clear();
        }
        tail.extend_from_slice(&bytes[cut..]);
        // Cut now and then, not at each line.
        if tail.len() > 2 * TAIL_BYTES_MAX {
            let cut = tail.len() - TAIL_BYTES_MAX;
            tail.drain(..cut);
        }
    }
}

async fn read(
    dir: &Path,
    number: u64,
    at: u64,
    wanted: u64,
    open: &mut Option<(u64, Segment)>,
) -> std::io::Result<Vec<u8>> {
    if open.as_ref().is_none_or(|(n, _)| *n != number) {
        let segment = match File::open(path(dir, number)).await {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let packed = fs::read(packed(dir, number)).await?;
                let whole = lz4_flex::block::decompress(&packed, SEGMENT_BYTES as usize).map_err(io::Error::other)?;
                Segment::Whole(whole)
            }
            opened => Segment::Plain(opened?),
        };
        *open = Some((number, segment));
    }
    let mut bytes = Vec::new();
    match open {
        Some((_, Segment::Plain(file))) => {
            file.seek(SeekFrom::Start(at)).await?;
            file.take(wanted).read_to_end(&mut bytes).await?;
        }
        Some((_, Segment::Whole(whole))) => {
            bytes.extend(whole.iter().skip(at as usize).take(wanted as usize));
        }
        None => {}
    }
    Ok(bytes)
}

/// Compresses what nobody adds to any more. Whoever reads a segment goes on with what was open; the next one finds the other
/// file. Blocks.
fn compress(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PLAIN)?.parse().ok());
        let Some(number) = number else { continue };
        let bytes = lz4_flex::block::compress(&std::fs::read(path(dir, number))?);
        let part = dir.join("part");
        std::fs::write(&part, bytes)?;
        std::fs::rename(&part, packed(dir, number))?;
        std::fs::remove_file(path(dir, number))?;
    }
    Ok(())
}

async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> Result<(), Error> {
    timeout(STALL_TIMEOUT, frames::write(to, frame)).await.unwrap_or(Err(Error::Timeout))
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PLAIN}{number}"))
}

fn packed(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PACKED}{number}"))
}

/// The text of a tail that may begin or end within a character: such parts are left out, other bytes that are
/// no UTF-8 are replaced.
fn text(mut tail: &[u8]) -> String {
    while let [first, rest @ ..] = tail
        && first & 0b1100_0000 == 0b1000_0000
    {
        tail = rest;
    }
    String::from_utf8_lossy(tail).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::runs::lost;
    use proptest::prelude::*;
    use skep_runtime::Tasks;

    async fn follow(output: Output, from: u64) -> (Vec<(u64, Vec<u8>)>, u64) {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let writing = async move { output.stream(from, &mut near).await.unwrap() };
        let reading = async move {
            let (mut at, mut pieces) = (from, Vec::new());
            while let Some(frame) = frames::read::<Frame>(&mut far).await.unwrap() {
                match frame {
                    Frame::Bytes(bytes) => {
                        at += bytes.len() as u64;
                        pieces.push((at - bytes.len() as u64, bytes));
                    }
                    Frame::Skipped(bytes) => at += bytes,
                    Frame::Ended(_) => break,
                }
            }
            (pieces, at)
        };
        tokio::join!(writing, reading).1
    }

    /// The byte that stands at a place.
    fn pattern(at: u64) -> u8 {
        (at % 251) as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_reader_sees_every_kept_byte_at_its_place_and_the_disk_is_bounded(
            chunks in prop::collection::vec(1u64..3_000_000, 0..12), from in 0u64..100, on_disk: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let dir = tempfile::tempdir().unwrap();
                let tasks = Tasks::default();
                let mut sink = Sink::new(on_disk.then(|| dir.path().join("o")));
                let mut total = 0;
                for chunk in chunks {
                    let bytes: Vec<u8> = (total..total + chunk).map(pattern).collect();
                    sink.append(&bytes).await;
                    total += chunk;
                }
                let output = sink.output();
                let ending = sink.end(lost("x"), &tasks.spawner()).await;
                assert_eq!(ending.output_bytes, total);
                let (pieces, end) = follow(output, from.min(total)).await;
                assert_eq!(end, total);
                let mut seen = 0;
                for (at, bytes) in pieces {
                    assert!(bytes.iter().enumerate().all(|(i, b)| *b == pattern(at + i as u64)));
                    seen += bytes.len() as u64;
                }
                if on_disk {
                    assert!(seen + from >= total.min(7 * SEGMENT_BYTES), "{seen} of {total}");
                    let files = std::fs::read_dir(dir.path().join("o")).into_iter().flatten();
                    let bytes = files.map(|f| f.unwrap().metadata().unwrap().len());
                    assert!(bytes.sum::<u64>() <= 8 * SEGMENT_BYTES);
                }
            });
        }
    }

    #[tokio::test]
    async fn little_text_makes_no_file_and_little_else_comes_back_after_a_restart_as_it_was() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::default());
        for (bytes, kept) in [(&b"hello\n"[..], false), (b"", false), (b"\xff\x00\xfe", true)] {
            let at = dir.path().join("o");
            let mut sink = Sink::new(Some(at.clone()));
            sink.append(bytes).await;
            let ending = sink.end(lost("x"), &tasks.spawner()).await;
            assert_eq!(at.exists(), kept, "{bytes:?}");
            let (pieces, _) = follow(Output::ended(at, &ending), 0).await;
            assert_eq!(pieces.into_iter().flat_map(|(_, piece)| piece).collect::<Vec<_>>(), bytes);
        }
    }

    #[tokio::test]
    async fn what_has_ended_takes_less_room_and_reads_as_before_and_damage_is_no_output() {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::default());
        let mut sink = Sink::new(Some(dir.path().join("o")));
        let bytes = b"the same line again\n".repeat(100_000);
        sink.append(&bytes).await;
        let ending = sink.end(lost("x"), &tasks.spawner()).await;
        let files: Vec<PathBuf> =
            std::fs::read_dir(dir.path().join("o")).unwrap().map(|file| file.unwrap().path()).collect();
        let kept: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(kept < bytes.len() as u64 / 50, "{kept}");
        let output = || Output::ended(dir.path().join("o"), &ending);
        let whole = async || follow(output(), 0).await.0.into_iter().flat_map(|(_, piece)| piece).collect::<Vec<_>>();
        assert!(whole().await == bytes);
        for file in &files {
            std::fs::write(file, [0xff; 64]).unwrap();
        }
        let left = whole().await;
        assert!(left.len() <= 2 * TAIL_BYTES_MAX && bytes.ends_with(&left), "only the record's part: {}", left.len());
    }

    #[test]
    fn a_tail_that_begins_within_a_character_is_text() {
        assert_eq!(text(&"äö".as_bytes()[1..]), "ö");
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
    }
}
