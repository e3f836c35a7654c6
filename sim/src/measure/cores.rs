//! Measurements on all of a machine's cores: each is one thread's from beginning to end, so none knows of another.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How many cores this process may use.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What `measure` makes of each item, in the items' order.
pub fn each<I: Sync, O: Send>(items: &[I], measure: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..count() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let outcome = measure(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn outcomes_stand_in_the_order_of_their_items() {
        let items: Vec<u64> = (0..100).collect();
        assert_eq!(super::each(&items, |n| n * n), items.iter().map(|n| n * n).collect::<Vec<u64>>());
    }
}
