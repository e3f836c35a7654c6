//! The store as everyone holds it: typed reads on the caller's thread, commits that are durable when they
//! resolve. A cheap clone; the last one dropped closes the files.

use super::{Batch, Commits, Disk, Error, Exported, Key, Rows, Span, Table, files::Files, writer::Writer};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};

/// Rows of a page while a whole table is read: a few hundred KiB at most are in memory beside what is made of them.
const VISIT_ROWS: usize = 256;

/// A handle on a node's store.
#[derive(Clone)]
pub struct Store {
    // The writer is dropped first: it waits for its thread, which uses the disk.
    writer: Option<Arc<Writer>>,
    disk: Arc<dyn Disk>,
    /// `None`: there is no folder to export to.
    files: Option<Files>,
    /// What was lost when it was opened, for people.
    loss: Option<Arc<str>>,
}

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K, V> {
    /// Rows in key order.
    pub rows: Vec<(K, V)>,
    /// What to scan next for the rows behind these; `None` if there are none.
    pub rest: Option<Span>,
}

impl Store {
    /// A store on this back end, without exports: the simulation's, or a test's.
    ///
    /// # Errors
    /// [`Error::Io`] if the system gives no thread to a back end that needs one.
    pub fn new(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        Self::start(disk, None)
    }

    pub(super) fn with_exports(disk: Arc<dyn Disk>, files: Files, loss: Option<String>) -> Result<Self, Error> {
        Ok(Self { loss: loss.map(Arc::from), ..Self::start(disk, Some(files))? })
    }

    fn start(disk: Arc<dyn Disk>, files: Option<Files>) -> Result<Self, Error> {
        let writer = match disk.commits() {
            Commits::Thread => Some(Arc::new(Writer::start(Arc::clone(&disk), files.clone())?)),
            Commits::Inline(_) => None,
        };
        Ok(Self { writer, disk, files, loss: None })
    }

    /// The value under `key`. Blocks for microseconds (a page in memory), or as long as the disk takes.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Layout`] and [`Error::Undecodable`] concern this record alone; after others the
    /// engine is reopened.
    pub fn get<K, V>(&self, table: Table<K, V>, key: &K) -> Result<Option<V>, Error>
    where
        K: Key,
        V: Serialize + DeserializeOwned,
    {
        let key = key.to_bytes();
        let sealed = self.heed(self.disk.read(table.name(), &key))?;
        sealed.map(|sealed| table.decode(&key, &sealed)).transpose()
    }

    /// The first rows of a span, at most `rows_max`, [`super::SCAN_ROWS_MAX`] and [`super::SCAN_BYTES_MAX`].
    ///
    /// # Errors
    /// As for [`Store::get`]. A damaged row fails the page and is named; `span.after(key)` goes on behind it.
    pub fn scan<K, V>(&self, table: Table<K, V>, span: &Span, rows_max: usize) -> Result<Page<K, V>, Error>
    where
        K: Key,
        V: Serialize + DeserializeOwned,
    {
        if span.is_empty() || rows_max == 0 {
            return Ok(Page { rows: Vec::new(), rest: (!span.is_empty()).then(|| span.clone()) });
        }
        let mut rows = Rows::new(rows_max);
        self.heed(self.disk.scan(table.name(), span, &mut rows))?;
        let (rows, more) = rows.finish();
        let rest = rows.last().filter(|_| more).map(|(key, _)| span.after(key));
        let decode = |(key, sealed): &(Vec<u8>, Vec<u8>)| Ok((table.decode_key(key)?, table.decode(key, sealed)?));
        Ok(Page { rows: rows.iter().map(decode).collect::<Result<_, Error>>()?, rest })
    }

    /// Hands over every readable row of a table, in key order. A damaged one is left out and named in the log: it must
    /// keep neither a node down nor its neighbours away.
    ///
    /// # Errors
    /// As for [`Store::get`], but for damage.
    pub fn visit<K, V>(&self, table: Table<K, V>, mut take: impl FnMut(K, V)) -> Result<(), Error>
    where
        K: Key,
        V: Serialize + DeserializeOwned,
    {
        let mut rows_max = VISIT_ROWS;
        let mut rest = Some(Span::all());
        while let Some(span) = rest {
            rest = match self.scan(table, &span, rows_max) {
                Ok(page) => {
                    page.rows.into_iter().for_each(|(key, value)| take(key, value));
                    page.rest
                }
                // A damaged row fails its whole page: go on row by row until it is the next one.
                Err(error) if error.is_damage() && rows_max > 1 => {
                    rows_max = 1;
                    Some(span)
                }
                Err(Error::Corrupt { key, .. } | Error::Undecodable { key, .. }) => {
                    tracing::error!(table = table.name(), "a damaged record is left out: check the disk's health");
                    rows_max = VISIT_ROWS;
                    Some(span.after(&key))
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// All readable rows of a table that is small, in key order: see [`Store::visit`].
    ///
    /// # Errors
    /// As for [`Store::visit`].
    pub fn all<K, V>(&self, table: Table<K, V>) -> Result<Vec<(K, V)>, Error>
    where
        K: Key,
        V: Serialize + DeserializeOwned,
    {
        let mut rows = Vec::new();
        self.visit(table, |key, value| rows.push((key, value)))?;
        Ok(rows)
    }

    /// Makes the whole batch durable, or nothing of it. Batches of one caller that awaits each are in order.
    ///
    /// If the future is dropped the batch may still be committed. Under a paused clock use the store in memory: a
    /// real disk's thread takes real time, and the deadline would pass at once.
    ///
    /// # Errors
    /// Not acknowledged: see [`Error`] for what that means for the batch.
    pub async fn commit(&self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Some(writer) = &self.writer {
            return writer.commit(batch).await;
        }
        let Commits::Inline(inline) = self.disk.commits() else {
            return Err(Error::Closed);
        };
        let ticket = inline.write(&batch)?;
        let delay = inline.flush_delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        inline.flush(ticket)
    }

    /// What was lost when the store was opened ([`super::Opened`]), for as long as this process runs: its owner has to
    /// know.
    #[must_use]
    pub fn loss(&self) -> Option<&str> {
        self.loss.as_deref()
    }

    /// Whether there is a folder to export to.
    #[must_use]
    pub fn exports(&self) -> bool {
        self.files.is_some()
    }

    /// Writes a verified export beside the store and keeps the one before it. Commits wait meanwhile.
    ///
    /// # Errors
    /// [`Error::NoExport`] in memory; [`Error::Corrupt`] if a record is damaged. Earlier exports stay as they are.
    pub async fn export(&self) -> Result<Exported, Error> {
        match &self.writer {
            Some(writer) if self.exports() => writer.export().await,
            _ => Err(Error::NoExport),
        }
    }

    /// Finishes what is queued and lets go of the files, for all clones of this handle.
    ///
    /// # Errors
    /// [`Error::Stalled`] if the disk doesn't answer; the files are let go of when it does.
    pub async fn close(&self) -> Result<(), Error> {
        match &self.writer {
            Some(writer) => writer.close().await,
            None => {
                self.disk.close();
                Ok(())
            }
        }
    }

    /// Lets the writer reopen an engine that failed a read. Not one that failed to reopen: that waits for the next
    /// commit, or reads would have the engine opened over and over.
    fn heed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let (Err(error), Some(writer)) = (&result, &self.writer)
            && !matches!(error, Error::Closed | Error::Reopening { .. })
        {
            writer.mend();
        }
        result
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("files", &self.files).finish_non_exhaustive()
    }
}
