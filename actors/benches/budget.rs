//! What a reservation costs while many threads spend at once: on the node that owns them, and with leases on another.
//!
//! `cargo bench -p skep-actors --bench budget`. Ten thousand threads have budgets; a hundred of them reserve and settle two
//! hundred times a second each, in an open loop: a call is made when it is due, whether or not the one before was
//! answered. The store is on this machine's disk and flushes. Beside it, in the same run: how often that store can flush at
//! all, and a bare ractor actor that is asked as often and answers at once. Nodes are in one process, joined by a carrier
//! that serialises messages and has no network: what a link takes comes on top (transport/benches/link.rs).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark panics and prints")]

use futures::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use skep_actors::{
    budget::{self, BudgetError, Message, Reservation, Spent},
    testing::Swarm,
};
use skep_runtime::{
    Handle, Wire,
    store::{Batch, Store, Table},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

const THREADS: u128 = 10_000;
const BUSY: u128 = 100;
const CALLS_A_SECOND: u128 = 200;
const TOKENS: u64 = 300;
const SPENT: u64 = 120;
/// Not counted: threads learn how far they have to be ahead of the disk.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(8);
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    let swarm = Swarm::of_disk(2).await;
    for i in 0..2 {
        budget::start(swarm.context(i), swarm.root(i)).await.unwrap();
    }
    let (flushes, flush) = flushes(&swarm.context(0).store).await;
    println!("the store alone flushes {flushes:.0} times a second, p50 {:.2} ms", ms(flush));

    let before = resident_kib();
    let begin = Instant::now();
    let owner = swarm.context(0).directory.here::<Message>(budget::NAME);
    let open = |n: u128| owner.ask(ASK_TIMEOUT, move |r| Message::Open(Wire((id(n), (1 << 40).into())), r));
    for some in (0..THREADS).collect::<Vec<_>>().chunks(512) {
        join_all(some.iter().copied().map(open)).await.into_iter().for_each(|opened| {
            opened.unwrap().unwrap();
        });
    }
    println!("{THREADS} threads were opened in {:.2} s", begin.elapsed().as_secs_f64());
    if let Some((before, after)) = before.zip(resident_kib()) {
        let bytes = after.saturating_sub(before) as f64 * 1024.0 / THREADS as f64;
        println!("{bytes:.0} bytes resident each, what the store caches included");
    }

    println!(
        "{:<28} {:>9} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "", "calls/s", "p50 ms", "p99 ms", "max ms", "of bare", "target"
    );
    let (echo, _) = Actor::spawn(None, Echo, ()).await.unwrap();
    let bare = load(&swarm, move |_| {
        let echo = echo.clone();
        async move {
            let (port, answer) = oneshot::channel();
            echo.cast(Ping(port.into())).unwrap();
            answer.await.unwrap();
            None
        }
    })
    .await;
    bare.show("a bare ractor actor", &bare, None);

    let local = load(&swarm, |n| reserve(owner.clone(), n)).await;
    local.show("reserve, own thread", &bare, Some(Duration::from_millis(2)));

    let holder = swarm.context(1).directory.here::<Message>(budget::NAME);
    for n in 0..BUSY {
        let adopt = Wire((id(n), swarm.id(0)));
        holder.ask(ASK_TIMEOUT, |r| Message::Adopt(adopt, r)).await.unwrap();
    }
    let leased = load(&swarm, |n| reserve(holder.clone(), n)).await;
    leased.show("reserve, lease of another's", &bare, Some(Duration::from_millis(10)));
    let (settles, first) = (leased.settles.clone(), local.settles.clone());
    println!(
        "settle, which waits for the disk: p50 {:.2} ms, p99 {:.2} ms; with a lease p50 {:.2} ms, p99 {:.2} ms",
        ms(at(&first, 50)),
        ms(at(&first, 99)),
        ms(at(&settles, 50)),
        ms(at(&settles, 99))
    );

    for n in 0..BUSY {
        let done = Wire((id(n), Uuid::nil()));
        holder.ask(ASK_TIMEOUT, |r| Message::Done(done, r)).await.unwrap().unwrap();
    }
    let calls = local.calls + leased.calls;
    let spent: u64 = owner.ask(ASK_TIMEOUT, Message::List).await.unwrap().iter().map(budget::Budget::spent).sum();
    println!("{calls} calls were settled, {spent} tokens are charged: {}", spent == calls * SPENT);
    let missed =
        [(&local, 2), (&leased, 10)].iter().any(|(load, target)| at(&load.reserves, 99).as_millis() >= *target);
    std::process::exit(i32::from(missed || spent != calls * SPENT));
}

