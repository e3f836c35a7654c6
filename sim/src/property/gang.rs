//! Gangs: placed together or not at all, as far as whoever decides about them has decided.

use crate::World;
use anyhow::{Result, ensure};
use skep_actors::scheduler::{self, Message, Record, State};
use skep_runtime::{Handle, Wire};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// How long a question may take: one about a command waits until its end is written, or its owner knows what was done while
/// it was away.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// Records of one owner that are looked at.
const RECORDS_MAX: u32 = 1000;

/// At no moment has an owner that knows all of a gang some of its members placed while others wait. Those that are to end
/// anyway are waited for, and don't count.
pub async fn gangs_are_whole(world: &World) -> Result<()> {
    for number in world.running() {
        let desk = world.node(number)?.directory().here::<Message>(scheduler::NAME);
        // Whoever was just started decides when it knows what became of its commands, and answers then.
        let Some(first) = own(&desk).await.into_iter().next() else { continue };
        if desk.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(first.id), reply)).await.is_err() {
            continue;
        }
        // All of it at one moment.
        let mut gangs: BTreeMap<Uuid, Vec<Record>> = BTreeMap::new();
        for record in own(&desk).await {
            if let Some(gang) = record.gang() {
                gangs.entry(gang).or_default().push(record);
            }
        }
        for (gang, members) in gangs {
            let count = members.iter().find_map(|record| record.spec.course.gang).map_or(0, |gang| gang.count as usize);
            let waits = |record: &&Record| record.state == State::Pending;
            let Some(waiting) = members.iter().find(waits).filter(|_| members.len() == count) else { continue };
            for placed in members.iter().filter(|record| record.state == State::Running && !record.cancelling) {
                // One that had ended is shown as such once others know.
                let now = desk.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(placed.id), reply)).await;
                let Ok(Ok(now)) = now else { continue };
                let had_ended = now.state.ended() && now.attempts == placed.attempts;
                ensure!(had_ended, "of gang {gang} on {number} some wait and some run: {waiting:?}, {placed:?}");
            }
        }
    }
    Ok(())
}

/// Unless the swarm fell apart, whoever takes over one of a gang has all of it: none ended because its owner knew a part.
pub async fn heirs_have_whole_gangs(world: &World) -> Result<()> {
    for number in world.running() {
        let records = own(&world.node(number)?.directory().here::<Message>(scheduler::NAME)).await;
        let partial =
            |record: &&Record| record.error.as_ref().is_some_and(|why| why.contains("tasks of its gang are known"));
        let partial = records.iter().find(partial).filter(|_| !world.was_divided());
        ensure!(partial.is_none(), "{number} had a part of a gang: {partial:?}");
    }
    Ok(())
}

async fn own(desk: &Handle<Message>) -> Vec<Record> {
    // Who has just been started may be too busy to answer.
    desk.ask(ASK_TIMEOUT, |reply| Message::Own(Wire(RECORDS_MAX), reply)).await.unwrap_or_default()
}
