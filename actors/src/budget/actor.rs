//! ThreadBudgetActor: owns this node's accounts and its meter, writes down each change before it answers.
//!
//! Decides nothing: what may be spent is decided in `thread` (on the owner) and `held` (elsewhere). Questions to
//! other nodes are asked by tasks, whose answers come back as messages.

use super::{
    Local, Message, NAME, Reservation,
    held::Held,
    messages::{Budget, BudgetError, Estate, Granted, Lease, LeaseReport, Spent, Want},
    meter::{Count, Meter, Row},
    thread::Thread,
};
use crate::{Context, defaults::GATHER_TIMEOUT};
use futures::{StreamExt, stream::FuturesUnordered};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Deserialize, Serialize};
use skep_runtime::{
    NodeId, Reach, Tasks, Wire,
    defaults::ASK_TIMEOUT,
    member::State as Standing,
    store::{Batch, Table},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Accounts of this node. With more, the oldest that nothing is set aside of is forgotten.
const ACCOUNTS_MAX: usize = 4096;
/// The most tokens that any one number may say: sums of these can't overflow.
const TOKENS_MAX: u64 = 1 << 48;
/// How often one reservation asks the owner: reservations that ask at once take each other's tokens, but one of
/// them succeeds each time.
const ROUNDS_MAX: u32 = 64;
/// How often a request for a lease is sent before the owner counts as unreachable: a call may be lost.
const LEASE_TRIES: u32 = 3;
/// The pause before a closed lease is offered again to an owner that didn't answer, and its longest.
const RETURN_PAUSE: Duration = Duration::from_secs(1);
const RETURN_PAUSE_MAX: Duration = Duration::from_secs(60);

const ACCOUNTS: Table<[u8; 16], Account> = Table::new("budget_accounts");
const METER: Table<Row, Count> = Table::new("budget_meter");

/// What this node knows of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Account {
    /// It is the owner.
    Owned(Thread),
    /// Another node is.
    Held(Held),
}

/// What other nodes may say to this one: leases and what became of them. A thread is opened and spent where it is used.
const REMOTE: Reach = Reach::Only(&["Lease", "Report", "Look", "Get"]);

/// Starts the actor and publishes it.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, ThreadBudget, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

struct ThreadBudget;

struct State {
    context: Context,
    accounts: BTreeMap<Uuid, Account>,
    meter: Meter,
    tasks: Tasks,
}

impl Actor for ThreadBudget {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let mut state = State::read(context)?;
        let threads: Vec<Uuid> = state.accounts.keys().copied().collect();
        for thread in threads {
            let restart = |account: &mut Account| match account {
                Account::Owned(thread) => thread.restart(),
                Account::Held(held) => held.restart(),
            };
            let restart = |account: &mut Account| {
                restart(account);
                Ok(())
            };
            state.change(thread, restart).await?;
        }
        Ok(state)
    }

    async fn post_start(&self, me: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let threads: Vec<Uuid> = state.accounts.keys().copied().collect();
        threads.into_iter().for_each(|thread| state.give_back(&me, thread, None));
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // Whoever asked and went away needs no answer, hence the results of `send` are dropped.
        match message {
            Message::Open(Wire((thread, max)), reply) => drop(reply.send(Wire(state.open(thread, max).await))),
            Message::Reserve(Wire((thread, tokens)), reply) => {
                state.reserve(&me, Want { thread, tokens: tokens.min(TOKENS_MAX), rounds: 0, reply }).await;
            }
            Message::Granted(Local(granted)) => state.granted(&me, granted).await,
            Message::Settle(Wire((reservation, spent)), reply) => {
                drop(reply.send(Wire(state.settle(reservation, spent).await)));
            }
            Message::Release(Wire(reservation), reply) => {
                state.release(reservation).await;
                drop(reply.send(Wire(())));
            }
            Message::Get(Wire(thread), reply) => state.get(thread, reply),
            Message::Look(Wire(thread), reply) => drop(reply.send(Wire(state.look(thread)))),
            Message::List(reply) => drop(reply.send(Wire(state.list()))),
            Message::Adopt(Wire((thread, owner)), reply) => {
                state.adopt(thread, owner);
                drop(reply.send(Wire(())));
            }
            Message::Done(Wire((thread, work)), reply) => state.done(&me, thread, work, reply).await,
            Message::Usage(reply) => {
                let active = |b: &Budget| b.remaining() > 0;
                let threads = state.list().iter().filter(|b| active(b)).count();
                drop(reply.send(Wire(state.meter.usage(threads as u32))));
            }
            Message::ResetUsage(reply) => {
                let rows = state.meter.marked();
                let reset = state.write(None, &rows).await;
                if reset.is_ok() {
                    state.meter.put(rows);
                }
                drop(reply.send(Wire(reset)));
            }
            Message::Lease(Wire(lease), reply) => drop(reply.send(Wire(state.lease(lease).await))),
            Message::Report(Wire(report), reply) => drop(reply.send(Wire(state.report(report).await))),
            Message::Inherit(Wire(estate), reply) => drop(reply.send(Wire(state.inherit(estate).await))),
            Message::Yield(Wire(thread), reply) => {
                if matches!(state.accounts.get(&thread), Some(Account::Owned(_))) {
                    // Unwritten, it is told again when its new owner is heard of after the next start.
                    let _ = state.write(Some((thread, None)), &[]).await;
                    state.accounts.remove(&thread);
                }
                drop(reply.send(Wire(())));
            }
            Message::Returned(Local((thread, lease))) => {
                let returned = |account: &mut Account| {
                    if let Account::Held(held) = account {
                        held.returned(lease);
                    }
                    Ok(())
                };
                // Unwritten, it is offered again after the next start, and the owner knows it by its id.
                let _ = state.change(thread, returned).await;
            }
        }
        Ok(())
    }
}

