//! One thread whose tokens several nodes spend: what scenarios do with a budget, call by call. The check is
//! `property::Ledger`'s.

use crate::{World, clock, property::Ledger};
use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use rand::RngExt;
use skep_actors::budget::{self, Budget, BudgetError, Message, Reservation, Spent};
use skep_runtime::{Handle, Wire};
use std::time::Duration;
use uuid::Uuid;

/// How long a question about a budget may take: a lease crosses the network.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a lease may be out after its holder has said that it is done.
const RETURN_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_PERIOD: Duration = Duration::from_millis(500);
const THREAD: Uuid = Uuid::from_u128(0x5eed);
const BUDGET_TOKENS: u64 = 6000;

/// The thread, and the truth about it.
pub(super) struct Spending {
    owner: usize,
    holders: Vec<usize>,
    ledger: Ledger,
}

impl Spending {
    /// A thread of `owner`, of which the holders know.
    pub(super) async fn open(world: &World, owner: usize, holders: &[usize]) -> Result<Spending> {
        Spending::open_with(world, owner, holders, BUDGET_TOKENS).await
    }

    /// The same with a budget of so many tokens.
    pub(super) async fn open_with(world: &World, owner: usize, holders: &[usize], tokens: u64) -> Result<Spending> {
        let open = Wire((THREAD, tokens.into()));
        desk(world, owner)?.ask(ASK_TIMEOUT, |reply| Message::Open(open, reply)).await??;
        for holder in holders {
            adopt(world, owner, *holder).await?;
        }
        Ok(Spending { owner, holders: holders.to_vec(), ledger: Ledger::new(tokens) })
    }

    /// Who may make calls.
    pub(super) fn spenders(&self) -> impl Iterator<Item = usize> {
        self.holders.iter().copied().chain([self.owner])
    }

    /// `spender` makes a call, if it may; it may die between the call and its settlement. What is spent, reserved and
    /// leased stays within the budget.
    pub(super) async fn spend(&mut self, world: &mut World, spender: usize) -> Result<()> {
        let tokens = world.rng().random_range(20..400);
        let burnt = world.rng().random_range(1..=tokens);
        if let Some(reservation) = self.reserve(world, spender, tokens).await? {
            self.ledger.burn(burnt);
            if spender != self.owner && world.rng().random_bool(0.1) {
                world.crash(spender)?;
                world.start(spender).await?;
            } else if settle(world, spender, reservation, burnt).await {
                self.ledger.acknowledge(burnt);
            }
        }
        self.is_kept(world).await
    }

    /// `spender` makes many calls at once, more than its disk flushes in that time, and settles some of them; it may die
    /// with the others.
    pub(super) async fn rush(&mut self, world: &mut World, spender: usize, calls: usize) -> Result<()> {
        // One first: whoever has no work for the thread is given some, once.
        if let Some(first) = self.reserve(world, spender, 1).await? {
            settle(world, spender, first, 0).await;
        }
        let wanted: Vec<u64> = (0..calls).map(|_| world.rng().random_range(5..60)).collect();
        let reserved = join_all(wanted.iter().map(|tokens| self.reserve(world, spender, *tokens))).await;
        let mut made = Vec::new();
        for reservation in reserved.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            let burnt = world.rng().random_range(1..=reservation.tokens);
            self.ledger.burn(burnt);
            made.push((reservation, burnt));
        }
        let dies = world.rng().random_bool(0.3);
        let settled = if dies { world.rng().random_range(0..=made.len()) } else { made.len() };
        let settle = |(reservation, burnt): &(Reservation, u64)| settle(world, spender, *reservation, *burnt);
        let noted = join_all(made[..settled].iter().map(settle)).await;
        for ((_, burnt), noted) in made.iter().zip(noted) {
            if noted {
                self.ledger.acknowledge(*burnt);
            }
        }
        if dies {
            world.crash(spender)?;
            world.start(spender).await?;
        }
        self.is_kept(world).await
    }

    /// What is spent, reserved and leased stays within the budget.
    pub(super) async fn is_kept(&self, world: &World) -> Result<()> {
        self.ledger.is_kept(self.look(world).await.as_ref())
    }

    /// All holders have done their work: every lease is settled, and what was burnt was charged or is charged whole.
    pub(super) async fn ends(&self, world: &World) -> Result<()> {
        for holder in &self.holders {
            let done = Wire((THREAD, Uuid::from_u128(1)));
            let done = desk(world, *holder)?.ask(ASK_TIMEOUT, |reply| Message::Done(done, reply)).await;
            world.note(&format!("{holder} is done: {}", done.is_ok_and(|done| done.is_ok())));
        }
        let start = clock::now();
        loop {
            world.pass(LOOK_PERIOD).await;
            let end = self.look(world).await.context("the owner does not answer")?;
            self.ledger.is_kept(Some(&end))?;
            if end.leased == 0 {
                world.note(&format!("{:?}, charged {}", self.ledger, end.spent()));
                return Ok(());
            }
            ensure!(clock::now() - start < RETURN_TIMEOUT, "leases stay out: {end:?}");
        }
    }

    async fn look(&self, world: &World) -> Option<Budget> {
        let look = desk(world, self.owner).ok()?.ask(ASK_TIMEOUT, |reply| Message::Look(Wire(THREAD), reply)).await;
        look.ok()?.ok()
    }

    /// `None` when there is nothing to be had now: too little is left, or the owner is out of reach.
    async fn reserve(&self, world: &World, spender: usize, tokens: u64) -> Result<Option<Reservation>> {
        let ask = Wire((THREAD, tokens.into()));
        match desk(world, spender)?.ask(ASK_TIMEOUT, |reply| Message::Reserve(ask, reply)).await {
            Ok(Ok(reservation)) => Ok(Some(reservation)),
            // Who was restarted has no work for the thread: whoever gives it some tells it again.
            Ok(Err(BudgetError::NoSuchThread(_) | BudgetError::Ended(_))) if spender != self.owner => {
                adopt(world, self.owner, spender).await.map(|()| None)
            }
            // A full disk grants nothing.
            Ok(Err(BudgetError::Exhausted { .. } | BudgetError::OwnerUnreachable(_) | BudgetError::Store(_))) => {
                Ok(None)
            }
            Err(_) => Ok(None),
            Ok(Err(error)) => Err(error).with_context(|| format!("machine {spender} reserves")),
        }
    }
}

fn desk(world: &World, number: usize) -> Result<Handle<Message>> {
    Ok(world.node(number)?.directory().here(budget::NAME))
}

async fn adopt(world: &World, owner: usize, holder: usize) -> Result<()> {
    let thread = Wire((THREAD, world.id(owner)));
    Ok(desk(world, holder)?.ask(ASK_TIMEOUT, |reply| Message::Adopt(thread, reply)).await?)
}

async fn settle(world: &World, spender: usize, reservation: Reservation, tokens: u64) -> bool {
    let spent = Spent { prompt: tokens, completion: 0, agent: "a".into(), model: "m".into(), latency_ms: 1 };
    let Ok(desk) = desk(world, spender) else { return false };
    let settle = desk.ask(ASK_TIMEOUT, |reply| Message::Settle(Wire((reservation, spent)), reply)).await;
    settle.is_ok_and(|settled| settled.is_ok())
}
