//! Push-back for each target actor: a sender holds so many credits, and the target's mailbox gives them back.
//!
//! [`Windows`] is the sender's side, [`Returns`] the receiver's. A credit is spent with each message; when the
//! target has handled it, its slip is dropped and the credit is on its way back, sixty-four to a frame. A slow
//! actor so stops those who send to it, and nobody else on the link.

use skep_runtime::{defaults::MAILBOX_MESSAGES_MAX, gate::Credit};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Messages that one node may have in front of one actor of another: what its mailbox holds.
pub(super) const CREDITS: u32 = MAILBOX_MESSAGES_MAX as u32;
/// Credits that go back together: often enough that a sender never waits for the rest, and one small frame for
/// sixty-four messages.
const GRANT: u32 = 64;
/// Actors remembered for one link. Beyond it, those that nothing is on its way to are forgotten.
const ACTORS_MAX: usize = 4096;

/// The credits that this side holds, by the target's name.
#[derive(Default)]
pub(super) struct Windows(Mutex<State>);

#[derive(Default)]
struct State {
    windows: BTreeMap<String, Arc<Semaphore>>,
    down: bool,
}

impl Windows {
    /// The credits for `to`; closed when the link is down.
    pub(super) fn of(&self, to: &str) -> Arc<Semaphore> {
        let mut state = self.lock();
        if let Some(window) = state.windows.get(to) {
            return window.clone();
        }
        if state.windows.len() >= ACTORS_MAX {
            // A forgotten window starts full again; what was out comes back to a full one, which takes nothing.
            state.windows.retain(|_, window| Arc::strong_count(window) > 1);
        }
        let window = Arc::new(Semaphore::new(CREDITS as usize));
        if state.down {
            window.close();
        }
        state.windows.insert(to.into(), window.clone());
        window
    }

    /// The target's node gives `count` back: never more than were ever there, whatever it claims.
    pub(super) fn grant(&self, to: &str, count: u32) {
        if let Some(window) = self.lock().windows.get(to) {
            let missing = (CREDITS as usize).saturating_sub(window.available_permits());
            window.add_permits(missing.min(count as usize));
        }
    }

    /// The link is down: whoever waits for a credit fails now.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.down = true;
        state.windows.values().for_each(|window| window.close());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where grants go: the link's writer.
pub(super) trait Grants: Send + Sync + 'static {
    /// `account` has a grant's worth of credits to give back.
    fn due(&self, account: Arc<Account>);
}

/// The credits that this side owes, by its own actors' names.
pub(super) struct Returns<G> {
    accounts: BTreeMap<String, Arc<Account>>,
    grants: Weak<G>,
}

/// What is owed for one actor.
pub(super) struct Account {
    pub(super) to: String,
    owed: AtomicU32,
}

/// Handed to the target's mailbox with a message; pays when it is dropped.
struct Owed<G: Grants> {
    account: Arc<Account>,
    grants: Weak<G>,
}

impl<G: Grants> Returns<G> {
    pub(super) fn new(grants: &Arc<G>) -> Returns<G> {
        Returns { accounts: BTreeMap::new(), grants: Arc::downgrade(grants) }
    }

    /// The credit of a message to `to`.
    pub(super) fn credit(&mut self, to: &str) -> Credit {
        if let Some(account) = self.accounts.get(to) {
            return self.owed(account.clone());
        }
        if self.accounts.len() >= ACTORS_MAX {
            self.accounts.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let account = Arc::new(Account { to: to.into(), owed: AtomicU32::new(0) });
        self.accounts.insert(to.into(), account.clone());
        self.owed(account)
    }

    fn owed(&self, account: Arc<Account>) -> Credit {
        Box::new(Owed { account, grants: self.grants.clone() })
    }
}

impl Account {
    /// Takes what is owed, to send it.
    pub(super) fn settle(&self) -> u32 {
        self.owed.swap(0, Ordering::Relaxed)
    }
}

impl<G: Grants> Drop for Owed<G> {
    fn drop(&mut self) {
        // Due exactly when the count reaches a grant: until it is settled nobody else reports it.
        if self.account.owed.fetch_add(1, Ordering::Relaxed) + 1 == GRANT
            && let Some(grants) = self.grants.upgrade()
        {
            grants.due(self.account.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Arc<Account>>>);

    impl Grants for Heard {
        fn due(&self, account: Arc<Account>) {
            self.0.lock().unwrap().push(account);
        }
    }

    #[test]
    fn credits_come_back_sixty_four_at_a_time() {
        let heard = Arc::new(Heard::default());
        let mut returns = Returns::new(&heard);
        let credits: Vec<_> = (0..GRANT * 2 - 1).map(|_| returns.credit("log")).collect();
        drop(credits);
        let due = heard.0.lock().unwrap();
        assert_eq!(due.len(), 1, "the second half waits for the first to be settled");
        assert_eq!(due[0].settle(), GRANT * 2 - 1);
    }

    #[tokio::test]
    async fn no_claim_makes_a_window_larger_than_it_was() {
        let windows = Windows::default();
        let window = windows.of("log");
        window.acquire_many(10).await.unwrap().forget();
        windows.grant("log", u32::MAX);
        assert_eq!(window.available_permits(), CREDITS as usize);
    }

    #[tokio::test]
    async fn a_closed_link_refuses_old_and_new_windows() {
        let windows = Windows::default();
        let old = windows.of("old");
        windows.close();
        assert!(old.acquire().await.is_err());
        assert!(windows.of("new").acquire().await.is_err());
    }
}