impl State {
    fn read(context: Context) -> Result<State, skep_runtime::store::Error> {
        let accounts = context.store.all(ACCOUNTS)?;
        let accounts = accounts.into_iter().map(|(id, account)| (Uuid::from_bytes(id), account)).collect();
        let meter = Meter::from_rows(context.store.all(METER)?);
        let tasks = context.env.tasks();
        Ok(State { context, accounts, meter, tasks })
    }

    fn me(&self) -> NodeId {
        self.context.directory.id()
    }

    /// Applies `work` to a copy of the account, writes the copy down, then takes it over.
    async fn change<T>(
        &mut self,
        thread: Uuid,
        work: impl FnOnce(&mut Account) -> Result<T, BudgetError>,
    ) -> Result<T, BudgetError> {
        let account = self.accounts.get(&thread).ok_or(BudgetError::NoSuchThread(thread))?;
        let mut next = account.clone();
        let answer = work(&mut next)?;
        if next != *account {
            self.put(thread, next, &[]).await?;
        }
        Ok(answer)
    }

    /// Writes an account down, with rows of the meter, and takes it over. One of which nothing is left is deleted.
    async fn put(&mut self, thread: Uuid, account: Account, rows: &[(Row, Count)]) -> Result<(), BudgetError> {
        let over = matches!(&account, Account::Held(held) if held.idle());
        self.write(Some((thread, (!over).then_some(&account))), rows).await?;
        if over {
            self.accounts.remove(&thread);
        } else {
            self.accounts.insert(thread, account);
        }
        Ok(())
    }

    async fn write(&self, account: Option<(Uuid, Option<&Account>)>, rows: &[(Row, Count)]) -> Result<(), BudgetError> {
        let mut batch = Batch::new();
        let put = match account {
            Some((thread, Some(account))) => batch.put(ACCOUNTS, thread.as_bytes(), account),
            Some((thread, None)) => batch.delete(ACCOUNTS, thread.as_bytes()),
            None => Ok(()),
        };
        let put = rows.iter().fold(put, |put, (row, count)| put.and_then(|()| batch.put(METER, row, count)));
        put.map_err(unwritten)?;
        self.context.store.commit(batch).await.map_err(unwritten)
    }

    async fn open(&mut self, thread: Uuid, max: u64) -> Result<Budget, BudgetError> {
        if self.accounts.contains_key(&thread) {
            return Err(BudgetError::Exists(thread));
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            self.forget_one().await?;
        }
        let account = Thread::open(max.min(TOKENS_MAX), self.context.env.now_ms());
        self.put(thread, Account::Owned(account), &[]).await?;
        self.look(thread)
    }

