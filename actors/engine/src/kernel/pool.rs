//! The threads that compute: the tensor library's own pool, so that two pools never compete.

use candle_core::utils::barrier_pool;

/// Threads that the compute kernels use together: `CANDLE_NUM_THREADS`, else the physical cores.
///
/// All shards of a process share them; two forward passes at once take turns, operation by operation.
pub fn threads() -> usize {
    // The caller computes too.
    barrier_pool().n_workers() + 1
}

/// Runs `work` for each number below `count`, spread over the threads, and waits for all.
pub(crate) fn each(count: usize, work: impl Fn(usize) + Sync) {
    barrier_pool().execute_chunked(count, |range| range.for_each(&work));
}
