//! Makes two ledgers equal by what differs between them: with members that come up, with those that didn't confirm
//! something, and with one after the other anyway.

use super::{
    core::{Difference, Line},
    entry::Key,
    forest::{Forest, differing},
    handle::Shared,
    keeper::Job,
    messages::{LINES_MAX, Message},
    peers::{self, fitting, ledger},
};
use skep_runtime::{Error, NodeId, Wire, defaults::ASK_TIMEOUT};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

/// How often a member is compared with even if nothing speaks for it: 600 bytes if nothing differs.
const ROUND_PERIOD: Duration = Duration::from_secs(15);
/// Pause before a member is compared with once more that could not be: it may come up just now.
const AGAIN_PAUSE: Duration = Duration::from_secs(1);
/// How long a comparison may take in all: 100,000 records over a slow link.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
/// How often deletions are forgotten that everyone has heard of.
const FORGET_PERIOD: Duration = Duration::from_secs(60);
/// Deletions that are forgotten at once, so that nobody's write waits long behind them.
const FORGET_MAX: usize = 1000;

/// Compares for as long as the node runs.
pub(super) async fn mend(shared: Arc<Shared>) {
    let mut changes = shared.members.changes();
    let mut up: BTreeSet<NodeId> = BTreeSet::new();
    let (mut round, mut forget) = (interval(ROUND_PERIOD), interval(FORGET_PERIOD));
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<NodeId> = None;
    move_in(&shared).await;
    loop {
        let next = tokio::select! {
            biased;
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                let now: BTreeSet<NodeId> = shared.members.others_up().into_iter().collect();
                // Both sides compare: each has to know for itself that it lacks nothing.
                now.difference(&up).for_each(|id| shared.behind(*id));
                up = now;
                None
            }
            () = shared.uneven.notified() => None,
            _ = round.tick() => {
                let others = shared.members.others_up();
                last = others.iter().find(|id| Some(**id) > last).or(others.first()).copied();
                last
            }
            _ = forget.tick() => {
                forget_settled(&shared).await;
                None
            }
        };
        move_in(&shared).await;
        for id in next.into_iter().chain(std::iter::from_fn(|| shared.take_behind())) {
            match timeout(ROUND_TIMEOUT, compare(&shared, id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(member = ?id, %error, "the ledgers were not compared");
                    sleep(AGAIN_PAUSE).await;
                    if shared.members.is_up(&id) {
                        shared.behind(id);
                    }
                    break;
                }
                Err(_) => tracing::warn!(member = ?id, "comparing the ledgers took too long; it goes on later"),
            }
        }
    }
}

/// Leaves the records of the swarm behind that this node was in, if it is in another one now: those that it did not write
/// are not its own, and nobody here could end what they promise.
async fn move_in(shared: &Shared) {
    while !shared.is_at_home() {
        let (done, moved) = oneshot::channel();
        if shared.jobs.send(Job::Move(shared.swarm.swarm_id(), done)).await.is_err() {
            return;
        }
        if moved.await.is_err() {
            // The disk is full, or the node stops.
            sleep(AGAIN_PAUSE).await;
        }
    }
}

/// Makes this node's ledger and another one's equal.
async fn compare(shared: &Arc<Shared>, id: NodeId) -> Result<(), Error> {
    let there = ledger(shared, id);
    let (since, started) = (shared.uptime(), Instant::now());
    let root = shared.core().forest().root();
    let branches = there.ask(ASK_TIMEOUT, |reply| Message::Branches(Wire(root), reply)).await?;
    if branches.is_empty() {
        shared.equal(id, since);
        return Ok(());
    }
    let branches = differing(shared.core().forest().branches(), &branches);
    let leaves = there.ask(ASK_TIMEOUT, |reply| Message::Leaves(Wire(branches.clone()), reply)).await?;
    let mut lacking = Difference::default();
    for (branch, theirs) in branches.into_iter().zip(leaves) {
        let differ = differing(shared.core().forest().leaves(branch), &theirs);
        for leaf in differ {
            let leaf = Forest::leaf_of(branch, leaf);
            let theirs = list(shared, id, leaf).await?;
            let Difference { want, give, settled } = shared.core().compare(leaf, &theirs);
            lacking.want.extend(want);
            lacking.give.extend(give);
            lacking.settled.extend(settled);
        }
    }
    let (wanted, given) = (lacking.want.len(), lacking.give.len());
    settle(shared, id, lacking.settled).await?;
    fetch(shared, id, lacking.want).await?;
    if give(shared, id, &lacking.give).await? {
        shared.equal(id, since);
    }
    tracing::debug!(member = ?id, wanted, given, took = ?started.elapsed(), "the ledgers were compared");
    Ok(())
}