    async fn inherit(&mut self, mut estate: Estate) -> Result<Budget, BudgetError> {
        let thread = estate.thread;
        if matches!(self.accounts.get(&thread), Some(Account::Owned(_))) {
            return self.look(thread);
        }
        estate.out.iter_mut().for_each(|(_, _, tokens)| *tokens = (*tokens).min(TOKENS_MAX));
        for tokens in [&mut estate.max, &mut estate.prompt, &mut estate.completion] {
            *tokens = (*tokens).min(TOKENS_MAX);
        }
        if !self.accounts.contains_key(&thread) && self.accounts.len() >= ACCOUNTS_MAX {
            self.forget_one().await?;
        }
        let account = Thread::inherited(&estate, self.context.env.now_ms());
        self.put(thread, Account::Owned(account), &[]).await?;
        self.look(thread)
    }

    async fn forget_one(&mut self) -> Result<(), BudgetError> {
        let idle = self.accounts.iter().filter_map(|(id, account)| match account {
            Account::Owned(thread) if thread.idle() => Some((thread.opened_ms(), *id)),
            _ => None,
        });
        let (_, oldest) = idle.min().ok_or(BudgetError::TooMany(ACCOUNTS_MAX))?;
        self.write(Some((oldest, None)), &[]).await?;
        self.accounts.remove(&oldest);
        Ok(())
    }

    async fn reserve(&mut self, me: &ActorRef<Message>, want: Want) {
        let (thread, tokens, node) = (want.thread, want.tokens, self.me());
        let (id, fresh) = (self.context.env.id(), self.context.env.id());
        let reserve = |account: &mut Account| match account {
            Account::Owned(owned) => owned.reserve(thread, id, tokens).map(|()| None),
            Account::Held(held) if held.left() => Err(BudgetError::Ended(thread)),
            Account::Held(held) => match held.reserve(id, tokens) {
                true => Ok(None),
                false => Ok(Some((held.owner(), held.want(thread, node, tokens, fresh)?))),
            },
        };
        match self.change(thread, reserve).await {
            Ok(None) => {
                // Nobody is left who could settle it: what stays set aside would be lost to the thread.
                if want.reply.send(Wire(Ok(Reservation { id, thread, tokens }))).is_err() {
                    self.release(Reservation { id, thread, tokens }).await;
                }
            }
            Ok(Some((owner, lease))) => self.ask_lease(me, owner, lease, want),
            Err(error) => drop(want.reply.send(Wire(Err(error)))),
        }
    }

    async fn release(&mut self, reservation: Reservation) {
        let release = |account: &mut Account| match account {
            Account::Owned(thread) => thread.release(reservation.id),
            Account::Held(held) => held.release(reservation.id),
        };
        // Unknown is settled or charged already; unwritten stays set aside, which errs on the safe side.
        let _ = self.change(reservation.thread, release).await;
    }

    /// Asks the owner; its answer comes back as [`Message::Granted`].
    fn ask_lease(&self, me: &ActorRef<Message>, owner: NodeId, lease: Lease, want: Want) {
        let (me, handle) = (me.clone(), self.context.directory.at::<Message>(owner, NAME));
        self.tasks.spawn(async move {
            let mut tries = 0;
            let answer = loop {
                tries += 1;
                match handle.ask(ASK_TIMEOUT, |reply| Message::Lease(Wire(lease), reply)).await {
                    Ok(answer) => break answer,
                    Err(error) if tries >= LEASE_TRIES => break Err(BudgetError::OwnerUnreachable(error)),
                    Err(_) => {}
                }
            };
            let granted = Granted { lease: lease.id, answer, want };
            // The actor that would take it is the one that owns this task.
            let _ = me.cast(Message::Granted(Local(granted)));
        });
    }

