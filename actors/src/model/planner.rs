//! Where a model's layers go: one node if it fits, else the fewest that hold it, the load balanced by speed.
//!
//! Without I/O: the model's card and the nodes' figures in, a [`Plan`] out. Prediction for one request:
//!
//! ```text
//! seconds a token = sum over stages (bytes of its weights / bytes a second of its node) + hops * seconds a hop
//! ```
//!
//! Decoding reads every weight once a token, so that memory bandwidth bounds it; a chain of n > 1 stages makes
//! n hops a token, the last one back to where the text leaves. Splitting therefore never speeds up one request:
//! it buys room, and throughput for several. (The same model of pipelined decoding: Petals, arXiv 2209.01188.)
//!
//! Not here: who may be asked (`serve`), and how the figures are had (`room`).

use super::messages::{ModelError, Plan, Stage};
use crate::pipeline::RUNNING_MAX;
use skep_engine::{Card, defaults::CACHE_GROWTH_TOKENS};
use skep_runtime::NodeId;
use std::ops::Range;

/// Nodes in one plan. Deeper chains need more requests in flight than one pipeline runs, and placing over the
/// subsets of 8 nodes stays under ten million steps for the deepest models.
pub const STAGES_MAX: usize = 8;
/// Bytes of weights a second that a node is taken to read until it was measured: two cores of a desktop.
pub const ASSUMED_BYTES_PER_SECOND: f64 = 6e9;
/// Seconds that one hop between nodes takes besides its payload: 0.1 ms one way on a switched LAN, 0.08 ms to
/// wake the receiver.
const HOP_SECONDS: f64 = 0.000_18;
/// Bytes a second of the link between two nodes: 1 GbE.
const LINK_BYTES_PER_SECOND: f64 = 125e6;
/// How many times faster another node must be before the file is sent there though this one could serve it.
const WORTH_MOVING: f64 = 1.5;

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    /// The model's name.
    pub(super) model: &'a str,
    /// The digest of its file.
    pub(super) digest: &'a str,
    /// Its card.
    pub(super) card: &'a Card,
    /// Tokens of context, all requests together, that every stage must have room for.
    pub(super) cache_tokens: u64,
    /// Exactly this many stages; `None` is as few as possible.
    pub(super) stages: Option<u16>,
    /// Where the pipeline will run: first stage, if it is among the chosen.
    pub(super) home: NodeId,
}

/// A node that would take a stage: up, not draining.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Which.
    pub(super) node: NodeId,
    /// Bytes of memory that a shard may take there.
    pub(super) memory_bytes: u64,
    /// Bytes of weights that it reads a second; `None` until it was measured.
    pub(super) bytes_per_second: Option<f64>,
    /// Whether the file lies there.
    pub(super) has_file: bool,
}

impl Candidate {
    fn speed(&self) -> f64 {
        self.bytes_per_second.filter(|s| s.is_finite() && *s > 0.0).unwrap_or(ASSUMED_BYTES_PER_SECOND)
    }
}

/// The plan for `job` over some of `candidates`.
///
/// # Errors
/// [`ModelError::NoRoom`] if no subset holds the model, [`ModelError::NoPlan`] if not with that many stages.
pub(super) fn plan(job: &Job<'_>, candidates: &[Candidate]) -> Result<Plan, ModelError> {
    let layers = job.card.layers;
    if let Some(wanted) = job.stages
        && (wanted == 0 || usize::from(wanted) > STAGES_MAX || u32::from(wanted) > layers)
    {
        let most = (STAGES_MAX as u32).min(layers);
        return Err(ModelError::NoPlan { wanted, reason: format!("this model takes 1 to {most} stages") });
    }
    let alone = alone(job, candidates);
    let chosen = match (job.stages, alone) {
        (None | Some(1), Some(node)) => vec![(node, 0..layers)],
        (Some(1), None) => return Err(too_small(job, candidates)),
        (wanted, _) => spread(job, candidates, wanted)?,
    };
    let predicted = tokens_per_second(job.card, &chosen);
    let predicted_alone = fastest(job, candidates).map(|node| tokens_per_second(job.card, &[(node, 0..layers)]));
    let reason = reason(job, &chosen, predicted, predicted_alone);
    let stages = chosen.into_iter().map(|(candidate, range)| Stage {
        node: candidate.node,
        from: range.start,
        to: range.end,
        weight_bytes: job.card.weight_bytes(range),
    });
    Ok(Plan {
        model: job.model.to_owned(),
        digest: job.digest.to_owned(),
        stages: stages.collect(),
        predicted,
        predicted_alone,
        reason,
    })
}

