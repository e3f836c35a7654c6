//! Push-back for each target actor: a sender holds so many credits, and the target's mailbox gives them back.
//!
//! [`Windows`] is the sender's side, [`Returns`] the receiver's. Credits are spent with each message, by its
//! [weight]; when the target has handled it, its slip is dropped and they are on their way back, sixty-four or more to a
//! frame. A slow actor so stops those who send to it, and nobody else on the link. The receiver counts as well: who
//! sends more than it has credits for breaks the protocol.

use skep_runtime::{defaults::MAILBOX_MESSAGES_MAX, gate::Credit};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::Semaphore;

/// Small messages that one node may have in front of one actor of another: what its mailbox holds. At a KiB each they
/// are a mebibyte.
pub(super) const CREDITS: u32 = MAILBOX_MESSAGES_MAX as u32;
/// Bytes of a message's body that one credit pays for.
const CREDIT_BYTES: usize = 1 << 10;
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
            // A forgotten window starts full again, and must not hold much more than it had: less than a grant.
            let out = |window: &Semaphore| window.available_permits() + GRANT as usize <= CREDITS as usize;
            state.windows.retain(|_, window| Arc::strong_count(window) > 1 || out(window));
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
    /// Spent by the other side and not on their way back.
    out: AtomicU32,
}

/// Handed to the target's mailbox with a message; pays when it is dropped.
struct Owed<G: Grants> {
    account: Arc<Account>,
    weight: u32,
    grants: Weak<G>,
}

/// The credits that a message with a body of so many bytes takes. Less than all by a grant: so many may be owed and not
/// sent, and the largest message must not wait for them.
pub(super) fn weight(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / CREDIT_BYTES).unwrap_or(CREDITS).min(CREDITS - GRANT)
}

impl<G: Grants> Returns<G> {
    pub(super) fn new(grants: &Arc<G>) -> Returns<G> {
        Returns { accounts: BTreeMap::new(), grants: Arc::downgrade(grants) }
    }

    /// The credit of a message to `to` with a body of `bytes`; `None` if the other side had none left.
    pub(super) fn credit(&mut self, to: &str, bytes: usize) -> Option<Credit> {
        let account = match self.accounts.get(to) {
            Some(account) => account.clone(),
            None => self.account(to),
        };
        let weight = weight(bytes);
        let out = account.out.fetch_add(weight, Ordering::Relaxed) + weight;
        let owed = Owed { account, weight, grants: self.grants.clone() };
        // A window that was forgotten and made anew may hold a little more.
        if out > CREDITS + GRANT {
            return None;
        }
        Some(Box::new(owed))
    }

    fn account(&mut self, to: &str) -> Arc<Account> {
        if self.accounts.len() >= ACTORS_MAX {
            let grants = self.grants.upgrade();
            self.accounts.retain(|_, account| {
                let busy = Arc::strong_count(account) > 1;
                if let (false, Some(grants)) = (busy, &grants) {
                    grants.due(account.clone());
                }
                busy
            });
        }
        let account = Arc::new(Account { to: to.into(), owed: AtomicU32::new(0), out: AtomicU32::new(0) });
        self.accounts.insert(to.into(), account.clone());
        account
    }
}

impl Account {
    /// Takes what is owed, to send it.
    pub(super) fn settle(&self) -> u32 {
        let owed = self.owed.swap(0, Ordering::Relaxed);
        self.out.fetch_sub(owed, Ordering::Relaxed);
        owed
    }
}

impl<G: Grants> Drop for Owed<G> {
    fn drop(&mut self) {
        // Due exactly when the count passes a grant: until it is settled nobody else reports it.
        let owed = self.account.owed.fetch_add(self.weight, Ordering::Relaxed);
        if owed < GRANT
            && owed + self.weight >= GRANT
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
        let credits: Vec<_> = (0..GRANT * 2 - 1).map(|_| returns.credit("log", 0).unwrap()).collect();
        drop(credits);
        let due = heard.0.lock().unwrap();
        assert_eq!(due.len(), 1, "the second half waits for the first to be settled");
        assert_eq!(due[0].settle(), GRANT * 2 - 1);
    }

    #[test]
    fn who_sends_more_than_its_credits_is_found_out_whatever_the_messages_weigh() {
        for bytes in [0, 10 << 10, 1 << 20] {
            let heard = Arc::new(Heard::default());
            let mut returns = Returns::new(&heard);
            let taken: Vec<_> = std::iter::from_fn(|| returns.credit("log", bytes)).collect();
            let (most, weighed) = (CREDITS + GRANT, taken.len() as u32 * weight(bytes));
            assert!(weighed <= most && weighed + weight(bytes) > most, "{bytes}");
            // Handled and given back, it may go on.
            drop(taken);
            for account in heard.0.lock().unwrap().drain(..) {
                account.settle();
            }
            assert!(returns.credit("log", bytes).is_some());
        }
    }

    #[tokio::test]
    async fn the_largest_message_never_waits_for_credits_that_are_too_few_to_be_sent() {
        let window = Windows::default().of("log");
        window.acquire_many(GRANT - 1).await.unwrap().forget();
        assert!(window.try_acquire_many(weight(usize::MAX)).is_ok());
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