    async fn granted(&mut self, me: &ActorRef<Message>, granted: Granted) {
        let Granted { lease, answer, mut want } = granted;
        let noted = match answer {
            Ok(total) => {
                let note = |account: &mut Account| {
                    if let Account::Held(held) = account {
                        held.granted(lease, total.min(TOKENS_MAX));
                    }
                    Ok(())
                };
                self.change(want.thread, note).await
            }
            Err(error) => Err(error),
        };
        want.rounds += 1;
        match noted {
            Ok(()) if want.rounds < ROUNDS_MAX => self.reserve(me, want).await,
            Ok(()) => drop(want.reply.send(Wire(Err(BudgetError::TooMany(ROUNDS_MAX as usize))))),
            Err(error) => drop(want.reply.send(Wire(Err(error)))),
        }
    }

    async fn settle(&mut self, reservation: Reservation, mut spent: Spent) -> Result<Budget, BudgetError> {
        let thread = reservation.thread;
        (spent.prompt, spent.completion) = (spent.prompt.min(TOKENS_MAX), spent.completion.min(TOKENS_MAX));
        let rows = self.meter.counted(&spent);
        let settled = match self.accounts.get(&thread).cloned() {
            Some(Account::Owned(mut owned)) => {
                let settled = owned.settle(reservation.id, spent.prompt, spent.completion);
                settled.map(|()| (Account::Owned(owned), None))
            }
            Some(Account::Held(mut held)) => {
                let report = held.settle(thread, reservation.id, spent.prompt, spent.completion);
                report.map(|report| (Account::Held(held), Some(report)))
            }
            None => Err(BudgetError::NoSuchThread(thread)),
        };
        if spent.prompt + spent.completion > reservation.tokens {
            tracing::warn!(%thread, reserved = reservation.tokens, ?spent, "a call cost more than was reserved for it");
        }
        // The call was made, so it is metered even if nobody knows its reservation any more.
        let (account, report) = match settled {
            Ok(settled) => settled,
            Err(error) => {
                self.write(None, &rows).await?;
                self.meter.put(rows);
                return Err(error);
            }
        };
        let budget = match &account {
            Account::Owned(owned) => owned.budget(thread, self.me()),
            Account::Held(held) => held.budget(thread),
        };
        self.put(thread, account, &rows).await?;
        self.meter.put(rows);
        if let Some(report) = report {
            self.tell_owner(budget.owner, report);
        }
        Ok(budget)
    }

    /// Tells the owner what was spent so far, once: the next total, or the last, says it again.
    fn tell_owner(&self, owner: NodeId, report: LeaseReport) {
        let handle = self.context.directory.at::<Message>(owner, NAME);
        self.tasks.spawn(async move {
            let told = handle.ask(ASK_TIMEOUT, |reply| Message::Report(Wire(report), reply)).await;
            tracing::trace!(?told, "told a budget's owner what was spent");
        });
    }

    fn adopt(&mut self, thread: Uuid, owner: NodeId) {
        let new = || Account::Held(Held::new(owner));
        if let Account::Held(held) = self.accounts.entry(thread).or_insert_with(new) {
            held.join();
        }
    }

    async fn done(
        &mut self,
        me: &ActorRef<Message>,
        thread: Uuid,
        work: Uuid,
        reply: RpcReplyPort<Wire<Result<(), BudgetError>>>,
    ) {
        let done = |account: &mut Account| {
            match account {
                Account::Owned(owned) if work == thread => owned.end(),
                // A part of the work that is done where the thread lives took no lease.
                Account::Owned(_) => {}
                Account::Held(held) => held.done(),
            }
            Ok(())
        };
        match self.change(thread, done).await {
            Ok(()) => self.give_back(me, thread, Some(reply)),
            Err(error) => drop(reply.send(Wire(Err(error)))),
        }
    }

