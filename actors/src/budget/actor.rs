//! ThreadBudgetActor: owns this node's accounts and its meter. What it answers is on disk (`pen`), but for reservations
//! below a line that is (`tally`).
//!
//! Decides nothing: what may be spent is decided in `thread` (on the owner) and `held` (elsewhere). What is asked of other
//! nodes is `borrow`'s; tasks ask it, and their answers come back as messages.

use super::{
    Local, Message, NAME, Reservation,
    amount::{Amount, TOKENS_MAX},
    borrow::{Borrowing, ROUNDS_MAX, Want},
    charge::{Charging, Waiting},
    held::{Fit, Held},
    messages::{Budget, BudgetError, Call, Estate, Lease, LeaseReport, Limit, Served, Spent, Sum},
    meter::{Count, Meter, Row},
    past::Past,
    pen::Pen,
    prices::{PRICES, Price, Prices, TABLE},
    tally::Hold,
    thread::Thread,
    warning::Warning,
};
use crate::{Context, defaults::GATHER_TIMEOUT};
use futures::{StreamExt, stream::FuturesUnordered};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Deserialize, Serialize};
use skep_runtime::{Error, NodeId, Reach, Tasks, Wire, store::Table};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::mpsc, time::sleep};
use uuid::Uuid;

/// Accounts of this node: all threads that a swarm keeps, and room for others. With more, the oldest that nothing is set aside
/// of is forgotten, those first whose work is over.
const ACCOUNTS_MAX: usize = 32_768;
/// After so long without a reservation a thread counts as quiet: its line is drawn in.
const REST_PERIOD: Duration = Duration::from_secs(1);
/// Readers of thresholds: parts of this node.
const WATCHERS_MAX: usize = 16;
/// Thresholds that a reader may be behind: as many threads at once as a busy node has, and then some.
const WATCHED_MAX: usize = 1024;

// Other names than those that records of tokens alone had: a record's layout is told by its table.
pub(super) const ACCOUNTS: Table<[u8; 16], Account> = Table::new("budget_threads_2");
pub(super) const METER: Table<Row, Count> = Table::new("budget_counts");

/// What this node knows of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Account {
    /// It is the owner.
    Owned(Thread),
    /// Another node is.
    Held(Held),
}

impl Account {
    pub(super) fn write(&mut self) {
        match self {
            Account::Owned(thread) => thread.write(),
            Account::Held(held) => held.write(),
        }
    }

    pub(super) fn written(&mut self) {
        match self {
            Account::Owned(thread) => thread.written(),
            Account::Held(held) => held.written(),
        }
    }

    pub(super) fn rest(&mut self) -> bool {
        match self {
            Account::Owned(thread) => thread.rest(),
            Account::Held(held) => held.rest(),
        }
    }

    fn restless(&self) -> bool {
        match self {
            Account::Owned(thread) => thread.restless(),
            Account::Held(held) => held.restless(),
        }
    }

    fn near(&self) -> bool {
        match self {
            Account::Owned(thread) => thread.near(),
            Account::Held(held) => held.near(),
        }
    }

    fn restart(&mut self) {
        match self {
            Account::Owned(thread) => thread.restart(),
            Account::Held(held) => held.restart(),
        }
    }

    /// It is kept otherwise from now on: its runs here, and their calls that are under way.
    pub(super) fn into_past(self) -> (u32, Past) {
        match self {
            Account::Owned(thread) => thread.into_past(),
            Account::Held(held) => held.into_past(),
        }
    }

    fn settle(&mut self, id: Uuid, prompt: u64, completion: u64) -> Result<u64, BudgetError> {
        match self {
            Account::Owned(thread) => thread.settle(id, prompt, completion),
            Account::Held(held) => held.settle(id, prompt, completion),
        }
    }

    fn release(&mut self, id: Uuid) -> Result<(), BudgetError> {
        match self {
            Account::Owned(thread) => thread.release(id),
            Account::Held(held) => held.release(id),
        }
    }
}

/// What other nodes may say to this one: leases and what became of them. A thread is opened and spent where it is used.
const REMOTE: Reach = Reach::Only(&["Lease", "Report", "Look", "Get", "Total"]);

