//! What this node borrows of threads that others own: who waits for a larger lease, the asking for it, and what their
//! owners are told. One question to an owner is under way for each thread; who waits is served in order.

use super::{
    Message, NAME,
    actor::{Account, State},
    amount::Amount,
    held::Fit,
    local::Local,
    messages::{BudgetError, Granted, Lease, Reservation},
    tally::Hold,
};
use ractor::{ActorRef, RpcReplyPort};
use skep_runtime::{NodeId, Wire, defaults::ASK_TIMEOUT, member::State as Standing};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Reservations that may wait for owners: each is a caller, who gives up after seconds.
const WAITING_MAX: usize = 4096;
/// How often one reservation makes its owner be asked: each answer suffices for it, unless calls cost more than they
/// had reserved meanwhile.
pub(super) const ROUNDS_MAX: u32 = 16;
/// Reservations that one question asks for together.
const TOGETHER_MAX: usize = 64;
/// How often a request for a lease is sent before the owner counts as unreachable: a call may be lost.
const LEASE_TRIES: u32 = 3;
/// The pause before a closed lease is offered again to an owner that didn't answer, and its longest.
const RETURN_PAUSE: Duration = Duration::from_secs(1);
const RETURN_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Somebody waits for a reservation.
pub(super) struct Want {
    pub(super) id: Uuid,
    pub(super) thread: Uuid,
    pub(super) hold: Hold,
    pub(super) rounds: u32,
    pub(super) reply: RpcReplyPort<Wire<Result<Reservation, BudgetError>>>,
}

impl Want {
    /// It can't be had. Whoever asked and went away needs no answer.
    pub(super) fn refuse(self, why: BudgetError) {
        drop(self.reply.send(Wire(Err(why))));
    }
}

/// Who waits, and what is under way.
#[derive(Default)]
pub(super) struct Borrowing {
    queues: BTreeMap<Uuid, VecDeque<Want>>,
    waiting: usize,
    asking: BTreeSet<Uuid>,
    /// What the owner is being told.
    telling: BTreeMap<Uuid, super::messages::LeaseReport>,
}

impl Borrowing {
    /// Whether somebody waits for more of this thread.
    pub(super) fn waits(&self, thread: Uuid) -> bool {
        self.queues.contains_key(&thread)
    }

    fn pop(&mut self, thread: Uuid) -> Option<Want> {
        let queue = self.queues.get_mut(&thread)?;
        let want = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&thread);
        }
        self.waiting -= usize::from(want.is_some());
        want
    }
}

impl State {
    /// What is held of the thread doesn't suffice: the owner is asked.
    pub(super) fn queue(&mut self, me: &ActorRef<Message>, want: Want) {
        if self.borrowing.waiting >= WAITING_MAX {
            return want.refuse(BudgetError::TooMany(WAITING_MAX));
        }
        let thread = want.thread;
        self.borrowing.waiting += 1;
        self.borrowing.queues.entry(thread).or_default().push_back(want);
        self.borrow(me, thread);
    }

    /// Asks the owner for what the first needs who wait, or for more before anybody needs it.
    pub(super) fn borrow(&mut self, me: &ActorRef<Message>, thread: Uuid) {
        if self.borrowing.asking.contains(&thread) {
            return;
        }
        let mut amounts = self.borrowing.queues.get(&thread).into_iter().flatten().map(|want| want.hold.amount);
        let first = amounts.next().unwrap_or(Amount::NONE);
        let others = amounts.take(TOGETHER_MAX).fold(Amount::NONE, Amount::plus);
        let (node, fresh) = (self.me(), self.context.env.id());
        let asked = match self.accounts.get_mut(&thread) {
            Some(Account::Held(held)) => held.want(thread, node, first, fresh).map(|lease| (held.owner(), lease)),
            _ => Err(BudgetError::NoSuchThread(thread)),
        };
        let (owner, mut lease) = match asked {
            Ok(asked) => asked,
            Err(error) => return self.refuse_all(thread, &error),
        };
        lease.wish = lease.wish.plus(others).bounded();
        self.borrowing.asking.insert(thread);
        if matches!(self.accounts.get(&thread), Some(Account::Held(held)) if held.noted()) {
            return self.ask_lease(me, owner, lease);
        }
        // Its id first: after a crash the owner has to be told that it is closed.
        self.touch(thread);
        self.pen.after(move |state, me, written| match written {
            Ok(()) => state.ask_lease(me, owner, lease),
            Err(error) => state.granted(me, Granted { thread, lease: lease.id, answer: Err(error) }),
        });
    }

