//! The budget of a thread at the node that owns it: begun, charged on record before it is spent, taken over by what is on record,
//! ended (decision 0012).
//!
//! Not here: the account itself (`budget::thread`), who owns a thread (`core`).

use super::{
    NAME,
    desk::{Desk, LOOK_PERIOD},
    messages::{Message, ThreadError, Turn},
};
use crate::{
    Context,
    agent::Run,
    budget::{self, Amount, Budget, BudgetError, Estate, Limit},
    defaults::GATHER_TIMEOUT,
};
use futures::future::join_all;
use skep_runtime::{Handle, NodeId, Wire, defaults::ASK_TIMEOUT};
use tokio::time::sleep;
use uuid::Uuid;

/// The node that keeps a thread, as far as this one knows.
pub(crate) async fn keeper(context: &Context, thread: Uuid) -> Option<NodeId> {
    let threads = context.directory.here::<Message>(NAME);
    let known = threads.ask(ASK_TIMEOUT, |reply| Message::Get(Wire(thread), reply)).await;
    known.ok()?.ok().map(|known| known.owner)
}

impl Desk {
    /// Begins the budget of a thread that begins here. What is charged of it from the beginning.
    pub(super) async fn fund(&self, thread: Uuid, max: Limit) -> Result<Amount, ThreadError> {
        let (spent, charged) = (Amount::NONE, max.charge(Amount::NONE));
        let estate = Estate { thread, max, prompt: 0, completion: 0, cost: 0, spent, charged, warned: None };
        self.budgets().ask(ASK_TIMEOUT, |reply| budget::Message::Keep(Wire(estate), reply)).await??;
        Ok(charged)
    }

    /// Keeps the budget of a thread that another node kept, for as long as this one owns it. Nothing begins in it before.
    pub(super) async fn inherit(&self, id: Uuid) {
        self.witness(id).await;
        while let Err(error) = self.keep(id).await {
            if matches!(error, ThreadError::Moving(_) | ThreadError::NoSuchThread(_)) {
                return;
            }
            tracing::warn!(thread = %id, %error, "the budget of a thread can't be taken over; it is tried again");
            sleep(LOOK_PERIOD).await;
        }
        self.core().inherited(id);
        self.changed();
        self.wake();
    }

    /// Asks all members that are up what they know of a thread that this node takes over.
    async fn witness(&self, id: Uuid) {
        let open = self.core().open_turns(id);
        let asked = self.context.members.others_up().into_iter().map(|node| {
            let (threads, open) = (self.context.directory.at::<Message>(node, NAME), &open);
            async move {
                let known = threads.ask(GATHER_TIMEOUT, |reply| Message::Get(Wire(id), reply)).await;
                let mut turns = Vec::new();
                for turn in open {
                    turns.push(threads.ask(GATHER_TIMEOUT, |reply| Message::Turn(Wire(turn.id), reply)).await);
                }
                (known, turns)
            }
        });
        let answers = join_all(asked).await;
        let mut core = self.core();
        for (known, turns) in answers {
            known.into_iter().flatten().for_each(|known| core.witnessed(&known));
            turns.into_iter().flatten().flatten().for_each(|turn| core.witnessed_turn(&turn));
        }
    }

    /// Keeps the budget of a thread of this node's by its record. All that may have been spent counts as spent.
    async fn keep(&self, id: Uuid) -> Result<(), ThreadError> {
        let (thread, open, spent) = {
            let core = self.core();
            (core.thread(id)?.clone(), core.open_turns(id), core.spent_before(id)?)
        };
        let charged = thread.limit().charge(spent);
        // Before anything of it can be spent.
        self.charge(id, charged).await?;
        // The thread's sum has what its runs had come to when one of them ended last.
        let known = |of_thread: u64, of_turn: fn(&Turn) -> u64| of_thread.max(open.iter().map(of_turn).sum());
        let estate = Estate {
            thread: id,
            max: thread.limit(),
            prompt: known(thread.prompt, |turn| turn.prompt),
            completion: known(thread.completion, |turn| turn.completion),
            cost: thread.cost,
            spent,
            charged,
            warned: thread.warned,
        };
        self.budgets().ask(ASK_TIMEOUT, |reply| budget::Message::Keep(Wire(estate), reply)).await??;
        Ok(())
    }

    /// How the budget stands of a thread of this node's.
    pub(super) async fn budget(&self, id: Uuid) -> Result<Budget, ThreadError> {
        let budgets = self.budgets();
        let look = || budgets.ask(ASK_TIMEOUT, |reply| budget::Message::Look(Wire(id), reply));
        match look().await? {
            // This node died between taking the thread over and keeping its budget, or has forgotten it for others.
            Err(BudgetError::NoSuchThread(_)) => {
                self.keep(id).await?;
                Ok(look().await??)
            }
            known => Ok(known?),
        }
    }

    /// Notes what a thread's budget says was spent.
    pub(super) async fn count(&self, thread: Uuid) {
        let known = self.budgets().ask(ASK_TIMEOUT, |reply| budget::Message::Look(Wire(thread), reply)).await;
        if let Ok(Ok(known)) = known {
            self.core().spent(thread, (known.prompt, known.completion, known.cost));
        }
    }

    /// Puts on record that so much of a thread may have been spent.
    pub(super) async fn charge(&self, id: Uuid, charged: Amount) -> Result<(), ThreadError> {
        let more = self.core().charge(id, charged)?;
        if more { self.put_thread(id).await } else { Ok(()) }
    }

    /// What a run's own tokens cost, in millionths, by the prices of now.
    pub(super) fn cost(&self, run: &Run) -> u64 {
        let rate = run.answered_by.as_ref().and_then(|model| budget::prices::rate(&self.context.ledger, model));
        rate.map_or(0, |rate| rate.cost(run.prompt_tokens, run.tokens.saturating_sub(run.prompt_tokens)))
    }

    /// Nothing more is spent in a thread.
    pub(super) async fn settle(&self, id: Uuid) {
        settle(self.budgets(), id).await;
    }
}

/// Nothing more is spent in a thread.
pub(super) async fn settle(budgets: Handle<budget::Message>, thread: Uuid) {
    let done = budgets.ask(ASK_TIMEOUT, |reply| budget::Message::Done(Wire((thread, thread)), reply)).await;
    tracing::debug!(%thread, ok = done.is_ok(), "the budget of a thread is settled");
}
