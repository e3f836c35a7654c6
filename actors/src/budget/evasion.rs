//! Attempts to spend more than a budget has (A36): calls at once, repetitions, numbers that are none, nodes that lie. What a
//! server claims is `metered`'s; what losses and crashes can do is `conservation`'s.

use super::{
    Budget, BudgetError, Call, Local, Message, NAME, Price, Rate, Reservation, Spent,
    amount::{Amount, TOKENS_MAX},
    messages::{Lease, LeaseReport, Limit, Served},
    start,
};
use crate::{ledger, testing::Swarm};
use futures::future::join_all;
use ractor::RpcReplyPort;
use serde::{Serialize, de::DeserializeOwned};
use skep_runtime::{Error, NodeId, Wire};
use std::time::Duration;
use uuid::Uuid;

const THREAD: Uuid = Uuid::from_u128(7);
const WORK: Uuid = Uuid::from_u128(8);
const LEASE: Uuid = Uuid::from_u128(9);

async fn swarm(n: usize) -> Swarm {
    let swarm = Swarm::new(n).await;
    for i in 0..n {
        ledger::start(swarm.context(i), swarm.root(i)).await.unwrap();
        start(swarm.context(i), swarm.root(i)).await.unwrap();
    }
    swarm
}

/// Asks node 0's actor, from node `from`.
async fn ask<T>(swarm: &Swarm, from: usize, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> Message) -> Result<T, Error>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let handle = swarm.context(from).directory.at::<Message>(swarm.id(0), NAME);
    handle.ask(Duration::from_secs(60), make).await
}

async fn open(swarm: &Swarm, limit: Limit) {
    ask(swarm, 0, |r| Message::Open(Wire((THREAD, limit)), r)).await.unwrap().unwrap();
}

async fn reserve(swarm: &Swarm, call: Call) -> Result<Reservation, BudgetError> {
    ask(swarm, 0, |r| Message::Reserve(Wire((THREAD, call)), r)).await.unwrap()
}

async fn settle(swarm: &Swarm, reservation: Reservation, prompt: u64, completion: u64) -> Result<Budget, BudgetError> {
    let spent = Spent { prompt, completion, agent: "a".into(), model: "m".into(), latency_ms: 1 };
    ask(swarm, 0, |r| Message::Settle(Wire((reservation, spent)), r)).await.unwrap()
}

async fn budget(swarm: &Swarm) -> Budget {
    ask(swarm, 0, |r| Message::Get(Wire(THREAD), r)).await.unwrap().unwrap()
}

fn lease(swarm: &Swarm, tokens: u64) -> Lease {
    let need = Amount::new(tokens, 0);
    Lease { thread: THREAD, id: LEASE, holder: swarm.id(1), need, wish: need }
}