    /// Asks the owner; its answer comes back as [`Message::Granted`].
    fn ask_lease(&mut self, me: &ActorRef<Message>, owner: NodeId, lease: Lease) {
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
            let granted = Granted { thread: lease.thread, lease: lease.id, answer };
            // The actor that would take it is the one that owns this task.
            let _ = me.cast(Message::Granted(Local(granted)));
        });
    }

    /// The owner has answered.
    pub(super) fn granted(&mut self, me: &ActorRef<Message>, granted: Granted) {
        let Granted { thread, lease, answer } = granted;
        self.borrowing.asking.remove(&thread);
        match answer {
            Ok(total) => {
                if let Some(Account::Held(held)) = self.accounts.get_mut(&thread) {
                    held.granted(lease, total.bounded());
                }
            }
            // The next who wait may need less.
            Err(error) if error.is_exhausted() => {
                self.borrowing.pop(thread).into_iter().for_each(|want| want.refuse(error.clone()));
            }
            Err(error) => return self.refuse_all(thread, &error),
        }
        self.serve(me, thread);
    }

    /// Gives those who wait what there is.
    fn serve(&mut self, me: &ActorRef<Message>, thread: Uuid) {
        while let Some(mut want) = self.borrowing.pop(thread) {
            let fit = match self.accounts.get_mut(&thread) {
                Some(Account::Held(held)) if held.left() => Err(BudgetError::Ended(thread)),
                Some(Account::Held(held)) => Ok(held.reserve(want.id, want.hold)),
                _ => Err(BudgetError::NoSuchThread(thread)),
            };
            match fit {
                Ok(Fit::Now) => self.reserved(me, want),
                Ok(Fit::Written) => self.reserved_once_written(want),
                Ok(Fit::Short) if want.rounds >= ROUNDS_MAX => want.refuse(BudgetError::TooMany(ROUNDS_MAX as usize)),
                Ok(Fit::Short) => {
                    want.rounds += 1;
                    self.borrowing.waiting += 1;
                    self.borrowing.queues.entry(thread).or_default().push_front(want);
                    return self.borrow(me, thread);
                }
                Err(error) => want.refuse(error),
            }
        }
    }

    fn refuse_all(&mut self, thread: Uuid, why: &BudgetError) {
        while let Some(want) = self.borrowing.pop(thread) {
            want.refuse(why.clone());
        }
    }

    /// Tells the owner what was spent so far. What was spent meanwhile is told when it has answered, and the last total
    /// says all of it again.
    pub(super) fn tell_owner(&mut self, me: &ActorRef<Message>, thread: Uuid) {
        let Some(Account::Held(held)) = self.accounts.get(&thread) else { return };
        let Some(report) = held.report(thread) else { return };
        if self.borrowing.telling.contains_key(&thread) {
            return;
        }
        self.borrowing.telling.insert(thread, report);
        let (me, handle) = (me.clone(), self.context.directory.at::<Message>(held.owner(), NAME));
        self.tasks.spawn(async move {
            let told = handle.ask(ASK_TIMEOUT, |reply| Message::Report(Wire(report), reply)).await;
            tracing::trace!(?told, "told a budget's owner what was spent");
            let _ = me.cast(Message::Told(Local(thread)));
        });
    }

    /// The owner was told, or was not.
    pub(super) fn told(&mut self, me: &ActorRef<Message>, thread: Uuid) {
        let last = self.borrowing.telling.remove(&thread);
        let now = match self.accounts.get(&thread) {
            Some(Account::Held(held)) => held.report(thread),
            _ => None,
        };
        if now.is_some() && now != last {
            self.tell_owner(me, thread);
        }
    }

    /// Offers closed leases to their owner until it has them, or until it is no longer of the swarm. Who asked for
    /// it is answered after the first try: what it left is written down and goes on.
    pub(super) fn give_back(
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
