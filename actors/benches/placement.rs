//! What it costs to decide where a command runs, with ten that wait and with a hundred thousand: the scheduler's core on
//! its own, one node of two cores, or a hundred.
//!
//! `cargo bench -p skep-actors --bench placement`. Each step ends one command, places the next one and takes a new one in;
//! beside it, in the same run, what the least of it costs: cloning the two records that a step writes. Not here: the disk,
//! the link and the process (benches/tasks.rs).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics and prints")]

use skep_actors::{
    scheduler::{
        Spec,
        core::{Action, Core, Now, Seen},
        demand::Offer,
        messages::{Ending, State},
    },
    task::Level,
};
use skep_runtime::NodeId;
use std::{hint::black_box, sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

const STEPS: usize = 20_000;

fn main() {
    println!(
        "{:>6} {:>9} {:>6} {:>13} {:>9} {:>9} {:>14} {:>6}",
        "nodes", "waiting", "needs", "placements/s", "p50 us", "p99 us", "two clones us", "ratio"
    );
    for (nodes, waiting, needs) in
        [(1, 10, 1), (1, 1000, 1), (1, 100_000, 1), (1, 100_000, 50), (100, 10, 1), (100, 99_000, 1)]
    {
        measure(nodes, waiting, needs);
    }
}

fn measure(nodes: u8, waiting: usize, needs: u64) {
    let start = Instant::now();
    let now = || Now { wall_ms: 1, uptime: start.elapsed() };
    let node = |n: u8| NodeId::from_bytes([n + 1; 32]);
    let mut core = Core::new(node(0), Vec::new());
    core.release(now());
    core.fleet((0..nodes).map(|n| seen(node(n))).collect(), &[], now());
    let mut number = 0u64;
    let mut running = Vec::new();
    let place = |actions: Vec<Action>, running: &mut Vec<Uuid>| {
        let placed = actions.into_iter().filter_map(|action| match action {
            Action::Run(_, run) => Some(run.id),
            _ => None,
        });
        running.extend(placed);
    };
    let mut submit = |core: &mut Core, running: &mut Vec<Uuid>| {
        number += 1;
        let spec = Spec { memory_bytes: number % needs, ..Spec::new("echo hello") };
        core.admit(&spec).unwrap();
        let record = core.record(Uuid::from_u128(number.into()), spec, now());
        let actions = core.submit(record, now());
        place(actions, running);
    };
    while core.waiting() < waiting {
        submit(&mut core, &mut running);
    }
    let mut times = Vec::with_capacity(STEPS);
    let whole = Instant::now();
    for step in 0..STEPS {
        let id = running.swap_remove(step % running.len());
        let term = core.get(id).unwrap().term;
        let begin = Instant::now();
        let actions = core.moved(id, 1, term, done(), now());
        place(actions, &mut running);
        submit(&mut core, &mut running);
        times.push(begin.elapsed());
    }
    let whole = whole.elapsed();
    let record = core.get(running[0]).unwrap().clone();
    let begin = Instant::now();
    for _ in 0..STEPS {
        black_box((Box::new(black_box(&record).clone()), Box::new(black_box(&record).clone())));
    }
    let least = begin.elapsed() / STEPS as u32;
    times.sort();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let (p50, p99) = (times[STEPS / 2], times[STEPS * 99 / 100]);
    println!(
        "{nodes:>6} {waiting:>9} {needs:>6} {:>13.0} {:>9.1} {:>9.1} {:>14.2} {:>6.1}",
        STEPS as f64 / whole.as_secs_f64(),
        us(p50),
        us(p99),
        us(least),
        us(p50) / us(least)
    );
}

fn seen(id: NodeId) -> Seen {
    Seen {
        id,
        name: id.short(),
        up: true,
        ever_up: true,
        draining: false,
        cpus: 2,
        memory_bytes: 1 << 30,
        free_bytes: 1 << 30,
        running: 0,
        offer: Arc::new(Offer { sandbox: Level::Landlock, ..Offer::default() }),
    }
}

fn done() -> Ending {
    Ending {
        state: State::Completed,
        exit_code: Some(0),
        error: None,
        output: "hello\n".into(),
        output_bytes: 6,
        artefacts: Vec::new(),
        lost: false,
    }
}