    /// Offers closed leases to their owner until it has them, or until it is no longer of the swarm. Who asked for
    /// it is answered after the first try: what it left is written down and goes on.
    fn give_back(
        &self,
        me: &ActorRef<Message>,
        thread: Uuid,
        reply: Option<RpcReplyPort<Wire<Result<(), BudgetError>>>>,
    ) {
        let (owner, mut reports) = match self.accounts.get(&thread) {
            Some(Account::Held(held)) => (held.owner(), held.returning(thread)),
            _ => (self.me(), Vec::new()),
        };
        let (me, handle) = (me.clone(), self.context.directory.at::<Message>(owner, NAME));
        let (members, mut reply, mut pause) = (self.context.members.clone(), reply, RETURN_PAUSE);
        self.tasks.spawn(async move {
            loop {
                let mut left = Vec::new();
                for report in reports {
                    let answer = handle.ask(ASK_TIMEOUT, |port| Message::Report(Wire(report), port)).await;
                    match answer {
                        Err(_) | Ok(Err(BudgetError::Store(_))) if members.get(&owner).is_some() => left.push(report),
                        _ => drop(me.cast(Message::Returned(Local((thread, report.id))))),
                    }
                }
                if let Some(reply) = reply.take() {
                    drop(reply.send(Wire(Ok(()))));
                }
                if left.is_empty() {
                    return;
                }
                reports = left;
                // Time passes, or the picture changes: perhaps the owner is back.
                let _ = timeout(pause, seen_up(&members, owner)).await;
                sleep(RETURN_PAUSE).await;
                pause = (pause * 2).min(RETURN_PAUSE_MAX);
            }
        });
    }

    async fn lease(&mut self, lease: Lease) -> Result<u64, BudgetError> {
        let lease = Lease { tokens: lease.tokens.min(TOKENS_MAX), ..lease };
        let grant = |account: &mut Account| match account {
            Account::Owned(owned) => owned.lease(lease),
            Account::Held(_) => Err(BudgetError::NoSuchThread(lease.thread)),
        };
        self.change(lease.thread, grant).await
    }

    async fn report(&mut self, report: LeaseReport) -> Result<Budget, BudgetError> {
        let (prompt, completion) = (report.prompt.min(TOKENS_MAX), report.completion.min(TOKENS_MAX));
        let report = LeaseReport { prompt, completion, ..report };
        let note = |account: &mut Account| match account {
            Account::Owned(owned) => owned.report(report),
            Account::Held(_) => Err(BudgetError::NoSuchThread(report.thread)),
        };
        self.change(report.thread, note).await?;
        self.look(report.thread)
    }

    fn look(&self, thread: Uuid) -> Result<Budget, BudgetError> {
        match self.accounts.get(&thread) {
            Some(Account::Owned(owned)) => Ok(owned.budget(thread, self.me())),
            _ => Err(BudgetError::NoSuchThread(thread)),
        }
    }

    fn list(&self) -> Vec<Budget> {
        let mut list: Vec<Budget> = self.accounts.keys().filter_map(|id| self.look(*id).ok()).collect();
        let heat = |b: &Budget| (u128::from(b.spent()) << 32) / u128::from(b.max.max(1));
        list.sort_by_key(|b| std::cmp::Reverse(heat(b)));
        list
    }

    /// Answers here if this node owns the thread; else its owner does, or whoever of the swarm turns out to be it.
    fn get(&self, thread: Uuid, reply: RpcReplyPort<Wire<Result<Budget, BudgetError>>>) {
        let me = self.me();
        let nodes: Vec<NodeId> = match self.accounts.get(&thread) {
            Some(Account::Owned(owned)) => return drop(reply.send(Wire(Ok(owned.budget(thread, me))))),
            Some(Account::Held(held)) => vec![held.owner()],
            None => self.context.members.others_up(),
        };
        let directory = self.context.directory.clone();
        self.tasks.spawn(async move {
            let look = |node| {
                let handle = directory.at::<Message>(node, NAME);
                async move { handle.ask(GATHER_TIMEOUT, |port| Message::Look(Wire(thread), port)).await }
            };
            let mut answers: FuturesUnordered<_> = nodes.into_iter().map(look).collect();
            let mut error = BudgetError::NoSuchThread(thread);
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(Ok(budget)) => return drop(reply.send(Wire(Ok(budget)))),
                    Ok(Err(_)) => {}
                    Err(link) => error = BudgetError::OwnerUnreachable(link),
                }
            }
            drop(reply.send(Wire(Err(error))));
        });
    }
}

/// Ready when `node` is up in a picture that is newer than this call.
async fn seen_up(members: &skep_runtime::Members, node: NodeId) {
    let mut changes = members.changes();
    while changes.changed().await.is_ok() {
        if changes.borrow_and_update().get(&node).is_some_and(|m| m.state == Standing::Up) {
            return;
        }
    }
}

fn unwritten(error: skep_runtime::store::Error) -> BudgetError {
    BudgetError::Store(error.to_string())
}