/// All lines of a leaf there.
async fn list(shared: &Arc<Shared>, id: NodeId, leaf: u16) -> Result<Vec<Line>, Error> {
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let after = lines.last().map(|line| line.key.clone());
        let page =
            ledger(shared, id).ask(ASK_TIMEOUT, |reply| Message::List(Wire((leaf, after.clone())), reply)).await?;
        let more = page.len() == LINES_MAX;
        // A page that doesn't go on where the last one ended would never end.
        if page.first().is_some_and(|line| after.as_ref().is_some_and(|after| line.key <= *after))
            || !page.is_sorted_by_key(|line| &line.key)
        {
            return Err(Error::refused("its list of records is out of order"));
        }
        lines.extend(page);
        if !more {
            return Ok(lines);
        }
    }
}

/// Gets what the other one has.
async fn fetch(shared: &Arc<Shared>, id: NodeId, mut want: Vec<Key>) -> Result<(), Error> {
    while !want.is_empty() {
        let rest = want.split_off(want.len().min(LINES_MAX));
        let asked: BTreeSet<&Key> = want.iter().collect();
        let entries = ledger(shared, id).ask(ASK_TIMEOUT, |reply| Message::Fetch(Wire(want.clone()), reply)).await?;
        let got: BTreeSet<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
        // What it no longer has comes as nothing: it would be asked for again for ever.
        if got.is_empty() || !got.iter().all(|key| asked.contains(key)) {
            want = rest;
            continue;
        }
        shared.merge(entries).await.map_err(|error| Error::refused(error.to_string()))?;
        want.retain(|key| !got.contains(key));
        want.extend(rest);
    }
    Ok(())
}

/// Sends what the other one lacks. Whether it has it all now.
async fn give(shared: &Arc<Shared>, id: NodeId, mut keys: &[Key]) -> Result<bool, Error> {
    let mut all = true;
    while !keys.is_empty() {
        let (some, rest) = keys.split_at(keys.len().min(LINES_MAX));
        let mut entries = Vec::new();
        let mut damaged = None;
        for key in some {
            match shared.entry(key) {
                Ok(entry) => entries.extend(entry),
                Err(error) => damaged = damaged.or(Some(error)),
            }
            // Not more in memory than a few messages hold.
            if fitting(entries.iter().map(super::Entry::bytes)) < entries.len() {
                all &= peers::push(shared, id, &entries).await.is_some();
                entries.clear();
            }
        }
        if let Some(error) = damaged {
            tracing::error!(%error, "a record of the ledger can't be read, so it can't be sent");
        }
        if !entries.is_empty() {
            all &= peers::push(shared, id, &entries).await.is_some();
        }
        keys = rest;
    }
    Ok(all)
}

/// Lets the other one forget what everyone has heard of.
async fn settle(shared: &Arc<Shared>, id: NodeId, lines: Vec<Line>) -> Result<(), Error> {
    for lines in lines.chunks(LINES_MAX) {
        ledger(shared, id).tell(Message::Settled(Wire(lines.to_vec()))).await?;
    }
    Ok(())
}

async fn forget_settled(shared: &Shared) {
    let me = shared.directory.id();
    let members: BTreeSet<NodeId> = shared.members.now().keys().copied().filter(|id| *id != me).collect();
    let lines = shared.core().forgettable(&members);
    for lines in lines.chunks(FORGET_MAX) {
        shared.forget(lines.to_vec()).await;
    }
}
