//! What others changed in a collection, for whoever acts on it here. Late readers find each record once, as it is now.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// The ids that changed since they were last taken. As many as the collection has at most.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    changed: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    woken: Arc<Notify>,
}

impl Feed {
    /// Waits until there are any, and takes them.
    pub async fn next(&self) -> BTreeSet<Vec<u8>> {
        loop {
            let woken = self.woken.notified();
            let ids = self.take();
            if !ids.is_empty() {
                return ids;
            }
            woken.await;
        }
    }

    /// Those that there are now.
    pub fn take(&self) -> BTreeSet<Vec<u8>> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note(&self, id: Vec<u8>) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.woken.notify_one();
    }
}