/// What node 1 says about its lease to node 0.
async fn report(swarm: &Swarm, prompt: u64, cost: u64, closed: bool) {
    let report = LeaseReport { thread: THREAD, id: LEASE, prompt, completion: prompt, cost, closed };
    ask(swarm, 1, |r| Message::Report(Wire(report), r)).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_get_no_more_than_there_is() {
    let swarm = swarm(1).await;
    open(&swarm, 1000.into()).await;
    let all = join_all((0..50).map(|_| reserve(&swarm, 90.into()))).await;
    assert_eq!(all.iter().filter(|reserved| reserved.is_ok()).count(), 11);
    let now = budget(&swarm).await;
    assert_eq!((now.reserved, now.spent()), (990, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_get_no_more_money_than_there_is() {
    let swarm = swarm(1).await;
    let rate = Rate { prompt: 1_000_000, completion: 2_000_000 };
    let prices = vec![Price { prefix: "dear".into(), rate }];
    ask(&swarm, 0, |r| Message::SetPrices(Wire(prices), r)).await.unwrap().unwrap();
    open(&swarm, Limit { tokens: 1_000_000, cost: Some(1000) }).await;
    let all = join_all((0..50).map(|_| reserve(&swarm, Call::new("dear-1", 10, 40)))).await;
    assert_eq!(all.iter().filter(|reserved| reserved.is_ok()).count(), 11);
    assert_eq!(budget(&swarm).await.reserved_cost, 990);
    // What has no price costs no money.
    reserve(&swarm, Call::new("local", 10, 40)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_price_that_it_was_reserved_at() {
    let swarm = swarm(1).await;
    let set = async |prompt: u64| {
        let prices = vec![Price { prefix: "m".into(), rate: Rate { prompt, completion: 0 } }];
        ask(&swarm, 0, |r| Message::SetPrices(Wire(prices), r)).await.unwrap().unwrap();
    };
    open(&swarm, Limit { tokens: 1000, cost: Some(1000) }).await;
    set(1_000_000).await;
    let call = reserve(&swarm, Call::new("m", 100, 0)).await.unwrap();
    set(0).await;
    assert_eq!(settle(&swarm, call, 100, 0).await.unwrap().cost, 100, "made free while it was under way");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_repeated_gives_nothing_back() {
    let swarm = swarm(1).await;
    open(&swarm, 1000.into()).await;
    let call = reserve(&swarm, 400.into()).await.unwrap();
    settle(&swarm, call, 100, 50).await.unwrap();
    for _ in 0..3 {
        assert_eq!(settle(&swarm, call, 0, 0).await, Err(BudgetError::Unknown));
        ask(&swarm, 0, |r| Message::Release(Wire(call), r)).await.unwrap();
    }
    // Nor does one that says that it had reserved more.
    let forged = Reservation { tokens: 1 << 60, ..call };
    ask(&swarm, 0, |r| Message::Release(Wire(forged), r)).await.unwrap();
    let now = budget(&swarm).await;
    assert_eq!((now.spent(), now.reserved, now.remaining()), (150, 0, 850));
}

#[tokio::test(start_paused = true)]
async fn numbers_that_would_overflow_are_refused_or_cut() {
    let swarm = swarm(1).await;
    open(&swarm, Limit { tokens: u64::MAX, cost: Some(u64::MAX) }).await;
    assert_eq!(budget(&swarm).await.max, TOKENS_MAX);
    // What other languages would call negative numbers.
    for tokens in [u64::MAX, u64::MAX / 2 + 1, 1 << 63] {
        let refused = reserve(&swarm, Call::new("m", tokens, tokens)).await;
        let cut = refused.unwrap();
        assert_eq!(cut.tokens, TOKENS_MAX);
        ask(&swarm, 0, |r| Message::Release(Wire(cut), r)).await.unwrap();
    }
    let call = reserve(&swarm, 100.into()).await.unwrap();
    let now = settle(&swarm, call, u64::MAX, u64::MAX).await.unwrap();
    assert_eq!((now.remaining(), now.is_exhausted()), (0, true));
    let refused = reserve(&swarm, 1.into()).await;
    assert!(matches!(refused, Err(BudgetError::Exhausted { remaining: 0, .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_asks_again_and_again_gets_its_lease_once() {
    let swarm = swarm(2).await;
    open(&swarm, 4000.into()).await;
    let wanted = lease(&swarm, 300);
    let asks = (0..5).map(|_| ask(&swarm, 1, |r| Message::Lease(Wire(wanted), r)));
    let totals: Vec<Amount> = join_all(asks).await.into_iter().map(|total| total.unwrap().unwrap()).collect();
    assert!(totals.windows(2).all(|pair| pair[0] == pair[1]), "{totals:?}");
    assert_eq!(budget(&swarm).await.leased, totals[0].tokens);
    // Closed twice, it comes back once; and it is not opened again.
    for _ in 0..2 {
        report(&swarm, 50, 0, true).await;
    }
    let again = ask(&swarm, 1, |r| Message::Lease(Wire(lease(&swarm, 300)), r)).await.unwrap();
    assert_eq!(again, Err(BudgetError::Unknown));
    let now = budget(&swarm).await;
    assert_eq!((now.spent(), now.leased, now.remaining()), (100, 0, 3900));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lies_is_bound_by_what_it_was_granted() {
    let swarm = swarm(2).await;
    open(&swarm, Limit { tokens: 4000, cost: Some(4000) }).await;
    let granted = ask(&swarm, 1, |r| Message::Lease(Wire(lease(&swarm, 300)), r)).await.unwrap().unwrap();
    // More than it was granted: it can't use up what others have.
    report(&swarm, u64::MAX, u64::MAX, false).await;
    let now = budget(&swarm).await;
    assert_eq!((now.spent(), now.leased), (granted.tokens, 0));
    assert_eq!(now.cost, granted.cost);
    // Less than it said before: what was said stays said.
    report(&swarm, 0, 0, false).await;
    report(&swarm, 0, 0, true).await;
    let now = budget(&swarm).await;
    assert_eq!((now.spent(), now.remaining()), (granted.tokens, 4000 - granted.tokens));
}

#[tokio::test(start_paused = true)]
async fn a_holder_can_not_hide_what_the_owner_itself_served() {
    let swarm = swarm(2).await;
    open(&swarm, 4000.into()).await;
    ask(&swarm, 1, |r| Message::Lease(Wire(lease(&swarm, 300)), r)).await.unwrap().unwrap();
    let served = |holder, tokens| {
        let model = "m".to_owned();
        Message::Served(Wire(Served { thread: THREAD, holder, model, prompt: tokens, completion: tokens }))
    };
    let here = swarm.context(0).directory.here::<Message>(NAME);
    here.tell(served(swarm.id(1), 90)).await.unwrap();
    report(&swarm, 10, 0, false).await;
    assert_eq!(budget(&swarm).await.spent(), 180);
    // What is reported is not counted on top of it.
    report(&swarm, 95, 0, false).await;
    assert_eq!(budget(&swarm).await.spent(), 190);
    here.tell(served(swarm.id(1), 50)).await.unwrap();
    report(&swarm, 95, 0, true).await;
    let now = budget(&swarm).await;
    assert_eq!((now.spent(), now.leased), (280, 0));
    // Nobody else's lease pays, and no other node may say so.
    here.tell(served(swarm.id(0), 500)).await.unwrap();
    let there = swarm.context(1).directory.at::<Message>(swarm.id(0), NAME);
    assert!(matches!(there.tell(served(swarm.id(1), 500)).await, Err(Error::Refused(_))));
    assert_eq!(budget(&swarm).await.spent(), 280);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_wishes_for_everything_leaves_enough_to_others() {
    let swarm = swarm(2).await;
    open(&swarm, 4000.into()).await;
    let greedy = Lease { wish: Amount::new(u64::MAX, u64::MAX), ..lease(&swarm, 1) };
    ask(&swarm, 1, |r| Message::Lease(Wire(greedy), r)).await.unwrap().unwrap();
    assert!(budget(&swarm).await.remaining() >= 3000);
}

#[tokio::test(start_paused = true)]
async fn another_node_can_neither_open_nor_spend_nor_settle_nor_reset_here() {
    let swarm = swarm(2).await;
    open(&swarm, 4000.into()).await;
    let call = reserve(&swarm, 400.into()).await.unwrap();
    let spent = Spent { prompt: 0, completion: 0, agent: "a".into(), model: "m".into(), latency_ms: 0 };
    let refused = [
        ask(&swarm, 1, |r| Message::Open(Wire((WORK, 1.into())), r)).await.err(),
        ask(&swarm, 1, |r| Message::Reserve(Wire((THREAD, 1.into())), r)).await.err(),
        ask(&swarm, 1, |r| Message::Settle(Wire((call, spent)), r)).await.err(),
        ask(&swarm, 1, |r| Message::Release(Wire(call), r)).await.err(),
        ask(&swarm, 1, |r| Message::Done(Wire((THREAD, THREAD)), r)).await.err(),
        ask(&swarm, 1, Message::ResetUsage).await.err(),
        ask(&swarm, 1, |r| Message::SetPrices(Wire(Vec::new()), r)).await.err(),
    ];
    for error in refused {
        assert!(matches!(error, Some(Error::Refused(_))), "{error:?}");
    }
    let forged = Message::Flushed(Local(Ok(())));
    let there = swarm.context(1).directory.at::<Message>(swarm.id(0), NAME);
    assert!(matches!(there.tell(forged).await, Err(Error::Refused(_))));
    assert_eq!(budget(&swarm).await.reserved, 400);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_thread_that_lives_elsewhere_is_not_given() {
    let swarm = swarm(2).await;
    let nobodys = ask(&swarm, 1, |r| Message::Lease(Wire(lease(&swarm, 1)), r)).await.unwrap();
    assert_eq!(nobodys, Err(BudgetError::NoSuchThread(THREAD)));
    // Held here is not owned here: no chain of leases.
    let owner = NodeId::from_bytes([9; 32]);
    ask(&swarm, 0, |r| Message::Adopt(Wire((THREAD, owner)), r)).await.unwrap();
    let held = ask(&swarm, 1, |r| Message::Lease(Wire(lease(&swarm, 1)), r)).await.unwrap();
    assert_eq!(held, Err(BudgetError::NoSuchThread(THREAD)));
}
