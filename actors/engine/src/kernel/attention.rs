//! Causal attention with grouped queries over a cache that is read in place.
//!
//! The heads that share keys are handled together, two or four queries at a time, so that each
//! key and value is loaded once for them and nothing is copied or repeated.

use std::sync::Mutex;

use super::pool;
use super::vector::{LANES, exp, sum, widest};

/// Shape of one sequence's attention.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) head_width: usize,
    /// Position of the first query row; row r sees the keys 0..=first + r.
    pub(crate) first: usize,
}

/// Multiplications under which waking other threads costs more than it saves.
const PARALLEL_WORK_MIN: usize = 1 << 16;

/// Attends `queries` (rows of all heads) to `keys` and `values`, one slice per key head, each
/// position after position. Gives rows of all heads.
pub(crate) fn attend(shape: Attention, queries: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
    let row_width = shape.heads * shape.head_width;
    let group_width = row_width / shape.kv_heads;
    let rows = queries.len() / row_width;
    let gathered: Vec<Mutex<Vec<f32>>> = (0..shape.kv_heads).map(|_| Mutex::default()).collect();
    let one = |kv_head: usize| {
        let own = |row: &[f32]| row[kv_head * group_width..][..group_width].to_vec();
        let grouped: Vec<f32> = queries.chunks_exact(row_width).flat_map(own).collect();
        let output = attend_group(shape, &grouped, &keys[kv_head], &values[kv_head]);
        *gathered[kv_head].lock().expect("no thread panics while it holds a head") = output;
    };
    if rows * (shape.first + rows) * row_width < PARALLEL_WORK_MIN {
        (0..shape.kv_heads).for_each(one);
    } else {
        pool::each(shape.kv_heads, one);
    }
    let mut output = vec![0.0; queries.len()];
    for (kv_head, group) in gathered.into_iter().enumerate() {
        let group = group.into_inner().expect("no thread panics while it holds a head");
        for (row, part) in output.chunks_exact_mut(row_width).zip(group.chunks_exact(group_width)) {
            row[kv_head * group_width..][..group_width].copy_from_slice(part);
        }
    }
    output
}

/// Attention of all queries that share one key head.
fn attend_group(shape: Attention, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
    let width = shape.head_width;
    let group = shape.heads / shape.kv_heads;
    let count = queries.len() / width;
    let visible = |query: usize| shape.first + query / group + 1;
    let mut output = vec![0.0; queries.len()];
    let mut scores = Vec::new();
    let mut done = 0;
    while done < count {
        let step = match count - done {
            4.. => 4,
            2 | 3 => 2,
            _ => 1,
        };
        let span = done * width..(done + step) * width;
        let (queries, output) = (&queries[span.clone()], &mut output[span]);
        let limits = [0, 1, 2, 3].map(|index| visible((done + index).min(count - 1)));
        widest(
            #[inline(always)]
            || match step {
                4 => block::<4>(width, limits, queries, keys, values, &mut scores, output),
                2 => block::<2>(width, limits, queries, keys, values, &mut scores, output),
                _ => block::<1>(width, limits, queries, keys, values, &mut scores, output),
            },
        );
        done += step;
    }
    output
}

/// `N` queries at once: scores, softmax, weighted sum of values.
#[inline(always)]
fn block<const N: usize>(
    width: usize,
    limits: [usize; 4],
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    scores: &mut Vec<[f32; N4]>,
    output: &mut [f32],
) {
    let longest = limits[N - 1];
    scores.clear();
    scores.extend(keys.chunks_exact(width).take(longest).map(
        #[inline(always)]
        |key| dots::<N>(width, queries, key),
    ));
    let scale = 1.0 / (width as f32).sqrt();
    for (query, &limit) in limits.iter().enumerate().take(N) {
        softmax(scores, query, limit, scale);
    }
    for (score, value) in scores.iter().zip(values.chunks_exact(width)) {
        for (query, row) in output.chunks_exact_mut(width).enumerate() {
            let share = score[query];
            for (sum, value) in row.iter_mut().zip(value) {
                *sum += share * value;
            }
        }
    }
}

/// Queries that a score holds room for.
const N4: usize = 4;

/// The scalar products of `N` queries with one key.
#[inline(always)]
fn dots<const N: usize>(width: usize, queries: &[f32], key: &[f32]) -> [f32; N4] {
    let mut lanes = [[0.0_f32; LANES]; N];
    let whole = width - width % LANES;
    for at in (0..whole).step_by(LANES) {
        let key = &key[at..at + LANES];
        for (query, lanes) in lanes.iter_mut().enumerate() {
            let query = &queries[query * width + at..][..LANES];
            for lane in 0..LANES {
                lanes[lane] += query[lane] * key[lane];
            }
        }
    }
    let mut products = [0.0; N4];
    for query in 0..N {
        let tail = &queries[query * width + whole..(query + 1) * width];
        let tail: f32 = tail.iter().zip(&key[whole..]).map(|(a, b)| a * b).sum();
        products[query] = sum(lanes[query]) + tail;
    }
    products
}

/// Turns the first `limit` scores of one query into shares that sum to one, the rest into zero.
#[inline(always)]
fn softmax(scores: &mut [[f32; N4]], query: usize, limit: usize, scale: f32) {
    let (seen, hidden) = scores.split_at_mut(limit);
    let highest = seen.iter().fold(f32::NEG_INFINITY, |highest, score| highest.max(score[query]));
    let mut total = 0.0;
    for score in seen.iter_mut() {
        score[query] = exp((score[query] - highest) * scale);
        total += score[query];
    }
    for score in seen {
        score[query] /= total;
    }
    for score in hidden {
        score[query] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention as the paper writes it, in f64.
    fn naive(shape: Attention, queries: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f32> {
        let width = shape.head_width;
        let mut output = Vec::new();
        for (index, query) in queries.chunks_exact(width).enumerate() {
            let (row, head) = (index / shape.heads, index % shape.heads);
            let kv_head = head * shape.kv_heads / shape.heads;
            let limit = shape.first + row + 1;
            let weights: Vec<f64> = (0..limit)
                .map(|at| {
                    let key = &keys[kv_head][at * width..][..width];
                    let product: f64 = query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    (product / (width as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for column in 0..width {
                let value = |at: usize| f64::from(values[kv_head][at * width + column]);
                let sum: f64 = weights.iter().enumerate().map(|(at, weight)| weight / total * value(at)).sum();
                output.push(sum as f32);
            }
        }
        output
    }

    #[test]
    fn every_grouping_agrees_with_the_paper() {
        let wave = |seed: usize, count: usize| -> Vec<f32> {
            (0..count).map(|at| ((at * 37 + seed * 101) % 199) as f32 / 100.0 - 1.0).collect()
        };
        for (heads, kv_heads, head_width, first, rows) in
            [(4, 4, 8, 0, 1), (9, 3, 64, 5, 1), (8, 2, 20, 0, 7), (6, 2, 16, 300, 33), (5, 1, 6, 2, 2)]
        {
            let shape = Attention { heads, kv_heads, head_width, first };
            let queries = wave(1, rows * heads * head_width);
            let cached = |seed| -> Vec<Vec<f32>> {
                (0..kv_heads).map(|head| wave(seed + head, (first + rows) * head_width)).collect()
            };
            let (keys, values) = (cached(2), cached(9));
            let (ours, exact) = (attend(shape, &queries, &keys, &values), naive(shape, &queries, &keys, &values));
            for (ours, exact) in ours.iter().zip(&exact) {
                assert!((ours - exact).abs() < 2e-5, "{ours} is not {exact}");
            }
        }
    }
}