/// Starts the actor and publishes it.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let actor = context.directory.spawn_within(REMOTE, NAME, ThreadBudget, context.clone(), Some(supervisor)).await?;
    Ok(actor.get_cell())
}

/// The thresholds that threads of this node pass from now on, each once, as soon as they are on disk: for whoever puts
/// them into the thread, in which its agents and its people read them.
///
/// A reader that doesn't keep up finds its stream ended, as does everyone when the actor starts anew. It then asks again,
/// and finds what it missed in [`Budget::warned`] of [`Message::List`]; [`Warning::since`] makes the words. What it told
/// already it knows by thread and severity.
///
/// # Errors
/// The actor doesn't run.
pub async fn watch(context: &Context) -> Result<mpsc::Receiver<Warning>, Error> {
    let (sender, receiver) = mpsc::channel(WATCHED_MAX);
    context.directory.here::<Message>(NAME).tell(Message::Watch(Local(sender))).await?;
    Ok(receiver)
}

struct ThreadBudget;

pub(super) struct State {
    pub(super) context: Context,
    pub(super) accounts: BTreeMap<Uuid, Account>,
    pub(super) meter: Meter,
    pub(super) pen: Pen,
    pub(super) borrowing: Borrowing,
    pub(super) charging: Charging,
    prices: Prices,
    /// Accounts whose line may have to be drawn in.
    restless: BTreeSet<Uuid>,
    /// Whether [`Message::Rest`] is on its way.
    resting: bool,
    watchers: Vec<mpsc::Sender<Warning>>,
    pub(super) tasks: Tasks,
}

impl Actor for ThreadBudget {
    type Msg = Message;
    type State = State;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<State, ActorProcessingErr> {
        let mut state = State::read(context)?;
        // What is on disk says the same in other words, so nothing is written.
        state.accounts.values_mut().for_each(Account::restart);
        Ok(state)
    }

