//! What is to be written, and who waits for it: one write is under way at a time, and takes along all that came since the
//! last one began. So a thousand settlements a flush cost one flush.
//!
//! Memory is ahead of the disk meanwhile. That does no harm: nobody is told of anything before it is on disk, but for
//! reservations below a line that is (`tally`). After a write that failed the same is written again with the next, or
//! after a pause; whoever waited is told that it failed.

use super::{
    Message,
    actor::{ACCOUNTS, Account, METER, State},
    local::Local,
    messages::BudgetError,
    meter::Row,
    warning::Warning,
};
use ractor::ActorRef;
use skep_runtime::store::{self, Batch};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Writes of one batch: below what a batch may have, so that one doesn't hold the store's writer for long.
const BATCH_OPS: usize = 4096;
/// Bytes of one batch, for the same reason. One account has a few ten KiB at most.
const BATCH_BYTES: usize = 8 << 20;

/// What becomes of those who wait, when the write has ended.
pub(super) type After = Box<dyn FnOnce(&mut State, &ActorRef<Message>, Result<(), BudgetError>) + Send>;

/// What is to be written.
#[derive(Default)]
pub(super) struct Pen {
    next: Page,
    under_way: Option<Page>,
    /// The last write failed: the next one waits for somebody who needs it, or for a moment.
    paused: bool,
}

/// One write.
#[derive(Default)]
struct Page {
    accounts: BTreeSet<Uuid>,
    rows: BTreeSet<Row>,
    /// What is told to whoever watches once it is on disk.
    news: Vec<Warning>,
    after: Vec<After>,
}

impl Pen {
    /// This account is to be written, or its absence.
    pub(super) fn account(&mut self, thread: Uuid) {
        self.next.accounts.insert(thread);
    }

    /// These rows of the meter are to be written.
    pub(super) fn rows(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.next.rows.extend(rows);
    }

    /// To be told once what there is to write is on disk.
    pub(super) fn news(&mut self, news: Vec<Warning>) {
        self.next.news.extend(news);
    }

    /// To be done once what there is to write is on disk, or could not be written.
    pub(super) fn after(
        &mut self,
        work: impl FnOnce(&mut State, &ActorRef<Message>, Result<(), BudgetError>) + Send + 'static,
    ) {
        self.next.after.push(Box::new(work));
    }

    /// Whether the disk refused the last write: what it lacks is offered again after a moment.
    pub(super) fn paused(&self) -> bool {
        self.paused
    }

    /// A moment has passed.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    fn is_due(&self) -> bool {
        let wanted = !self.next.accounts.is_empty() || !self.next.rows.is_empty();
        self.under_way.is_none() && (!self.next.after.is_empty() || wanted && !self.paused)
    }
}

impl State {
    /// Begins a write, if there is something to write and none is under way.
    pub(super) fn write(&mut self, me: &ActorRef<Message>) {
        if !self.pen.is_due() {
            return;
        }
        let page = std::mem::take(&mut self.pen.next);
        let batches = self.batches(&page);
        self.pen.under_way = Some(page);
        let (me, store) = (me.clone(), self.context.store.clone());
        self.tasks.spawn(async move {
            let written = async {
                for batch in batches? {
                    store.commit(batch).await?;
                }
                Ok(())
            };
            let written = written.await.map_err(|error: store::Error| BudgetError::Store(error.to_string()));
            // The actor that would take it is the one that owns this task.
            let _ = me.cast(Message::Flushed(Local(written)));
        });
    }

    /// The write that was under way has ended.
    pub(super) fn flushed(&mut self, me: &ActorRef<Message>, written: Result<(), BudgetError>) {
        let Some(Page { accounts, rows, news, after }) = self.pen.under_way.take() else { return };
        self.pen.paused = written.is_err();
        match &written {
            Ok(()) => {
                for thread in accounts {
                    if let Some(account) = self.accounts.get_mut(&thread) {
                        account.written();
                    }
                }
                self.announce(&news);
            }
            Err(error) => {
                tracing::debug!(%error, "budgets could not be written; they are offered again");
                self.pen.next.accounts.extend(accounts);
                self.pen.next.rows.extend(rows);
                self.pen.next.news.splice(0..0, news);
            }
        }
        after.into_iter().for_each(|work| work(self, me, written.clone()));
    }

    /// Writes what there is before the actor stops, with every line where it is drawn: the next start charges no more.
    pub(super) async fn last_page(&mut self) -> Result<(), store::Error> {
        let mut page = std::mem::take(&mut self.pen.next);
        for (thread, account) in &mut self.accounts {
            account.rest();
            if account.rest() {
                page.accounts.insert(*thread);
            }
        }
        for batch in self.batches(&page)? {
            self.context.store.commit(batch).await?;
        }
        Ok(())
    }

    /// The page as batches. An account of which nothing is left is deleted. Each record says all of one account, so it does
    /// not matter if a crash falls between two batches.
    fn batches(&mut self, page: &Page) -> Result<Vec<Batch>, store::Error> {
        let mut batches = vec![Batch::new()];
        for thread in &page.accounts {
            if matches!(self.accounts.get(thread), Some(Account::Held(held)) if held.idle()) {
                self.accounts.remove(thread);
            }
            let batch = with_room(&mut batches);
            match self.accounts.get_mut(thread) {
                Some(account) => {
                    account.write();
                    batch.put(ACCOUNTS, thread.as_bytes(), account)?;
                }
                None => batch.delete(ACCOUNTS, thread.as_bytes())?,
            }
        }
        for row in &page.rows {
            if let Some(count) = self.meter.get(row) {
                with_room(&mut batches).put(METER, row, count)?;
            }
        }
        Ok(batches)
    }
}

fn with_room(batches: &mut Vec<Batch>) -> &mut Batch {
    let full = batches.last().is_none_or(|batch| batch.ops().len() >= BATCH_OPS || batch.bytes() >= BATCH_BYTES);
    if full {
        batches.push(Batch::new());
    }
    batches.last_mut().expect("there is one")
}
