//! One run of a piece of work for everyone who asks for it meanwhile. It ends with the last of them: what nobody waits
//! for holds nothing.

use futures::{
    FutureExt,
    future::{BoxFuture, WeakShared},
};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

/// Work in flight by key. Cheap to clone.
pub(crate) struct Flights<K, T> {
    inner: Arc<Mutex<BTreeMap<K, WeakShared<BoxFuture<'static, T>>>>>,
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Flights { inner: self.inner.clone() }
    }
}

impl<K, T> Default for Flights<K, T> {
    fn default() -> Self {
        Flights { inner: Arc::default() }
    }
}

impl<K: Ord + Clone + Send + 'static, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The result of the work under `key`: of the run that is in flight, else of `work`. It moves while anyone waits.
    pub(crate) async fn join(&self, key: K, work: impl Future<Output = T> + Send + 'static) -> T {
        let flight = {
            let mut flights = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| flight.upgrade().is_some_and(|flight| flight.peek().is_none()));
            match flights.get(&key).and_then(WeakShared::upgrade) {
                Some(flight) => flight,
                None => {
                    let flight = work.boxed().shared();
                    flights.extend(flight.downgrade().map(|weak| (key, weak)));
                    flight
                }
            }
        };
        flight.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_meanwhile_share_one_run_and_the_next_is_fresh() {
        let (flights, runs) = (Flights::<u8, u32>::default(), Arc::new(AtomicU32::new(0)));
        let work = || {
            let runs = runs.clone();
            async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                runs.fetch_add(1, Ordering::Relaxed) + 1
            }
        };
        let both = tokio::join!(flights.join(1, work()), flights.join(1, work()));
        assert_eq!(both, (1, 1));
        assert_eq!(flights.join(1, work()).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_dropped() {
        let (flights, held) = (Flights::<u8, ()>::default(), Arc::new(()));
        let work = {
            let (flights, held) = (flights.clone(), held.clone());
            async move {
                std::future::pending::<()>().await;
                drop((flights, held));
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(1), flights.join(1, work)).await;
        assert!(waited.is_err());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