/// Bytes of memory that a shard of these layers takes with its caches.
pub(super) fn memory_bytes(card: &Card, layers: Range<u32>, cache_tokens: u64) -> u64 {
    // Each sequence's cache is rounded up.
    let slack = RUNNING_MAX as u64 * CACHE_GROWTH_TOKENS as u64;
    let cache = card.cache_bytes_per_token(layers.clone()).saturating_mul(cache_tokens.saturating_add(slack));
    card.resident_bytes(layers).saturating_add(cache)
}

fn fits(job: &Job<'_>, node: &Candidate, layers: Range<u32>) -> bool {
    memory_bytes(job.card, layers, job.cache_tokens) <= node.memory_bytes
}

fn fastest(job: &Job<'_>, candidates: &[Candidate]) -> Option<Candidate> {
    fastest_of(job, candidates.iter().copied())
}

fn fastest_of(job: &Job<'_>, candidates: impl Iterator<Item = Candidate>) -> Option<Candidate> {
    let fit = candidates.filter(|node| fits(job, node, 0..job.card.layers));
    fit.max_by(|a, b| a.speed().total_cmp(&b.speed()).then(b.node.cmp(&a.node)))
}

/// The single node to serve from: home, else one that has the file, unless another is so much faster that
/// sending the file pays.
fn alone(job: &Job<'_>, candidates: &[Candidate]) -> Option<Candidate> {
    let fastest = fastest(job, candidates)?;
    let near = candidates.iter().filter(|node| node.has_file && fits(job, node, 0..job.card.layers));
    let near = near.max_by(|a, b| {
        let home = |node: &Candidate| node.node == job.home;
        home(a).cmp(&home(b)).then(a.speed().total_cmp(&b.speed())).then(b.node.cmp(&a.node))
    });
    let Some(near) = near else { return Some(fastest) };
    // Only measured speeds are compared: who was measured must not lose to a guess about who wasn't.
    let measured = candidates.iter().copied().filter(|node| node.bytes_per_second.is_some());
    let measured = fastest_of(job, measured).filter(|_| near.bytes_per_second.is_some());
    Some(measured.filter(|far| far.speed() > near.speed() * WORTH_MOVING).unwrap_or(*near))
}

