//! One scenario under one seed: entropy, a paused runtime, a world, the story, and what came of it.
//!
//! One run a process: tokio and ractor count in process globals, so a second run in a process is not the first one.

use crate::{World, alarm, clock, entropy, scenario::Scenario, trace::Sums};
use anyhow::{Error, Result, anyhow, ensure};
use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tokio::{runtime::Builder, time::timeout};

/// No scenario takes longer, in virtual time: one that does waits for something that never comes.
const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(3600);

/// What the program's own first thread has on most systems: unoptimised futures of a whole node are large.
const STACK_BYTES: usize = 8 << 20;

/// What came of a run.
pub struct Outcome {
    /// Why it failed, if it did.
    pub error: Option<Error>,
    /// Its trace in numbers: equal for equal seeds.
    pub sums: Sums,
    /// How long it took, in virtual time.
    pub virtual_time: Duration,
    /// How long it took the processor, where the system tells. Follows from the machine, not from the seed.
    pub processor_time: Option<Duration>,
}

/// Plays `scenario` under `seed`; the trace is also written to `text`. Once a process.
pub fn run(scenario: &'static Scenario, seed: u64, text: Option<Box<dyn Write + Send>>) -> Result<Outcome> {
    static RAN: AtomicBool = AtomicBool::new(false);
    ensure!(!RAN.swap(true, Ordering::Relaxed), "one run a process: start another for the next seed");
    alarm::arm();
    // A thread of its own: hash keys and generators are a thread's, and the caller's may be drawn already.
    let world = thread::Builder::new().name("world".into()).stack_size(STACK_BYTES);
    let world = world.spawn(move || play(scenario, seed, text))?;
    world.join().map_err(|_| anyhow!("the scenario itself panicked; its message stands above"))?
}

fn play(scenario: &Scenario, seed: u64, text: Option<Box<dyn Write + Send>>) -> Result<Outcome> {
    entropy::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        clock::start();
        let mut world = World::new(seed, text)?;
        let story = timeout(VIRTUAL_TIME_MAX, (scenario.run)(&mut world)).await;
        let story = story.unwrap_or_else(|_| Err(anyhow!("it did not end within {} s", VIRTUAL_TIME_MAX.as_secs())));
        let error = story.and_then(|()| alarm::is_silent()).err();
        if let Some(error) = &error {
            world.note(&format!("FAILED: {error:#}"));
        }
        Ok(Outcome { error, sums: world.sums(), virtual_time: clock::now(), processor_time: processor_time() })
    })
}

/// Processor time of this thread, where the system tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}
