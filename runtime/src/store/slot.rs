//! Where an engine sits: it can be dropped and opened again under its readers, and its panics stay inside.
//!
//! Engines don't recover in place from an I/O error, and panic on damaged files; here both become a typed
//! error and a mark that says "reopen me".

use super::{Error, files::Lock};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// An engine, or the place of one that failed to reopen.
pub(super) struct Slot<E> {
    path: PathBuf,
    state: RwLock<State<E>>,
    suspect: AtomicBool,
}

struct State<E> {
    engine: Option<E>,
    /// `None` once closed. Held while the engine is dropped and reopened.
    lock: Option<Lock>,
}

impl<E> Slot<E> {
    pub(super) fn new(path: PathBuf, engine: E, lock: Lock) -> Self {
        let state = State { engine: Some(engine), lock: Some(lock) };
        Self { path, state: RwLock::new(state), suspect: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Uses the engine. Any failure makes it suspect.
    pub(super) fn with<T>(&self, call: impl FnOnce(&E) -> Result<T, Error>) -> Result<T, Error> {
        // A poisoned lock guards nothing here: a panicking call leaves the slot itself unchanged.
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(engine) = &state.engine else {
            return Err(if state.lock.is_some() {
                Error::Reopening { path: self.path.display().to_string() }
            } else {
                Error::Closed
            });
        };
        let result = contained(&self.path, || call(engine));
        if result.is_err() {
            self.suspect.store(true, Ordering::Release);
        }
        result
    }

    /// Drops a suspect engine and opens it again.
    pub(super) fn mend(&self, open: impl FnOnce() -> Result<E, Error>) -> Result<(), Error> {
        if !self.suspect.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.lock.is_none() {
            return Err(Error::Closed);
        }
        discard(&self.path, state.engine.take());
        state.engine = Some(contained(&self.path, open)?);
        self.suspect.store(false, Ordering::Release);
        Ok(())
    }

    pub(super) fn close(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        discard(&self.path, state.engine.take());
        state.lock = None;
    }
}

impl<E> Drop for Slot<E> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Runs a call into an engine; its panic becomes [`Error::Unreadable`].
pub(super) fn contained<T>(path: &Path, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(Error::unreadable(path, message(&*panic))))
}

/// Drops an engine, which may panic if it failed before.
fn discard<E>(path: &Path, engine: Option<E>) {
    let dropped = contained(path, || {
        drop(engine);
        Ok(())
    });
    if let Err(error) = dropped {
        tracing::warn!(%error, "closing the store failed");
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("its engine panicked: {}", text.unwrap_or("no message"))
}