/// The fewest nodes that hold the model (or exactly `wanted`), the slowest stage as fast as possible.
fn spread(
    job: &Job<'_>,
    candidates: &[Candidate],
    wanted: Option<u16>,
) -> Result<Vec<(Candidate, Range<u32>)>, ModelError> {
    let mut nodes = candidates.to_vec();
    nodes.sort_by(|a, b| b.memory_bytes.cmp(&a.memory_bytes).then(a.node.cmp(&b.node)));
    nodes.truncate(STAGES_MAX);
    let reach = Reach::new(job, &nodes);
    let size = |mask: &usize| mask.count_ones();
    let full = (1..1_usize << nodes.len()).filter(|&mask| reach.holds_all(mask));
    let sized: Vec<usize> = match wanted {
        Some(wanted) => full.filter(|mask| size(mask) == u32::from(wanted)).collect(),
        None => {
            let full: Vec<usize> = full.collect();
            let fewest = full.iter().map(size).min();
            full.into_iter().filter(|mask| Some(size(mask)) == fewest).collect()
        }
    };
    let score = |mask: usize| {
        let members = || nodes.iter().enumerate().filter(move |(i, _)| mask & (1 << i) != 0).map(|(_, node)| node);
        let home = members().any(|node| node.node == job.home);
        (home, members().map(Candidate::speed).sum::<f64>(), members().filter(|node| node.has_file).count())
    };
    let best = sized.into_iter().max_by(|&a, &b| {
        let ((home_a, speed_a, files_a), (home_b, speed_b, files_b)) = (score(a), score(b));
        home_a.cmp(&home_b).then(speed_a.total_cmp(&speed_b)).then(files_a.cmp(&files_b)).then(b.cmp(&a))
    });
    let Some(mask) = best else { return Err(too_small(job, candidates)) };
    let mut chain: Vec<Candidate> =
        nodes.iter().enumerate().filter(|(i, _)| mask & (1 << i) != 0).map(|(_, node)| *node).collect();
    // Home first: its text leaves from there, and its hidden states need no hop. Then those that have the file.
    chain.sort_by_key(|node| (node.node != job.home, !node.has_file, node.node));
    let balanced = balance(job, &chain).or_else(|| balance(job, &reach.order(mask)));
    Ok(balanced.expect("the order by which this set reaches every layer holds them all"))
}

/// Which numbers of layers, from the first on, each set of nodes can hold in some order, one layer at least each.
struct Reach<'a> {
    nodes: &'a [Candidate],
    /// By node and first layer: one past the last layer that the node can hold from there.
    ends: Vec<Vec<u32>>,
    /// By set (a bit mask): for each count of layers, the node that took the last of them, and the count before.
    sets: Vec<Vec<Option<(usize, u32)>>>,
}

