//! The export: all records in one checked file beside the store, and the one before it.
//!
//! An engine's file can become unreadable by one bad page; an export can only be missed. It is written under
//! another name, read back, flushed and only then renamed, so the newest good one is never at risk. It is taken on
//! the writer's thread, between two groups, hence consistent; commits wait that long.
//!
//! ```text
//! frame: "skep export" format | frame: records | frame: records ... | frame: count, checksum of all before
//! ```

use super::{Batch, Disk, Error, Op, Rows, Span, files::Files, frame, record, seal};
use crc32fast::Hasher;
use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

/// The first frame: what the file is, and the arrangement of its bytes.
const HEADER: &[u8] = b"skep export 1";
/// Records of one frame. A frame is one batch when the store is refilled, and a page's bytes fit in one.
const FRAME_ROWS: usize = 1_000;
const RECORDS: u8 = 1;
const TRAILER: u8 = 2;

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// Records of all tables.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
}

/// Writes a new export and keeps the one before it. A damaged record fails it, and nothing is replaced.
pub(super) fn write(disk: &dyn Disk, files: &Files) -> Result<Exported, Error> {
    let temporary = files.exporting();
    let exported = write_to(disk, &temporary).inspect_err(|_| {
        // Its bytes may be what the disk is short of; a failure to remove it is that of the next export.
        let _ = fs::remove_file(&temporary);
    })?;
    if files.export().exists() {
        files.rename(&files.export(), &files.previous())?;
    }
    files.rename(&temporary, &files.export())?;
    Ok(exported)
}

/// Writes, flushes and reads back an export.
fn write_to(disk: &dyn Disk, temporary: &Path) -> Result<Exported, Error> {
    let failed = |error: io::Error| Error::io(temporary, &error);
    let mut out = Out { file: File::create(temporary).map_err(failed)?, crc: Hasher::new(), bytes: 0 };
    out.frame(HEADER).map_err(failed)?;
    let mut records = 0;
    for table in disk.tables()? {
        let mut span = Span::all();
        loop {
            let mut rows = Rows::new(FRAME_ROWS);
            disk.scan(&table, &span, &mut rows)?;
            let (rows, more) = rows.finish();
            let mut body = vec![RECORDS];
            for (key, value) in rows {
                seal::unseal(&table, &key, &value)?;
                span = span.after(&key);
                records += 1;
                record::write([&Op { table: table.clone().into(), key, value: Some(value) }], &mut body);
            }
            out.frame(&body).map_err(failed)?;
            if !more {
                break;
            }
        }
    }
    let mut trailer = vec![TRAILER];
    trailer.extend_from_slice(&u64::to_le_bytes(records));
    trailer.extend_from_slice(&out.crc.clone().finalize().to_le_bytes());
    out.frame(&trailer).map_err(failed)?;
    out.file.sync_all().map_err(failed)?;
    if verify(temporary)? != records {
        return Err(bad(temporary, "it doesn't read back as it was written"));
    }
    Ok(Exported { records, bytes: out.bytes })
}

/// Reads all of an export and returns how many records it holds.
pub(super) fn verify(path: &Path) -> Result<u64, Error> {
    read(path, |_| Ok(()))
}

/// Verifies the export wholly, then commits its records to an empty store.
pub(super) fn refill(path: &Path, disk: &dyn Disk) -> Result<u64, Error> {
    verify(path)?;
    read(path, |ops| {
        let mut batch = Batch::new();
        for op in ops {
            batch.push(op)?;
        }
        disk.commit(&batch)
    })
}

/// The newest export that verifies, if any does.
pub(super) fn newest(files: &Files) -> Option<PathBuf> {
    [files.export(), files.previous()].into_iter().filter(|path| path.exists()).find(|path| {
        verify(path)
            .inspect_err(|error| tracing::warn!(%error, "an export is damaged, trying the one before it"))
            .is_ok()
    })
}

/// Walks an export, checking frames, seals, count and checksum on the way.
fn read(path: &Path, mut page: impl FnMut(Vec<Op>) -> Result<(), Error>) -> Result<u64, Error> {
    let file = File::open(path).map_err(|error| Error::io(path, &error))?;
    let mut input = Counted { input: BufReader::new(file), crc: Hasher::new() };
    let next = |input: &mut Counted<_>| match frame::read(input).map_err(|error| Error::io(path, &error))? {
        frame::Next::Body(body) => Ok(body),
        // The trailer comes before any end.
        frame::Next::End | frame::Next::Torn => Err(bad(path, "it is cut short")),
        frame::Next::Damaged => Err(bad(path, "a checksum doesn't match")),
    };
    if next(&mut input)? != HEADER {
        return Err(bad(path, "it is no export, or a newer program's"));
    }
    let mut records = 0;
    loop {
        let before = input.crc.clone().finalize();
        let body = next(&mut input)?;
        match body.split_first() {
            Some((&RECORDS, body)) => {
                let ops = record::read(body).ok_or_else(|| bad(path, "a frame holds no records"))?;
                for op in &ops {
                    let value = op.value.as_deref().ok_or_else(|| bad(path, "it holds a deletion"))?;
                    seal::unseal(&op.table, &op.key, value)?;
                }
                records += ops.len() as u64;
                page(ops)?;
            }
            Some((&TRAILER, trailer)) => {
                let mut expected = records.to_le_bytes().to_vec();
                expected.extend_from_slice(&before.to_le_bytes());
                let whole = trailer == expected;
                return if whole { Ok(records) } else { Err(bad(path, "its count or checksum doesn't match")) };
            }
            _ => return Err(bad(path, "a frame is of no known sort")),
        }
    }
}

/// The file being written, and the checksum of it so far.
struct Out {
    file: File,
    crc: Hasher,
    bytes: u64,
}

impl Out {
    fn frame(&mut self, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(frame::framed_bytes(body.len()));
        frame::write(body, &mut bytes);
        self.crc.update(&bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(&bytes)
    }
}

/// The file being read, and the checksum of it so far.
struct Counted<R> {
    input: R,
    crc: Hasher,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.input.read(buffer)?;
        self.crc.update(&buffer[..bytes]);
        Ok(bytes)
    }
}

fn bad(path: &Path, reason: &str) -> Error {
    Error::BadExport { path: path.display().to_string(), reason: reason.to_owned() }
}
