//! Four nodes spend the tokens of one thread. Holders crash in the middle of calls; the owner is cut off for a while.

use crate::{
    World,
    property::{self, Ledger},
};
use anyhow::{Context, Result};
use rand::RngExt;
use skep_actors::budget::{self, Budget, BudgetError, Message, Reservation, Spent};
use skep_runtime::{Handle, Wire};
use std::time::Duration;
use uuid::Uuid;

/// How long a question about a budget may take: a lease crosses the network.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const THREAD: Uuid = Uuid::from_u128(0x5eed);
const BUDGET_TOKENS: u64 = 6000;
const ROUNDS: u32 = 60;

pub(super) async fn run(world: &mut World) -> Result<()> {
    world.form(4).await?;
    property::view_becomes_truth(world).await?;
    let nodes = world.shuffled();
    let (owner, holders) = (nodes[0], &nodes[1..]);
    desk(world, owner)?.ask(ASK_TIMEOUT, |reply| Message::Open(Wire((THREAD, BUDGET_TOKENS)), reply)).await??;
    for holder in holders {
        adopt(world, owner, *holder).await?;
    }

    let mut ledger = Ledger::new(BUDGET_TOKENS);
    for round in 0..ROUNDS {
        match world.rng().random_range(0..12) {
            0 => {
                let victim = holders[world.rng().random_range(0..holders.len())];
                world.crash(victim)?;
                world.start(victim).await?;
            }
            1 => world.partition(&[&[owner], holders]),
            2 | 3 => world.heal(),
            _ => {}
        }
        let spender = nodes[world.rng().random_range(0..nodes.len())];
        let tokens = world.rng().random_range(20..400);
        let burnt = world.rng().random_range(1..=tokens);
        if let Some(reservation) = reserve(world, owner, spender, tokens).await? {
            ledger.burn(burnt);
            // A holder may die between the call and its settlement.
            if spender != owner && world.rng().random_bool(0.1) {
                world.crash(spender)?;
                world.start(spender).await?;
            } else if settle(world, spender, reservation, burnt).await {
                ledger.acknowledge(burnt);
            }
        }
        ledger.is_kept(look(world, owner).await.as_ref()).with_context(|| format!("in round {round}"))?;
        let pause = world.rng().random_range(0..1_000);
        world.pass(Duration::from_millis(pause)).await;
    }

    world.heal();
    property::view_becomes_truth(world).await?;
    for holder in holders {
        let done = desk(world, *holder)?
            .ask(ASK_TIMEOUT, |reply| Message::Done(Wire((THREAD, Uuid::from_u128(1))), reply))
            .await;
        world.note(&format!("{holder} is done: {}", done.is_ok_and(|done| done.is_ok())));
    }
    world.pass(Duration::from_secs(60)).await;
    let end = look(world, owner).await.context("the owner does not answer")?;
    world.note(&format!("burnt {ledger:?}, charged {}, leased {}", end.spent(), end.leased));
    ledger.is_kept(Some(&end))?;
    property::nothing_outlives_its_node(world).await
}

fn desk(world: &World, number: usize) -> Result<Handle<Message>> {
    Ok(world.node(number)?.directory().here(budget::NAME))
}

async fn adopt(world: &World, owner: usize, holder: usize) -> Result<()> {
    let thread = Wire((THREAD, world.id(owner)));
    Ok(desk(world, holder)?.ask(ASK_TIMEOUT, |reply| Message::Adopt(thread, reply)).await?)
}

async fn look(world: &World, owner: usize) -> Option<Budget> {
    let look = desk(world, owner).ok()?.ask(ASK_TIMEOUT, |reply| Message::Look(Wire(THREAD), reply)).await;
    look.ok()?.ok()
}

/// `None` when there is nothing to be had now: too little is left, or the owner is out of reach.
async fn reserve(world: &World, owner: usize, spender: usize, tokens: u64) -> Result<Option<Reservation>> {
    let ask = desk(world, spender)?.ask(ASK_TIMEOUT, |reply| Message::Reserve(Wire((THREAD, tokens)), reply)).await;
    match ask {
        Ok(Ok(reservation)) => Ok(Some(reservation)),
        // Who was restarted has no work for the thread: whoever gives it some tells it again.
        Ok(Err(BudgetError::NoSuchThread(_) | BudgetError::Ended(_))) if spender != owner => {
            adopt(world, owner, spender).await.map(|()| None)
        }
        Ok(Err(BudgetError::Exhausted { .. } | BudgetError::OwnerUnreachable(_))) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error).with_context(|| format!("machine {spender} reserves")),
    }
}

async fn settle(world: &World, spender: usize, reservation: Reservation, tokens: u64) -> bool {
    let spent = Spent { prompt: tokens, completion: 0, agent: "a".into(), model: "m".into(), latency_ms: 1 };
    let Ok(desk) = desk(world, spender) else { return false };
    let settle = desk.ask(ASK_TIMEOUT, |reply| Message::Settle(Wire((reservation, spent)), reply)).await;
    settle.is_ok_and(|settled| settled.is_ok())
}
