//! Budgets over several nodes, from the outside: real actors, links that are cut, nodes that crash.

use super::{
    Budget, BudgetError, Call, Limit, Local, Message, NAME, Price, Rate, Reservation, Severity, Spent, start, watch,
};
use crate::testing::Swarm;
use ractor::RpcReplyPort;
use serde::Serialize;
use skep_runtime::Wire;
use std::time::Duration;
use uuid::Uuid;

const THREAD: Uuid = Uuid::from_u128(7);
/// A part of the thread's work.
const WORK: Uuid = Uuid::from_u128(8);

async fn swarm(n: usize) -> Swarm {
    let swarm = Swarm::new(n).await;
    for i in 0..n {
        start(swarm.context(i), swarm.root(i)).await.unwrap();
    }
    swarm
}

async fn ask<T>(swarm: &Swarm, i: usize, make: impl FnOnce(RpcReplyPort<Wire<T>>) -> Message) -> T
where
    T: Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    let handle = swarm.context(i).directory.here::<Message>(NAME);
    handle.ask(Duration::from_secs(60), make).await.unwrap()
}

async fn open(swarm: &Swarm, max: u64) {
    ask(swarm, 0, |r| Message::Open(Wire((THREAD, max.into())), r)).await.unwrap();
    for i in 1.. {
        if i >= swarm.context(0).members.up().len() {
            break;
        }
        ask(swarm, i, |r| Message::Adopt(Wire((THREAD, swarm.id(0))), r)).await;
    }
}

async fn reserve(swarm: &Swarm, i: usize, tokens: u64) -> Result<Reservation, BudgetError> {
    ask(swarm, i, |r| Message::Reserve(Wire((THREAD, tokens.into())), r)).await
}

async fn settle(swarm: &Swarm, i: usize, reservation: Reservation, prompt: u64, completion: u64) {
    let spent = Spent { prompt, completion, agent: format!("a{i}"), model: "m".into(), latency_ms: 1 };
    ask(swarm, i, |r| Message::Settle(Wire((reservation, spent)), r)).await.unwrap();
}

