//! Puts more of a thread on record before it is spent, for threads that outlive their node: who waits for that, and the asking
//! of the ThreadActor, which writes it down here and on another member. One question is under way for each thread.

use super::{
    Local, Message,
    actor::{Account, State},
    amount::Amount,
    borrow::Want,
    messages::{BudgetError, Lease},
};
use crate::thread;
use ractor::{ActorRef, RpcReplyPort};
use skep_runtime::Wire;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// Reservations and leases that may wait for it: each is a caller, who gives up after seconds.
const WAITING_MAX: usize = 4096;
/// How long writing it down may take: this disk flushes, and another member's.
const CHARGE_TIMEOUT: Duration = Duration::from_secs(15);

/// What waits until more is on record.
pub(super) enum Waiting {
    Want(Want),
    Lease(Lease, RpcReplyPort<Wire<Result<Amount, BudgetError>>>),
}

impl Waiting {
    fn refuse(self, why: BudgetError) {
        match self {
            Waiting::Want(want) => want.refuse(why),
            // Whoever asked and went away needs no answer.
            Waiting::Lease(_, reply) => drop(reply.send(Wire(Err(why)))),
        }
    }
}

/// Who waits, by thread. A thread that is here is being put on record.
#[derive(Default)]
pub(super) struct Charging(BTreeMap<Uuid, Vec<Waiting>>);

impl State {
    /// So much more of a thread is needed than is on record.
    pub(super) fn charge(&mut self, me: &ActorRef<Message>, thread: Uuid, wanted: Amount, waiting: Option<Waiting>) {
        let Some(Account::Owned(owned)) = self.accounts.get(&thread) else {
            return waiting.into_iter().for_each(|waiting| waiting.refuse(BudgetError::NoSuchThread(thread)));
        };
        if self.charging.0.values().map(Vec::len).sum::<usize>() >= WAITING_MAX {
            return waiting.into_iter().for_each(|waiting| waiting.refuse(BudgetError::TooMany(WAITING_MAX)));
        }
        let under_way = self.charging.0.contains_key(&thread);
        self.charging.0.entry(thread).or_default().extend(waiting);
        if under_way {
            return;
        }
        let upto = owned.to_charge(wanted);
        let (me, threads) = (me.clone(), self.context.directory.here::<thread::Message>(thread::NAME));
        self.tasks.spawn(async move {
            let asked = Local((thread, upto));
            let noted = threads.ask(CHARGE_TIMEOUT, |reply| thread::Message::Charge(asked, reply)).await;
            let noted = match noted {
                Ok(Ok(())) => Some(upto),
                Ok(Err(error)) => failed(thread, &error),
                Err(error) => failed(thread, &error),
            };
            // The actor that would take it owns this task.
            let _ = me.cast(Message::Charged(Local((thread, noted))));
        });
    }

    /// It is on record, or could not be put there.
    pub(super) fn charged(&mut self, me: &ActorRef<Message>, thread: Uuid, noted: Option<Amount>) {
        let waiting = self.charging.0.remove(&thread).unwrap_or_default();
        match noted {
            Some(upto) => {
                if let Some(Account::Owned(owned)) = self.accounts.get_mut(&thread) {
                    owned.charge(upto);
                    self.touch(thread);
                }
                for waiting in waiting {
                    match waiting {
                        Waiting::Want(want) => self.take_from(me, want),
                        Waiting::Lease(lease, reply) => self.lease(me, lease, reply),
                    }
                }
            }
            // Whoever has patience asks again: the thread may be changing hands.
            None => waiting.into_iter().for_each(|waiting| waiting.refuse(BudgetError::Charging(thread))),
        }
    }

    /// Has more put on record before it is needed.
    pub(super) fn charge_ahead(&mut self, me: &ActorRef<Message>, thread: Uuid) {
        if matches!(self.accounts.get(&thread), Some(Account::Owned(owned)) if owned.scant())
            && !self.charging.0.contains_key(&thread)
        {
            self.charge(me, thread, Amount::NONE, None);
        }
    }
}

fn failed(thread: Uuid, why: &dyn std::fmt::Display) -> Option<Amount> {
    tracing::warn!(%thread, %why, "more of a thread's budget could not be put on record");
    None
}