    async fn post_start(&self, me: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        let held = state.accounts.iter().filter(|(_, account)| matches!(account, Account::Held(_)));
        held.for_each(|(thread, _)| state.give_back(&me, *thread, None));
        let feed = state.context.ledger.feed(PRICES);
        state.tasks.spawn(async move {
            loop {
                feed.next().await;
                if me.cast(Message::Priced(Local(()))).is_err() {
                    return;
                }
            }
        });
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.take(&me, message);
        state.write(&me);
        state.rest_soon(&me);
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        if let Err(error) = state.last_page().await {
            tracing::warn!(%error, "budgets could not be written: the next start charges what calls may have cost");
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
        let mut state = State {
            context,
            accounts,
            meter,
            pen: Pen::default(),
            borrowing: Borrowing::default(),
            charging: Charging::default(),
            prices: Prices::default(),
            restless: BTreeSet::new(),
            resting: false,
            watchers: Vec::new(),
            tasks,
        };
        state.priced();
        Ok(state)
    }

    pub(super) fn me(&self) -> NodeId {
        self.context.directory.id()
    }

    // Whoever asked and went away needs no answer, hence the results of `send` are dropped.
    fn take(&mut self, me: &ActorRef<Message>, message: Message) {
        match message {
            Message::Open(Wire((thread, limit)), reply) => self.open(thread, limit, reply),
            Message::Reserve(Wire((thread, call)), reply) => self.reserve(me, thread, &call, reply),
            Message::Settle(Wire((reservation, spent)), reply) => self.settle(reservation, spent, reply),
            Message::Release(Wire(reservation), reply) => {
                self.release(reservation.thread, reservation.id);
                drop(reply.send(Wire(())));
            }
            Message::Get(Wire(thread), reply) => self.get(thread, reply),
            Message::Look(Wire(thread), reply) => drop(reply.send(Wire(self.look(thread)))),
            Message::List(reply) => drop(reply.send(Wire(self.list()))),
            Message::Adopt(Wire((thread, owner)), reply) => {
                self.adopt(thread, owner);
                drop(reply.send(Wire(())));
            }
            Message::Done(Wire((thread, work)), reply) => self.done(thread, work, reply),
            Message::Usage(reply) => {
                let active = |account: &&Account| matches!(account, Account::Owned(owned) if !owned.is_exhausted());
                let threads = self.accounts.values().filter(active).count();
                drop(reply.send(Wire(self.meter.usage(threads as u32))));
            }
            Message::Total(reply) => drop(reply.send(Wire(self.meter.total()))),
            Message::ByNode(reply) => self.by_node(reply),
            Message::ResetUsage(reply) => {
                let before = self.meter.mark();
                self.pen.rows(self.meter.names());
                self.pen.after(move |state, _, written| {
                    if written.is_err() {
                        state.meter.unmark(before);
                    }
                    drop(reply.send(Wire(written)));
                });
            }
            Message::Prices(reply) => drop(reply.send(Wire(self.prices.all().to_vec()))),
            Message::SetPrices(Wire(prices), reply) => self.set_prices(me, prices, reply),
            Message::Priced(Local(())) => self.priced(),
            Message::Watch(Local(watcher)) => {
                self.watchers.retain(|watcher| !watcher.is_closed());
                if self.watchers.len() < WATCHERS_MAX {
                    self.watchers.push(watcher);
                }
            }
            Message::Lease(Wire(lease), reply) => {
                let lease = Lease { need: lease.need.bounded(), wish: lease.wish.bounded(), ..lease };
                self.lease(me, lease, reply);
            }
            Message::Report(Wire(report), reply) => self.report(report, reply),
            Message::Served(Wire(served)) => self.served(&served),
            Message::Flushed(Local(written)) => self.flushed(me, written),
            Message::Granted(Local(granted)) => self.granted(me, granted),
            Message::Told(Local(thread)) => self.told(me, thread),
            Message::Returned(Local((thread, lease))) => {
                if let Some(Account::Held(held)) = self.accounts.get_mut(&thread) {
                    held.returned(lease);
                    // Unwritten, it is offered again after the next start, and the owner knows it by its id.
                    self.pen.account(thread);
                }
            }
            Message::Rest(Local(())) => self.rest(),
            Message::Keep(Wire(estate), reply) => self.keep(&estate, reply),
            Message::Follow(Wire((thread, owner)), reply) => {
                self.follow(thread, owner);
                drop(reply.send(Wire(())));
            }
            Message::Charged(Local((thread, noted))) => self.charged(me, thread, noted),
        }
    }

    /// The account has changed: it is to be written, and its line looked at when it is quiet.
    pub(super) fn touch(&mut self, thread: Uuid) {
        self.pen.account(thread);
        self.restless.insert(thread);
    }

    fn rest_soon(&mut self, me: &ActorRef<Message>) {
        if self.resting || (self.restless.is_empty() && !self.pen.paused()) {
            return;
        }
        self.resting = true;
        let me = me.clone();
        self.tasks.spawn(async move {
            sleep(REST_PERIOD).await;
            let _ = me.cast(Message::Rest(Local(())));
        });
    }

    fn rest(&mut self) {
        self.resting = false;
        self.pen.resume();
        for thread in std::mem::take(&mut self.restless) {
            let Some(account) = self.accounts.get_mut(&thread) else { continue };
            if account.rest() {
                self.pen.account(thread);
            }
            if account.restless() {
                self.restless.insert(thread);
            }
        }
    }

    fn open(&mut self, thread: Uuid, limit: Limit, reply: RpcReplyPort<Wire<Result<Budget, BudgetError>>>) {
        if self.accounts.contains_key(&thread) {
            return drop(reply.send(Wire(Err(BudgetError::Exists(thread)))));
        }
        if self.accounts.len() >= ACCOUNTS_MAX
            && let Err(full) = self.forget_one()
        {
            return drop(reply.send(Wire(Err(full))));
        }
        let account = Thread::open(limit, self.context.env.now_ms());
        let budget = account.budget(thread, self.me());
        self.accounts.insert(thread, Account::Owned(account));
        self.pen.account(thread);
        self.pen.after(move |state, _, written| {
            let untouched = |account: &Account| matches!(account, Account::Owned(owned) if owned.untouched());
            if written.is_err() && state.accounts.get(&thread).is_some_and(untouched) {
                // As if it had not been asked for, also if it came onto the disk after all.
                state.accounts.remove(&thread);
                state.pen.account(thread);
            }
            drop(reply.send(Wire(written.map(|()| budget))));
        });
    }

    fn keep(&mut self, estate: &Estate, reply: RpcReplyPort<Wire<Result<Budget, BudgetError>>>) {
        let thread = estate.thread;
        if matches!(self.accounts.get(&thread), Some(Account::Owned(owned)) if owned.has_kept(estate)) {
            return drop(reply.send(Wire(self.look(thread))));
        }
        if !self.accounts.contains_key(&thread)
            && self.accounts.len() >= ACCOUNTS_MAX
            && let Err(full) = self.forget_one()
        {
            return drop(reply.send(Wire(Err(full))));
        }
        let before = self.accounts.remove(&thread).map(Account::into_past);
        let account = Thread::kept(estate, before, self.context.env.now_ms());
        let budget = account.budget(thread, self.me());
        self.accounts.insert(thread, Account::Owned(account));
        self.pen.account(thread);
        self.pen.after(move |_, _, written| drop(reply.send(Wire(written.map(|()| budget)))));
    }

    /// Another node keeps it from now on.
    fn follow(&mut self, thread: Uuid, owner: NodeId) {
        let past = match self.accounts.remove(&thread) {
            Some(Account::Held(held)) if held.owner() == owner => {
                self.accounts.insert(thread, Account::Held(held));
                return;
            }
            Some(account) => account.into_past(),
            None => return,
        };
        self.accounts.insert(thread, Account::Held(Held::after(owner, past)));
        // Unwritten, it is told again when its new owner is heard of after the next start.
        self.pen.account(thread);
    }

    fn forget_one(&mut self) -> Result<(), BudgetError> {
        let idle = self.accounts.iter().filter_map(|(id, account)| match account {
            Account::Owned(thread) if thread.idle() => Some((!thread.ended(), thread.opened_ms(), *id)),
            _ => None,
        });
        let (_, _, oldest) = idle.min().ok_or(BudgetError::TooMany(ACCOUNTS_MAX))?;
        self.accounts.remove(&oldest);
        self.pen.account(oldest);
        Ok(())
    }

    fn reserve(
        &mut self,
        me: &ActorRef<Message>,
        thread: Uuid,
        call: &Call,
        reply: RpcReplyPort<Wire<Result<Reservation, BudgetError>>>,
    ) {
        if reply.is_closed() {
            return;
        }
        let (amount, rate) = self.prices.estimate(call);
        let want = Want { id: self.context.env.id(), thread, hold: Hold { amount, rate }, rounds: 0, reply };
        self.take_from(me, want);
    }

    /// Sets aside what is wanted, if there is enough of it here; else it is asked for.
    pub(super) fn take_from(&mut self, me: &ActorRef<Message>, mut want: Want) {
        let (thread, amount) = (want.thread, want.hold.amount);
        let fit = match self.accounts.get_mut(&thread) {
            None => Err(BudgetError::NoSuchThread(thread)),
            Some(Account::Owned(owned)) => match owned.reserve(thread, want.id, want.hold) {
                Err(BudgetError::Charging(_)) if want.rounds < ROUNDS_MAX => {
                    want.rounds += 1;
                    return self.charge(me, thread, amount, Some(Waiting::Want(want)));
                }
                reserved => reserved.map(|now| if now { Fit::Now } else { Fit::Written }),
            },
            Some(Account::Held(held)) if held.left() => Err(BudgetError::Ended(thread)),
            // Not past those who wait.
            Some(Account::Held(_)) if self.borrowing.waits(thread) => Ok(Fit::Short),
            Some(Account::Held(held)) => Ok(held.reserve(want.id, want.hold)),
        };
        match fit {
            Ok(Fit::Now) => self.reserved(me, want),
            Ok(Fit::Written) => self.reserved_once_written(want),
            Ok(Fit::Short) => self.queue(me, want),
            Err(error) => want.refuse(error),
        }
        self.charge_ahead(me, thread);
    }

    /// What was wanted is set aside, and a crash would charge it.
    pub(super) fn reserved(&mut self, me: &ActorRef<Message>, want: Want) {
        let Want { id, thread, hold, reply, .. } = want;
        if reply.send(Wire(Ok(Reservation { id, thread, tokens: hold.amount.tokens }))).is_err() {
            // Nobody is left who could settle it: what stays set aside would be lost to the thread.
            return self.release(thread, id);
        }
        // Before the next ones reach the line, or the lease's end.
        let Some(account) = self.accounts.get(&thread) else { return };
        let low = matches!(account, Account::Held(held) if held.low());
        if account.near() {
            self.touch(thread);
        }
        if low {
            self.borrow(me, thread);
        }
    }

    /// What was wanted is set aside in memory: a crash has to charge it first.
    pub(super) fn reserved_once_written(&mut self, want: Want) {
        self.touch(want.thread);
        self.pen.after(move |state, me, written| match written {
            Ok(()) => state.reserved(me, want),
            Err(error) => {
                state.release(want.thread, want.id);
                want.refuse(error);
            }
        });
    }

    fn release(&mut self, thread: Uuid, id: Uuid) {
        // Unknown is settled or charged already.
        if self.accounts.get_mut(&thread).is_some_and(|account| account.release(id).is_ok()) {
            self.touch(thread);
        }
    }

    fn settle(
        &mut self,
        reservation: Reservation,
        mut spent: Spent,
        reply: RpcReplyPort<Wire<Result<Budget, BudgetError>>>,
    ) {
        let Reservation { id, thread, .. } = reservation;
        (spent.prompt, spent.completion) = (spent.prompt.min(TOKENS_MAX), spent.completion.min(TOKENS_MAX));
        let account = self.accounts.get_mut(&thread).ok_or(BudgetError::NoSuchThread(thread));
        let cost = match account.and_then(|account| account.settle(id, spent.prompt, spent.completion)) {
            Ok(cost) => cost,
            Err(error) => return drop(reply.send(Wire(Err(error)))),
        };
        let rows = self.meter.count(&spent, cost);
        self.pen.rows(rows);
        self.touch(thread);
        self.warn(thread);
        let budget = match self.accounts.get(&thread) {
            Some(Account::Held(held)) => Ok(held.budget(thread)),
            _ => self.look(thread),
        };
        self.pen.after(move |state, me, written| {
            drop(reply.send(Wire(written.and(budget))));
            state.tell_owner(me, thread);
        });
    }

    /// Has the thread's thresholds told that it has passed.
    fn warn(&mut self, thread: Uuid) {
        let me = self.me();
        if let Some(Account::Owned(owned)) = self.accounts.get_mut(&thread) {
            self.pen.news(owned.warnings(thread, me));
        }
    }

    /// Tells whoever watches. Who doesn't keep up is left.
    pub(super) fn announce(&mut self, news: &[Warning]) {
        for warning in news {
            tracing::debug!(thread = %warning.thread, severity = warning.severity.word(), "{}", warning.message);
            self.watchers.retain(|watcher| watcher.try_send(warning.clone()).is_ok());
        }
    }

    fn adopt(&mut self, thread: Uuid, owner: NodeId) {
        if owner != self.me() {
            // What this node kept before it was away.
            self.follow(thread, owner);
        }
        match self.accounts.entry(thread).or_insert_with(|| Account::Held(Held::new(owner))) {
            Account::Owned(owned) => owned.join(),
            Account::Held(held) => held.join(),
        }
    }

    fn done(&mut self, thread: Uuid, work: Uuid, reply: RpcReplyPort<Wire<Result<(), BudgetError>>>) {
        match self.accounts.get_mut(&thread) {
            None => return drop(reply.send(Wire(Err(BudgetError::NoSuchThread(thread))))),
            Some(Account::Owned(owned)) if work == thread => owned.end(),
            // A part of the work that is done where the thread lives took no lease.
            Some(Account::Owned(owned)) => {
                owned.done();
                return drop(reply.send(Wire(Ok(()))));
            }
            Some(Account::Held(held)) => held.done(),
        }
        self.touch(thread);
        self.pen.after(move |state, me, written| match written {
            Ok(()) => state.give_back(me, thread, Some(reply)),
            Err(error) => drop(reply.send(Wire(Err(error)))),
        });
    }

    pub(super) fn lease(
        &mut self,
        me: &ActorRef<Message>,
        lease: Lease,
        reply: RpcReplyPort<Wire<Result<Amount, BudgetError>>>,
    ) {
        let granted = match self.accounts.get_mut(&lease.thread) {
            Some(Account::Owned(owned)) => owned.lease(lease),
            _ => Err(BudgetError::NoSuchThread(lease.thread)),
        };
        match granted {
            Ok(total) => {
                self.touch(lease.thread);
                self.charge_ahead(me, lease.thread);
                self.pen.after(move |_, _, written| drop(reply.send(Wire(written.map(|()| total)))));
            }
            Err(BudgetError::Charging(thread)) if !reply.is_closed() => {
                self.charge(me, thread, lease.need, Some(Waiting::Lease(lease, reply)));
            }
            Err(error) => drop(reply.send(Wire(Err(error)))),
        }
    }

    fn report(&mut self, report: LeaseReport, reply: RpcReplyPort<Wire<Result<Budget, BudgetError>>>) {
        let noted = match self.accounts.get_mut(&report.thread) {
            Some(Account::Owned(owned)) => owned.report(report),
            _ => Err(BudgetError::NoSuchThread(report.thread)),
        };
        if let Err(error) = noted {
            return drop(reply.send(Wire(Err(error))));
        }
        self.touch(report.thread);
        self.warn(report.thread);
        self.pen.after(move |state, _, written| {
            drop(reply.send(Wire(written.and_then(|()| state.look(report.thread)))));
        });
    }

    fn served(&mut self, served: &Served) {
        let cost = self.prices.of(&served.model).map_or(0, |rate| rate.cost(served.prompt, served.completion));
        let amount = Amount::new(served.prompt.saturating_add(served.completion), cost).bounded();
        if let Some(Account::Owned(owned)) = self.accounts.get_mut(&served.thread) {
            owned.served(served.holder, amount);
            self.touch(served.thread);
            self.warn(served.thread);
        }
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

    /// Asks everyone who is up. A node that doesn't answer is left out: a sum that lacks it beats none.
    fn by_node(&self, reply: RpcReplyPort<Wire<Vec<(NodeId, Sum)>>>) {
        let mut sums = vec![(self.me(), self.meter.total())];
        let (directory, nodes) = (self.context.directory.clone(), self.context.members.others_up());
        self.tasks.spawn(async move {
            let ask = |node| {
                let handle = directory.at::<Message>(node, NAME);
                async move { (node, handle.ask(GATHER_TIMEOUT, Message::Total).await) }
            };
            let mut answers: FuturesUnordered<_> = nodes.into_iter().map(ask).collect();
            while let Some((node, answer)) = answers.next().await {
                sums.extend(answer.ok().map(|sum| (node, sum)));
            }
            sums.sort_by_key(|(node, _)| *node);
            drop(reply.send(Wire(sums)));
        });
    }

    /// Reads the prices anew.
    fn priced(&mut self) {
        let known = self.context.ledger.get(PRICES, TABLE);
        let prices = match known {
            Ok(record) => record.map(|record| record.value).unwrap_or_default(),
            Err(error) => return tracing::error!(%error, "the prices can't be read, those before count"),
        };
        match Prices::new(prices) {
            Ok(prices) => self.prices = prices,
            Err(error) => tracing::warn!(%error, "another node's prices make no sense, those before count"),
        }
    }

    fn set_prices(
        &self,
        me: &ActorRef<Message>,
        prices: Vec<Price>,
        reply: RpcReplyPort<Wire<Result<(), BudgetError>>>,
    ) {
        let prices = match Prices::new(prices) {
            Ok(prices) => prices.all().to_vec(),
            Err(error) => return drop(reply.send(Wire(Err(error)))),
        };
        let (me, ledger) = (me.clone(), self.context.ledger.clone());
        self.tasks.spawn(async move {
            let put = ledger.put(vec![PRICES.write(TABLE, 0, Some(&prices))]).await;
            // What is on this disk counts here, whoever else has it.
            let _ = me.cast(Message::Priced(Local(())));
            drop(reply.send(Wire(put.map_err(|error| BudgetError::Store(error.to_string())))));
        });
    }
}