async fn budget(swarm: &Swarm, i: usize) -> Budget {
    ask(swarm, i, |r| Message::Get(Wire(THREAD), r)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_nodes_spend_one_budget_and_never_more() {
    let swarm = swarm(2).await;
    open(&swarm, 2000).await;
    let mut spent = 0;
    loop {
        let (here, there) = (reserve(&swarm, 0, 150).await, reserve(&swarm, 1, 150).await);
        let both = here.is_err() && there.is_err();
        for (i, reservation) in [(0, here), (1, there)] {
            match reservation {
                Ok(reservation) => {
                    settle(&swarm, i, reservation, 100, 20).await;
                    spent += 120;
                }
                Err(BudgetError::Exhausted { wanted: _, remaining, max: 2000 }) => assert!(remaining < 150),
                Err(error) => panic!("{error}"),
            }
        }
        if both {
            break;
        }
    }
    ask(&swarm, 1, |r| Message::Done(Wire((THREAD, WORK)), r)).await.unwrap();
    let end = budget(&swarm, 1).await;
    assert_eq!((end.spent(), end.leased, end.reserved), (spent, 0, 0));
    assert!(spent <= 2000 && 2000 - spent < 300, "{spent}");
}

#[tokio::test(start_paused = true)]
async fn reservations_that_ask_at_once_all_get_theirs() {
    let swarm = swarm(2).await;
    open(&swarm, 10_000).await;
    let all = futures::future::join_all((0..20).map(|_| reserve(&swarm, 1, 500))).await;
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 20);
    assert_eq!(budget(&swarm, 0).await.remaining(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_restarts_charges_what_it_had_set_aside_and_returns_the_rest() {
    let mut swarm = swarm(2).await;
    open(&swarm, 4000).await;
    let first = reserve(&swarm, 1, 300).await.unwrap();
    settle(&swarm, 1, first, 100, 50).await;
    reserve(&swarm, 1, 200).await.unwrap();
    swarm.kill(1).await;
    let held = budget(&swarm, 0).await;
    assert_eq!(held.spent() + held.leased, 4000 - held.remaining(), "a dead holder's lease stays out");
    assert!(held.leased >= 350);
    swarm.restart(1).await;
    start(swarm.context(1), swarm.root(1)).await.unwrap();
    let mut now = budget(&swarm, 0).await;
    while now.leased > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = budget(&swarm, 0).await;
    }
    assert_eq!(now.spent(), 150 + 200);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_restarts_knows_its_grants() {
    let mut swarm = swarm(2).await;
    open(&swarm, 4000).await;
    reserve(&swarm, 0, 1000).await.unwrap();
    let held = reserve(&swarm, 1, 300).await.unwrap();
    let leased = budget(&swarm, 0).await.leased;
    swarm.kill(0).await;
    swarm.restart(0).await;
    start(swarm.context(0), swarm.root(0)).await.unwrap();
    let now = budget(&swarm, 0).await;
    assert_eq!((now.spent(), now.leased, now.reserved), (1000, leased, 0));
    settle(&swarm, 1, held, 200, 0).await;
    ask(&swarm, 1, |r| Message::Done(Wire((THREAD, WORK)), r)).await.unwrap();
    assert_eq!(budget(&swarm, 0).await.spent(), 1200);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_returned_to_an_owner_that_was_away() {
    let swarm = swarm(2).await;
    open(&swarm, 4000).await;
    let held = reserve(&swarm, 1, 300).await.unwrap();
    swarm.cut(0);
    assert!(matches!(reserve(&swarm, 1, 5000).await, Err(BudgetError::OwnerUnreachable(_))));
    settle(&swarm, 1, held, 100, 0).await;
    ask(&swarm, 1, |r| Message::Done(Wire((THREAD, WORK)), r)).await.unwrap();
    // What comes after the last work here would take a lease that nobody gives back.
    assert_eq!(reserve(&swarm, 1, 1).await, Err(BudgetError::Ended(THREAD)));
    swarm.heal(0);
    while budget(&swarm, 0).await.leased > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(budget(&swarm, 0).await.spent(), 100);
}

#[tokio::test(start_paused = true)]
async fn usage_is_metered_by_agent_and_model_since_the_last_reset() {
    let mut swarm = swarm(1).await;
    open(&swarm, 1000).await;
    let first = reserve(&swarm, 0, 100).await.unwrap();
    settle(&swarm, 0, first, 60, 20).await;
    swarm.kill(0).await;
    swarm.restart(0).await;
    start(swarm.context(0), swarm.root(0)).await.unwrap();
    let usage = ask(&swarm, 0, Message::Usage).await;
    assert_eq!((usage.total.prompt, usage.by_agent[0].0.as_str(), usage.active_threads), (60, "a0", 1));
    ask(&swarm, 0, Message::ResetUsage).await.unwrap();
    assert_eq!(ask(&swarm, 0, Message::Usage).await.total.requests, 0);
    swarm.kill(0).await;
    swarm.restart(0).await;
    start(swarm.context(0), swarm.root(0)).await.unwrap();
    let second = reserve(&swarm, 0, 100).await.unwrap();
    settle(&swarm, 0, second, 7, 0).await;
    let usage = ask(&swarm, 0, Message::Usage).await;
    assert_eq!((usage.total.requests, usage.total.prompt), (1, 7), "the mark is on disk");
    assert_eq!(budget(&swarm, 0).await.spent(), 87, "and the threads' budgets stay");
}

#[tokio::test(start_paused = true)]
async fn each_node_says_what_it_metered() {
    let swarm = swarm(3).await;
    open(&swarm, 10_000).await;
    for (i, tokens) in [(0, 60), (1, 20)] {
        let call = reserve(&swarm, i, 100).await.unwrap();
        settle(&swarm, i, call, tokens, 0).await;
    }
    swarm.cut(2);
    let nodes = ask(&swarm, 1, Message::ByNode).await;
    let tokens = nodes.iter().map(|(node, sum)| (*node, sum.prompt)).collect::<Vec<_>>();
    assert_eq!(tokens, [(swarm.id(0), 60), (swarm.id(1), 20)], "whoever is away is left out");
}

#[tokio::test(start_paused = true)]
async fn a_lease_holds_money_too_and_what_is_not_spent_comes_back() {
    let swarm = swarm(2).await;
    for i in 0..2 {
        crate::ledger::start(swarm.context(i), swarm.root(i)).await.unwrap();
    }
    let rate = Rate { prompt: 1_000_000, completion: 2_000_000 };
    let prices = vec![Price { prefix: "dear".into(), rate }];
    ask(&swarm, 0, |r| Message::SetPrices(Wire(prices), r)).await.unwrap();
    while ask(&swarm, 1, Message::Prices).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask(&swarm, 0, |r| Message::Open(Wire((THREAD, Limit { tokens: 100_000, cost: Some(1000) })), r)).await.unwrap();
    ask(&swarm, 1, |r| Message::Adopt(Wire((THREAD, swarm.id(0))), r)).await;
    let mut spent = 0;
    loop {
        let wanted = Wire((THREAD, Call::new("dear", 50, 50)));
        match ask(&swarm, 1, |r| Message::Reserve(wanted, r)).await {
            Ok(reservation) => {
                settle(&swarm, 1, reservation, 50, 25).await;
                spent += 100;
            }
            Err(BudgetError::ExhaustedCost { wanted: _, remaining, max: 1000 }) => {
                assert!(remaining < 150, "{remaining}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    ask(&swarm, 1, |r| Message::Done(Wire((THREAD, WORK)), r)).await.unwrap();
    let end = budget(&swarm, 0).await;
    assert_eq!((end.cost, end.leased_cost, end.reserved_cost, end.leased), (spent, 0, 0, 0));
    assert!(spent > 700, "{spent}");
    assert_eq!(ask(&swarm, 1, Message::Usage).await.total.cost, spent);
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_is_told_of_each_threshold_once_wherever_it_was_spent() {
    let swarm = swarm(2).await;
    open(&swarm, 1000).await;
    let mut warnings = watch(swarm.context(0)).await.unwrap();
    for i in [0, 1] {
        let call = reserve(&swarm, i, 460).await.unwrap();
        settle(&swarm, i, call, 460, 0).await;
    }
    ask(&swarm, 1, |r| Message::Done(Wire((THREAD, WORK)), r)).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(warnings.recv().await.unwrap());
    }
    let said = told.iter().map(|w| (w.severity, w.tokens_used, w.tokens_remaining)).collect::<Vec<_>>();
    assert_eq!(said, [(Severity::Warning, 920, 80), (Severity::Critical, 920, 80)]);
    assert_eq!(budget(&swarm, 0).await.warned, Some(Severity::Critical));
    let call = reserve(&swarm, 0, 80).await.unwrap();
    settle(&swarm, 0, call, 80, 0).await;
    assert_eq!(warnings.recv().await.unwrap().severity, Severity::Final);
    assert!(warnings.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_thread_in_a_hurry_is_charged_no_more_than_its_line_and_nothing_once_it_is_quiet() {
    let mut swarm = swarm(1).await;
    open(&swarm, 1_000_000).await;
    for _ in 0..300 {
        let call = reserve(&swarm, 0, 100).await.unwrap();
        settle(&swarm, 0, call, 40, 10).await;
    }
    let again = async |swarm: &mut Swarm| {
        swarm.kill(0).await;
        swarm.restart(0).await;
        start(swarm.context(0), swarm.root(0)).await.unwrap();
        budget(swarm, 0).await.spent()
    };
    let charged = again(&mut swarm).await;
    assert!((15_000..15_000 + 1_000_000 / 8).contains(&charged), "{charged}");
    let call = reserve(&swarm, 0, 100).await.unwrap();
    settle(&swarm, 0, call, 100, 0).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(again(&mut swarm).await, charged + 100, "a quiet thread loses nothing");
}

#[tokio::test(start_paused = true)]
async fn another_node_can_not_pretend_to_be_this_actors_own_task() {
    let swarm = swarm(2).await;
    open(&swarm, 4000).await;
    let forged = Message::Returned(Local((THREAD, Uuid::nil())));
    let there = swarm.context(1).directory.at::<Message>(swarm.id(0), NAME);
    assert!(matches!(there.tell(forged).await, Err(skep_runtime::Error::Refused(_))));
}