impl<'a> Reach<'a> {
    fn new(job: &'a Job<'a>, nodes: &'a [Candidate]) -> Reach<'a> {
        let counts = job.card.layers as usize + 1;
        let ends = nodes.iter().map(|node| ends(job, node)).collect();
        let mut reach = Reach { nodes, ends, sets: vec![vec![None; counts]; 1 << nodes.len()] };
        for mask in 1..1_usize << nodes.len() {
            for last in (0..nodes.len()).filter(|i| mask & (1 << i) != 0) {
                reach.extend(mask, last);
            }
        }
        reach
    }

    /// Notes every count that `mask` reaches when `last` takes the layers behind the others'.
    fn extend(&mut self, mask: usize, last: usize) {
        let before = mask & !(1 << last);
        let mut filled = 0;
        for (start, &most) in (0..).zip(&self.ends[last]) {
            let reached = if before == 0 { start == 0 } else { self.sets[before][start as usize].is_some() };
            if !reached {
                continue;
            }
            // What an earlier start has reached needs no other.
            for end in filled.max(start) + 1..=most {
                self.sets[mask][end as usize].get_or_insert((last, start));
            }
            filled = filled.max(most);
        }
    }

    fn holds_all(&self, mask: usize) -> bool {
        self.sets[mask].last().is_some_and(Option::is_some)
    }

    /// An order of the set's nodes that reaches every layer.
    fn order(&self, mut mask: usize) -> Vec<Candidate> {
        let (mut order, mut end) = (Vec::new(), self.sets[mask].len() - 1);
        while let Some((last, start)) = self.sets[mask][end] {
            order.push(self.nodes[last]);
            mask &= !(1 << last);
            end = start as usize;
            if mask == 0 {
                break;
            }
        }
        order.reverse();
        order
    }
}

/// For each first layer, one past the last layer that `node` can hold from there. A longer range takes more, so that
/// both ends only move on.
fn ends(job: &Job<'_>, node: &Candidate) -> Vec<u32> {
    let mut end = 0;
    let from = |start: u32| {
        end = end.max(start);
        while end < job.card.layers && fits(job, node, start..end + 1) {
            end += 1;
        }
        end
    };
    (0..job.card.layers).map(from).collect()
}

/// The layers cut over `chain` in this order so that the slowest stage is as fast as can be: it sets the
/// throughput. `None` if this order can't hold them.
fn balance(job: &Job<'_>, chain: &[Candidate]) -> Option<Vec<(Candidate, Range<u32>)>> {
    let layers = job.card.layers as usize;
    let read = read_sums(job.card);
    // slowest[end]: seconds of the slowest stage when the first nodes hold [0, end), and where the last one starts.
    let mut rows: Vec<Vec<Option<(f64, usize)>>> = Vec::with_capacity(chain.len());
    for (stage, node) in chain.iter().enumerate() {
        let (mut row, ends) = (vec![None; layers + 1], ends(job, node));
        for start in 0..layers {
            let before = match stage {
                0 if start == 0 => 0.0,
                0 => continue,
                _ => match rows[stage - 1][start] {
                    Some((seconds, _)) => seconds,
                    None => continue,
                },
            };
            for (end, best) in row.iter_mut().enumerate().take(ends[start] as usize + 1).skip(start + 1) {
                let seconds = f64::max(before, (read[end] - read[start]) as f64 / node.speed());
                if best.is_none_or(|(known, _)| seconds < known) {
                    *best = Some((seconds, start));
                }
            }
        }
        rows.push(row);
    }
    let mut end = layers;
    let mut cuts = Vec::with_capacity(chain.len());
    for (node, row) in chain.iter().zip(&rows).rev() {
        let (_, start) = row[end]?;
        cuts.push((*node, start as u32..end as u32));
        end = start;
    }
    cuts.reverse();
    Some(cuts)
}

fn seconds(card: &Card, node: &Candidate, layers: Range<u32>) -> f64 {
    read_bytes(card, layers) as f64 / node.speed()
}

/// Bytes of weights that a token reads in the layers before each one, and in all with the head.
fn read_sums(card: &Card) -> Vec<u64> {
    let mut sums: Vec<u64> = (0..card.layers).map(|layer| read_bytes(card, 0..layer)).collect();
    sums.push(read_bytes(card, 0..card.layers));
    sums
}

/// Bytes of weights that a token reads in these layers: of the embedding it is one row, not all of it.
pub(super) fn read_bytes(card: &Card, layers: Range<u32>) -> u64 {
    let head = if layers.end == card.layers { card.head_bytes } else { 0 };
    let inner = card.layer_bytes.get(layers.start as usize..layers.end as usize).unwrap_or_default();
    inner.iter().sum::<u64>() + head
}

fn tokens_per_second(card: &Card, stages: &[(Candidate, Range<u32>)]) -> f64 {
    let compute: f64 = stages.iter().map(|(node, range)| seconds(card, node, range.clone())).sum();
    let hops = if stages.len() > 1 { stages.len() as f64 } else { 0.0 };
    let payload = card.hidden_bytes_per_token() as f64 / LINK_BYTES_PER_SECOND;
    1.0 / (compute + hops * HOP_SECONDS + (hops - 1.0).max(0.0) * payload).max(1e-9)
}

fn reason(job: &Job<'_>, chosen: &[(Candidate, Range<u32>)], predicted: f64, alone: Option<f64>) -> String {
    let need = gib(memory_bytes(job.card, 0..job.card.layers, job.cache_tokens));
    match (chosen, alone) {
        ([_], _) if job.stages.is_none() => {
            format!("one node holds all {} layers ({need} with caches): a split would be slower", job.card.layers)
        }
        ([_], _) => format!("one node, as asked; it needs {need}"),
        (_, Some(alone)) => format!(
            "{} stages, as asked; one node could hold it and is predicted {:.1} times as fast for one request",
            chosen.len(),
            alone / predicted.max(1e-9)
        ),
        (_, None) => {
            format!("no single node has the {need} that it needs: {} stages hold it together", chosen.len())
        }
    }
}

fn too_small(job: &Job<'_>, candidates: &[Candidate]) -> ModelError {
    let need = gib(memory_bytes(job.card, 0..job.card.layers, job.cache_tokens));
    let largest = gib(candidates.iter().map(|node| node.memory_bytes).max().unwrap_or(0));
    let all = gib(candidates.iter().map(|node| node.memory_bytes).sum());
    let state = format!("{} needs {need}; {} nodes offer {all}, {largest} the largest", job.model, candidates.len());
    match job.stages {
        Some(wanted) => ModelError::NoPlan { wanted, reason: state },
        None => ModelError::NoRoom(format!("{state}: free memory, add a machine, or choose a smaller model")),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skep_engine::{ContentId, Rope, RopeStyle};

    /// A model of `layers`, each of so many MB, with a head of 50 MB.
    fn card(layers: &[u64]) -> Card {
        Card {
            id: ContentId([0; 32]),
            architecture: "llama".into(),
            name: String::new(),
            quantisation: "Q8_0".into(),
            file_bytes: 0,
            parameters: 0,
            layers: layers.len() as u32,
            hidden: 512,
            feed_forward: 1024,
            heads: 8,
            kv_heads: 2,
            head_width: 64,
            vocabulary: 1000,
            context_tokens: 4096,
            rope: Rope { base: 1e4, divisor: 1.0, dimensions: 64, style: RopeStyle::Interleaved },
            norm_epsilon: 1e-5,
            tied: false,
            embedding_bytes: 30_000_000,
            head_bytes: 50_000_000,
            layer_bytes: layers.iter().map(|mb| mb * 1_000_000).collect(),
            layer_resident_bytes: layers.iter().map(|mb| mb * 2_000_000).collect(),
            head_resident_bytes: 100_000_000,
        }
    }

    fn node(i: u8, memory_mb: u64, gb_per_second: Option<f64>) -> Candidate {
        Candidate {
            node: NodeId::from_bytes([i; 32]),
            memory_bytes: memory_mb * 1_000_000,
            bytes_per_second: gb_per_second.map(|gb| gb * 1e9),
            has_file: i == 0,
        }
    }

    fn job(card: &Card, stages: Option<u16>) -> Job<'_> {
        Job { model: "m", digest: "d", card, cache_tokens: 1024, stages, home: NodeId::from_bytes([0; 32]) }
    }

    #[test]
    fn a_model_that_fits_one_node_is_not_split() {
        let card = card(&[10; 20]);
        let nodes = [node(0, 4000, None), node(1, 64_000, None), node(2, 64_000, None)];
        let plan = plan(&job(&card, None), &nodes).unwrap();
        assert_eq!(plan.stages.len(), 1);
        assert_eq!(plan.stages[0].node, nodes[0].node);
        assert_eq!(plan.predicted_alone, Some(plan.predicted));
    }

    #[test]
    fn a_much_faster_node_is_worth_sending_the_file_to() {
        let card = card(&[10; 20]);
        let plan = plan(&job(&card, None), &[node(0, 4000, Some(5.0)), node(1, 4000, Some(50.0))]).unwrap();
        assert_eq!(plan.stages[0].node, NodeId::from_bytes([1; 32]));
    }

    #[test]
    fn a_measured_node_does_not_lose_to_a_guess() {
        let card = card(&[10; 20]);
        let nodes = [node(0, 4000, Some(2.0)), node(1, 4000, None), node(2, 4000, None)];
        assert_eq!(plan(&job(&card, None), &nodes).unwrap().stages[0].node, nodes[0].node);
        let nodes = [node(0, 4000, None), node(1, 4000, Some(50.0))];
        assert_eq!(plan(&job(&card, None), &nodes).unwrap().stages[0].node, nodes[0].node);
    }

    #[test]
    fn the_deepest_model_over_the_most_nodes_is_placed_in_moderate_time() {
        // Steps are bounded, not seconds: with a sum over layers in each, this takes minutes.
        let card = card(&[1; 1024]);
        let nodes: Vec<Candidate> = (0..8).map(|i| node(i, 800, None)).collect();
        let plan = plan(&job(&card, Some(8)), &nodes).unwrap();
        assert_eq!(plan.stages.last().unwrap().to, 1024);
    }

    #[test]
    fn a_split_is_predicted_slower_than_one_node_and_says_so() {
        let card = card(&[10; 20]);
        let plan =
            plan(&job(&card, Some(3)), &[node(0, 4000, None), node(1, 4000, None), node(2, 4000, None)]).unwrap();
        assert_eq!(plan.stages.len(), 3);
        assert!(plan.predicted < plan.predicted_alone.unwrap());
        assert!(plan.reason.contains("as asked"), "{}", plan.reason);
    }

    #[test]
    fn a_faster_node_gets_more_layers() {
        let card = card(&[10; 20]);
        let plan = plan(&job(&card, Some(2)), &[node(0, 4000, Some(2.0)), node(1, 4000, Some(6.0))]).unwrap();
        let layers: Vec<u32> = plan.stages.iter().map(|s| s.to - s.from).collect();
        assert!(layers[1] > layers[0], "{layers:?}");
    }

    #[test]
    fn what_nobody_can_hold_is_refused_with_figures() {
        let card = card(&[1000; 40]);
        let error = plan(&job(&card, None), &[node(0, 4000, None), node(1, 4000, None)]).unwrap_err();
        assert!(matches!(error, ModelError::NoRoom(_)) && error.to_string().contains("GiB"), "{error}");
        assert!(matches!(plan(&job(&card, Some(9)), &[]), Err(ModelError::NoPlan { wanted: 9, .. })));
    }

    fn nodes() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (50_u64..2500, proptest::option::of(1.0..50.0_f64));
        proptest::collection::vec(one, 1..7).prop_map(|all| {
            all.into_iter().enumerate().map(|(i, (memory, speed))| node(i as u8, memory, speed)).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn layers_are_covered_once_in_order_and_no_node_is_over_its_memory(
            layers in proptest::collection::vec(5_u64..120, 1..24),
            nodes in nodes(),
            stages in proptest::option::of(1_u16..5),
        ) {
            let card = card(&layers);
            let job = job(&card, stages);
            if let Ok(plan) = plan(&job, &nodes) {
                let mut next = 0;
                for stage in &plan.stages {
                    prop_assert_eq!(stage.from, next);
                    prop_assert!(stage.to > stage.from);
                    next = stage.to;
                    let node = nodes.iter().find(|n| n.node == stage.node).unwrap();
                    prop_assert!(fits(&job, node, stage.from..stage.to));
                }
                prop_assert_eq!(next, card.layers);
                prop_assert!(stages.is_none_or(|n| usize::from(n) == plan.stages.len()));
                let mut used: Vec<_> = plan.stages.iter().map(|s| s.node).collect();
                used.sort();
                used.dedup();
                prop_assert_eq!(used.len(), plan.stages.len());
                prop_assert!(plan.predicted > 0.0 && plan.predicted.is_finite());
            }
        }

        #[test]
        fn more_memory_never_makes_a_plan_impossible(
            layers in proptest::collection::vec(5_u64..120, 1..24),
            nodes in nodes(),
            stages in proptest::option::of(1_u16..5),
            which in any::<proptest::sample::Index>(),
            more in 0_u64..3000,
        ) {
            let card = card(&layers);
            let job = job(&card, stages);
            if plan(&job, &nodes).is_ok() {
                let mut richer = nodes.clone();
                richer[which.index(nodes.len())].memory_bytes += more * 1_000_000;
                prop_assert!(plan(&job, &richer).is_ok());
            }
        }
    }
}
