//! Whether this node is well: each check a finding with what to do about it.
//!
//! Not here: what stands between this node and its peers (`Swarm::diagnose`).

use super::messages::{Card, Health, Verdict};
use crate::Context;
use skep_runtime::{
    Load,
    member::State,
    store::{Batch, Table},
    swarm::Finding,
};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Free disk below which nothing more should be pulled, in bytes.
const DISK_FREE_BYTES_MIN: u64 = 1 << 30;
/// Memory in use above which the next model or command may be killed for it, in thousandths.
const MEMORY_PERMILLE_MAX: u16 = 950;
/// How long a small write may take on a disk that is well.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Where the write goes.
const PROBE: Table<u8, u64> = Table::new("health");

/// All checks of this node. Without its store it can't keep what it acknowledges; all else it can live with.
pub(super) async fn check(context: &Context, card: &Card, load: &Load, gpus: Option<Finding>) -> Health {
    let since = Instant::now();
    let store = store(context).await;
    let took_ms = since.elapsed().as_millis() as u64;
    let alive = store.ok;
    let quick = [disk(card), memory(load), members(context), drain(load)].into_iter().chain(gpus);
    let checks: Vec<_> = quick.map(|finding| (finding, 0)).chain([(store, took_ms)]).collect();
    let verdict = match checks.iter().all(|(finding, _)| finding.ok) {
        true => Verdict::Healthy,
        false if alive => Verdict::Degraded,
        false => Verdict::Unhealthy,
    };
    Health { verdict, checks }
}

/// A finding.
pub(super) fn finding(check: &str, ok: bool, detail: String) -> Finding {
    Finding { check: check.into(), ok, detail }
}

fn disk(card: &Card) -> Finding {
    let mib = card.disk_free_bytes >> 20;
    match card.disk_bytes == 0 || card.disk_free_bytes >= DISK_FREE_BYTES_MIN {
        true => finding("disk", true, format!("{mib} MiB free")),
        false => finding(
            "disk",
            false,
            format!("only {mib} MiB free where this node keeps its files: remove models or other files"),
        ),
    }
}

fn memory(load: &Load) -> Finding {
    let percent = load.memory_permille / 10;
    match load.memory_permille <= MEMORY_PERMILLE_MAX {
        true => finding("memory", true, format!("{percent} % in use")),
        false => finding("memory", false, format!("{percent} % in use: stop something, or drain this node")),
    }
}

async fn store(context: &Context) -> Finding {
    if let Some(loss) = context.store.loss() {
        // Until the next start: whoever looks after this machine has to see it once.
        return finding("store", false, format!("{loss}: look at what this node should know, then start it again"));
    }
    let mut batch = Batch::new();
    let write = async {
        batch.put(PROBE, &0, &context.env.now_ms())?;
        context.store.commit(batch).await
    };
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(Ok(())) => finding("store", true, "a write was flushed".into()),
        Ok(Err(e)) => finding("store", false, e.to_string()),
        Err(_) => finding(
            "store",
            false,
            format!("a write took longer than {} s: is the disk well?", WRITE_TIMEOUT.as_secs()),
        ),
    }
}

fn members(context: &Context) -> Finding {
    let picture = context.members.now();
    let down: Vec<&str> = picture.values().filter(|m| m.state == State::Down).map(|m| m.name.as_str()).collect();
    match down.is_empty() {
        true => finding("members", true, format!("all {} answer or have said goodbye", picture.len())),
        false => finding(
            "members",
            false,
            format!("no answer from {}: are they running? (`skep doctor` looks at the way to them)", down.join(", ")),
        ),
    }
}

fn drain(load: &Load) -> Finding {
    match load.draining {
        true => finding("drain", true, "draining: no new work comes here until `skep drain --undo`".into()),
        false => finding("drain", true, "takes work".into()),
    }
}
