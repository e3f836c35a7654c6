//! The simulation's back end: one opening of a [`Medium`]. Commits run on the caller's task, in two steps with virtual
//! time between them; there is no thread. After a crash of the medium it is dead, as the node's process is.

use super::{Batch, Commits, Disk, Error, Inline, Medium, Rows, Span, medium::Platter};
use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

/// One opening of a [`Medium`].
pub struct Memory {
    medium: Arc<Medium>,
    session: u64,
}

impl Memory {
    pub(super) fn new(medium: Arc<Medium>, session: u64) -> Self {
        Self { medium, session }
    }

    fn platter(&self) -> Result<MutexGuard<'_, Platter>, Error> {
        self.medium.session(self.session)
    }
}

impl Disk for Memory {
    fn read(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let platter = self.platter()?;
        Ok(platter.live.get(table).and_then(|table| table.get(key)).map(|value| value.to_vec()))
    }

    fn scan(&self, table: &str, span: &Span, rows: &mut Rows) -> Result<(), Error> {
        let platter = self.platter()?;
        for (key, value) in platter.live.get(table).iter().flat_map(|table| table.range::<[u8], _>(span.bounds())) {
            if !rows.offer(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn tables(&self) -> Result<Vec<String>, Error> {
        Ok(self.platter()?.live.keys().cloned().collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let ticket = self.write(batch)?;
        self.flush(ticket)
    }

    fn mend(&self) -> Result<(), Error> {
        self.platter().map(drop)
    }

    fn close(&self) {
        if let Ok(mut platter) = self.platter() {
            platter.close();
        }
    }

    fn commits(&self) -> Commits<'_> {
        Commits::Inline(self)
    }
}

impl Inline for Memory {
    fn write(&self, batch: &Batch) -> Result<u64, Error> {
        self.platter()?.write(batch)
    }

    fn flush_delay(&self) -> Duration {
        self.platter().map_or(Duration::ZERO, |platter| platter.flush_delay)
    }

    fn flush(&self, ticket: u64) -> Result<(), Error> {
        self.platter()?.flush(ticket);
        Ok(())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.close();
    }
}