/// Sets a call's tokens aside; gives what settles it.
async fn reserve(budgets: Handle<Message>, n: u128) -> Option<(Handle<Message>, Reservation)> {
    let call = Wire((id(n), TOKENS.into()));
    let reserved: Result<Reservation, BudgetError> =
        budgets.ask(ASK_TIMEOUT, |r| Message::Reserve(call, r)).await.unwrap();
    Some((budgets, reserved.unwrap()))
}

/// What came of an open loop.
struct Load {
    calls: u64,
    whole: Duration,
    /// Sorted.
    reserves: Vec<Duration>,
    settles: Vec<Duration>,
}

impl Load {
    fn show(&self, what: &str, bare: &Load, target: Option<Duration>) {
        let (p50, p99) = (at(&self.reserves, 50), at(&self.reserves, 99));
        let target = match target {
            Some(target) if p99 < target => format!("< {} kept", target.as_millis()),
            Some(target) => format!("< {} MISSED", target.as_millis()),
            None => String::new(),
        };
        println!(
            "{what:<28} {:>9.0} {:>8.3} {:>8.3} {:>8.3} {:>8.1} {target:>10}",
            self.reserves.len() as f64 / self.whole.as_secs_f64(),
            ms(p50),
            ms(p99),
            ms(self.reserves.last().copied().unwrap_or_default()),
            p50.as_secs_f64() / at(&bare.reserves, 50).as_secs_f64(),
        );
    }
}

/// Makes the calls of all busy threads, as they fall due, each from a task of its own. A call's time begins when its turn
/// comes, before its task is started.
async fn load<F, Fut>(swarm: &Swarm, call: F) -> Load
where
    F: Fn(u128) -> Fut,
    Fut: Future<Output = Option<(Handle<Message>, Reservation)>> + Send + 'static,
{
    let times: Arc<Mutex<(Vec<Duration>, Vec<Duration>)>> = Arc::default();
    let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
    // As finely as the runtime's timer goes: so many calls fall due each millisecond.
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (start, mut next, mut calls) = (Instant::now(), 0u128, 0u64);
    while start.elapsed() < WARM_UP + MEASURED {
        ticks.tick().await;
        let due = start.elapsed().as_micros() * BUSY * CALLS_A_SECOND / 1_000_000;
        while next < due {
            let (work, times, done, begin) = (call(next % BUSY), times.clone(), done.clone(), Instant::now());
            let counts = begin - start >= WARM_UP;
            (next, calls) = (next + 1, calls + 1);
            swarm.context(0).tasks.spawn(async move {
                let reserved = work.await;
                let reserve = begin.elapsed();
                if counts {
                    times.lock().unwrap().0.push(reserve);
                }
                if let Some((budgets, reservation)) = reserved {
                    let spent =
                        Spent { prompt: SPENT, completion: 0, agent: "a".into(), model: "m".into(), latency_ms: 1 };
                    let begin = Instant::now();
                    let settled = Wire((reservation, spent));
                    budgets.ask(ASK_TIMEOUT, |r| Message::Settle(settled, r)).await.unwrap().unwrap();
                    if counts {
                        times.lock().unwrap().1.push(begin.elapsed());
                    }
                }
                drop(done);
            });
        }
    }
    drop(done);
    let _ = all_done.recv().await;
    let (mut reserves, mut settles) = std::mem::take(&mut *times.lock().unwrap());
    reserves.sort_unstable();
    settles.sort_unstable();
    Load { calls, whole: MEASURED, reserves, settles }
}

/// How many one-row commits a second this store takes one after the other, and the median of one.
async fn flushes(store: &Store) -> (f64, Duration) {
    const ROWS: Table<u64, u64> = Table::new("bench");
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(2) {
        let mut batch = Batch::new();
        batch.put(ROWS, &(times.len() as u64 % 100), &7).unwrap();
        let begin = Instant::now();
        store.commit(batch).await.unwrap();
        times.push(begin.elapsed());
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, at(&times, 50))
}

/// Answers at once.
struct Echo;

struct Ping(RpcReplyPort<()>);

impl ractor::Message for Ping {}

impl Actor for Echo {
    type Msg = Ping;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ping>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Ping>, Ping(port): Ping, (): &mut ()) -> Result<(), ActorProcessingErr> {
        let _ = port.send(());
        Ok(())
    }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n + 1)
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Where the system tells.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
