//! Tokens set aside for one call on behalf of a thread, wherever in the swarm its budget is kept: what a caller holds
//! who doesn't know, and needn't, which node that is.
//!
//! ```text
//! Get (who keeps it?) -> here: Reserve ........................... Settle | Release
//!                     -> elsewhere: Adopt -> Reserve (a lease) ... Settle | Release -> Done
//!                     -> nobody, all were asked: Open here -> Reserve
//! ```
//!
//! Not here: what may be spent (`thread`, `held`). A thread has one budget in the swarm, so none is made while a member
//! that may keep it can't be asked.

use super::{Budget, BudgetError, Call, Message, NAME, Reservation, Spent};
use crate::{
    Context,
    defaults::{GATHER_TIMEOUT, THREAD_TOKENS},
};
use skep_runtime::{Error, Handle, Members, NodeId, Wire, defaults::ASK_TIMEOUT, member::State};
use std::time::Duration;
use uuid::Uuid;

/// How long a reservation may take: behind it the thread's owner may be asked several times.
const RESERVE_TIMEOUT: Duration = ASK_TIMEOUT.saturating_mul(4);

/// The budget of a node's own thread: as good as none, but every token is counted.
const UNBOUNDED_TOKENS: u64 = 1 << 60;

/// Tokens set aside for one call. It is to be settled or released: what is neither is charged in full when the node
/// starts anew.
#[derive(Debug)]
pub struct Purse {
    budgets: Handle<Message>,
    reservation: Reservation,
    /// The thread lives elsewhere: this call was announced as a piece of work for it.
    adopted: bool,
}

impl Purse {
    /// Sets aside what a call may take of `thread`; `None` is this node's own thread, for calls that name none. A thread that nobody
    /// in the swarm knows is made here, with [`THREAD_TOKENS`].
    ///
    /// # Errors
    /// Nothing was set aside; what it says is what the caller is to be told.
    pub async fn open(context: &Context, thread: Option<Uuid>, call: Call) -> Result<Purse, BudgetError> {
        let budgets = context.directory.here::<Message>(NAME);
        let me = context.directory.id();
        let (thread, owner) = match thread {
            None => (own(me), made(&budgets, own(me), UNBOUNDED_TOKENS).await.map(|()| me)?),
            Some(thread) => match keeper(&budgets, thread).await {
                Err(BudgetError::NoSuchThread(_)) => {
                    if let Some(away) = away(&context.members, me) {
                        return Err(BudgetError::Unsure { thread, away });
                    }
                    made(&budgets, thread, THREAD_TOKENS).await?;
                    (thread, me)
                }
                found => (thread, found?.owner),
            },
        };
        let adopted = owner != me;
        if adopted {
            budgets.ask(ASK_TIMEOUT, |port| Message::Adopt(Wire((thread, owner)), port)).await.map_err(silent)?;
        }
        let reserved = budgets.ask(RESERVE_TIMEOUT, |port| Message::Reserve(Wire((thread, call)), port)).await;
        match reserved.map_err(silent).and_then(|reserved| reserved) {
            Ok(reservation) => Ok(Purse { budgets, reservation, adopted }),
            Err(error) => {
                done(&budgets, thread, adopted).await;
                Err(error)
            }
        }
    }

    /// The call was made and cost this.
    pub async fn settle(self, spent: Spent) {
        let settled = (self.reservation, spent);
        let answer = self.budgets.ask(ASK_TIMEOUT, |port| Message::Settle(Wire(settled), port)).await;
        if let Err(error) = answer.map_err(silent).and_then(|settled| settled) {
            tracing::warn!(%error, "a call could not be settled; what was set aside for it stays so for now");
        }
        done(&self.budgets, self.reservation.thread, self.adopted).await;
    }

    /// The call was not made.
    pub async fn release(self) {
        let reservation = self.reservation;
        let answer = self.budgets.ask(ASK_TIMEOUT, |port| Message::Release(Wire(reservation), port)).await;
        if let Err(error) = answer {
            tracing::warn!(%error, "a reservation could not be released; it stays until the node restarts");
        }
        done(&self.budgets, reservation.thread, self.adopted).await;
    }
}

/// The thread of a node's calls that name none: the same after a restart, and no other node's.
fn own(node: NodeId) -> Uuid {
    let half = node.as_bytes().first_chunk().expect("a key has 32 bytes");
    uuid::Builder::from_random_bytes(*half).into_uuid()
}

