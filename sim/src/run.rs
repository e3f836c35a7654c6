//! One scenario under one seed: entropy, a paused runtime, a world, the story, and what came of it.
//!
//! One run a process: tokio and ractor count in process globals, so a second run in a process is not the first one.

use crate::{World, alarm, clock, entropy, scenario::Scenario, trace::Sums, world::Wishes};
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

/// What is to be played.
#[derive(Clone, Copy)]
pub struct Play {
    /// The story.
    pub scenario: &'static Scenario,
    /// What everything that is drawn follows from.
    pub seed: u64,
    /// What else was asked for.
    pub wishes: Wishes,
}

/// What came of a run.
pub struct Outcome {
    /// Why it failed, if it did.
    pub error: Option<Error>,
    /// The trace's last lines before that.
    pub last_lines: String,
    /// What the nodes believed, as a page, if that was wished for.
    pub timeline: Option<String>,
    /// What the scenario measured.
    pub measures: Vec<(String, f64)>,
    /// Its trace in numbers: equal for equal seeds.
    pub sums: Sums,
    /// How long it took, in virtual time.
    pub virtual_time: Duration,
    /// How long it took the processor, where the system tells. Follows from the machine, not from the seed.
    pub processor_time: Option<Duration>,
}

/// Plays; the trace is also written to `text`. Once a process.
pub fn run(play: Play, text: Option<Box<dyn Write + Send>>) -> Result<Outcome> {
    static RAN: AtomicBool = AtomicBool::new(false);
    ensure!(!RAN.swap(true, Ordering::Relaxed), "one run a process: start another for the next seed");
    alarm::arm();
    // A thread of its own: hash keys and generators are a thread's, and the caller's may be drawn already.
    let world = thread::Builder::new().name("world".into()).stack_size(STACK_BYTES);
    let world = world.spawn(move || played(play, text))?;
    world.join().map_err(|_| anyhow!("the scenario itself panicked; its message stands above"))?
}

fn played(Play { scenario, seed, wishes }: Play, text: Option<Box<dyn Write + Send>>) -> Result<Outcome> {
    entropy::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        clock::start();
        let mut world = World::new(seed, wishes, text)?;
        let longest = VIRTUAL_TIME_MAX + 2 * wishes.until.unwrap_or_default();
        let story = timeout(longest, (scenario.run)(&mut world)).await;
        let story = story.unwrap_or_else(|_| Err(anyhow!("it did not end within {} s", longest.as_secs())));
        let error = story.and_then(|()| alarm::is_silent()).err();
        if let Some(error) = &error {
            world.note(&format!("FAILED: {error:#}"));
        }
        let title = format!("{}, seed {seed}", scenario.name);
        Ok(Outcome {
            error,
            last_lines: world.last_lines(),
            timeline: wishes.timeline.then(|| world.timeline_page(&title)),
            measures: world.measures().to_vec(),
            sums: world.sums(),
            virtual_time: clock::now(),
            processor_time: processor_time(),
        })
    })
}

/// Processor time of this thread, where the system tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}
