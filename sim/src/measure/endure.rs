//! A long time in which nobody dies, and every machine is slow: who is called dead all the same?

use super::{
    Weather,
    weather::{STUMBLING, slow_down},
};
use skep_transport::membership::Policy;
use std::{fmt::Write, time::Duration};

/// How often the seed's progress is looked at.
const STEP: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Virtual hours.
    pub hours: f64,
    /// Machines.
    pub nodes: usize,
    /// Every machine runs in every so-manieth slice of time; 1 is always.
    pub slow: u32,
    /// Every machine also freezes for up to half a second, about once a second.
    pub stumble: bool,
}

/// What came of it.
pub fn table(wanted: Wanted, mut progress: impl FnMut(f64)) -> String {
    let mut text = String::from(
        "| nodes | virtual hours | each runs | accusations | false downs | datagrams a node-second | digest | \
         processor s | virtual s in one |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let before = processor_time();
    let mut mesh = Weather::FAIR.mesh(1, wanted.nodes, Policy::LIFEGUARD);
    if wanted.slow > 1 {
        (0..wanted.nodes).for_each(|number| slow_down(&mut mesh, number, wanted.slow));
    }
    if wanted.stumble {
        (0..wanted.nodes).for_each(|number| mesh.stall(number, STUMBLING));
    }
    let (start, datagrams) = (mesh.now(), mesh.datagrams());
    let end = start + Duration::from_secs_f64(wanted.hours * 3600.0);
    while mesh.now() < end {
        mesh.run_until((mesh.now() + STEP).min(end));
        progress((mesh.now() - start).as_secs_f64() / 3600.0);
    }
    let took = before.zip(processor_time()).map(|(before, after)| (after - before).as_secs_f64());
    let share = if wanted.slow > 1 { format!("1/{} of the time", wanted.slow) } else { "always".into() };
    let share = if wanted.stumble { share + ", and freezes for up to 0.5 s each second" } else { share };
    let seconds = (mesh.now() - start).as_secs_f64();
    let _ = writeln!(
        text,
        "| {} | {} | {share} | {} | {} | {:.1} | {:016x} | {} | {} |",
        wanted.nodes,
        wanted.hours,
        mesh.accusations(),
        mesh.false_downs(),
        (mesh.datagrams() - datagrams) as f64 / seconds / wanted.nodes as f64,
        mesh.digest(),
        took.map_or("?".into(), |took| format!("{took:.0}")),
        took.map_or("?".into(), |took| format!("{:.0}", mesh.now().as_secs_f64() / took)),
    );
    text
}

/// Processor time of this thread, where the system tells.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}