/// Makes a thread of this node's, unless it is there.
async fn made(budgets: &Handle<Message>, thread: Uuid, max: u64) -> Result<(), BudgetError> {
    let opened = budgets.ask(ASK_TIMEOUT, |port| Message::Open(Wire((thread, max.into())), port)).await;
    match opened.map_err(silent)? {
        Ok(_) | Err(BudgetError::Exists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn keeper(budgets: &Handle<Message>, thread: Uuid) -> Result<Budget, BudgetError> {
    budgets.ask(GATHER_TIMEOUT * 2, |port| Message::Get(Wire(thread), port)).await.map_err(silent)?
}

/// A member that could not be asked, by name.
fn away(members: &Members, me: NodeId) -> Option<String> {
    members.now().values().find(|m| m.id != me && m.state != State::Up).map(|m| m.name.clone())
}

/// The piece of work is over: what this node holds of another's thread goes back when it was the last.
async fn done(budgets: &Handle<Message>, thread: Uuid, adopted: bool) {
    if adopted {
        // Any work but the one that the thread was opened for: the thread goes on.
        let work = (thread, Uuid::nil());
        let done = budgets.ask(RESERVE_TIMEOUT, |port| Message::Done(Wire(work), port)).await;
        tracing::trace!(?done, "a lease goes back");
    }
}

/// This node's own actor did not answer: the budget is as unreachable as if its owner were away.
fn silent(error: Error) -> BudgetError {
    BudgetError::OwnerUnreachable(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget, testing::Swarm};
    use ractor::ActorRef;

    const THREAD: Uuid = Uuid::from_u128(7);

    async fn swarm(n: usize) -> Swarm {
        let swarm = Swarm::new(n).await;
        for i in 0..n {
            budget::start(swarm.context(i), swarm.root(i)).await.unwrap();
        }
        swarm
    }

    async fn open(swarm: &Swarm, i: usize, tokens: u64) -> Result<Purse, BudgetError> {
        Purse::open(swarm.context(i), Some(THREAD), tokens.into()).await
    }

    async fn budget(swarm: &Swarm, i: usize) -> Budget {
        keeper(&swarm.context(i).directory.here(NAME), THREAD).await.unwrap()
    }

    fn spent(tokens: u64) -> Spent {
        Spent { prompt: tokens, completion: 0, agent: "a".into(), model: "m".into(), latency_ms: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_has_one_budget_whichever_node_is_asked() {
        let swarm = swarm(3).await;
        open(&swarm, 0, 700).await.unwrap().settle(spent(THREAD_TOKENS - 400)).await;
        for i in [1, 2] {
            let refused = open(&swarm, i, 700).await.unwrap_err();
            assert_eq!(refused, BudgetError::Exhausted { wanted: 700, remaining: 400, max: THREAD_TOKENS });
        }
        open(&swarm, 1, 300).await.unwrap().settle(spent(250)).await;
        open(&swarm, 2, 150).await.unwrap().release().await;
        let end = budget(&swarm, 2).await;
        assert_eq!((end.owner, end.spent(), end.leased, end.reserved), (swarm.id(0), THREAD_TOKENS - 150, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_budget_is_made_while_its_keeper_may_be_away() {
        let swarm = swarm(2).await;
        open(&swarm, 0, 1000).await.unwrap().settle(spent(THREAD_TOKENS)).await;
        swarm.cut(0);
        let refused = open(&swarm, 1, 10).await.unwrap_err();
        assert_eq!(refused, BudgetError::Unsure { thread: THREAD, away: "n0".into() });
        swarm.heal(0);
        assert!(matches!(open(&swarm, 1, 10).await, Err(BudgetError::Exhausted { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_name_no_thread_need_nobody_else() {
        let swarm = swarm(2).await;
        swarm.cut(0);
        Purse::open(swarm.context(1), None, 10.into()).await.unwrap().settle(spent(7)).await;
        let threads = swarm.context(1).directory.here(NAME).ask(ASK_TIMEOUT, Message::List).await.unwrap();
        assert_eq!(threads.iter().map(Budget::spent).collect::<Vec<_>>(), [7]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reservation_whose_asker_went_away_is_taken_back() {
        let swarm = Swarm::new(1).await;
        let actor: ActorRef<Message> = budget::start(swarm.context(0), swarm.root(0)).await.unwrap().into();
        open(&swarm, 0, 1).await.unwrap().release().await;
        let budgets = swarm.context(0).directory.here::<Message>(NAME);
        let (port, answer) = tokio::sync::oneshot::channel();
        drop(answer);
        actor.cast(Message::Reserve(Wire((THREAD, 400.into())), port.into())).unwrap();
        let now = keeper(&budgets, THREAD).await.unwrap();
        assert_eq!((now.reserved, now.spent()), (0, 0));
    }
}
