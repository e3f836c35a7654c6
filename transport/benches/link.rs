//! The actor link between two processes on loopback, beside one raw QUIC stream in the same run.
//!
//! `cargo bench -p skep-transport --bench link`. Each round measures both, one after the other, and the table shows
//! the medians and the median of the rounds' ratios: on a machine with other work, trust the ratios. The raw stream
//! is an upper bound: one task, no actor, no names, no credits, frames batched by hand.
//!
//! Both processes share the machine's cores, so a rate is the cost of both ends.

use anyhow::{Context, Result, ensure};
use futures::future::{BoxFuture, try_join_all};
use quinn::{RecvStream, SendStream};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster_derive::RactorClusterMessage;
use skep_runtime::{Directory, Handle, NodeId, Stream, Tasks, Ticket, Wire};
use skep_transport::{
    Env, Identity, Mesh,
    mesh::{Gate, Incoming, Protocol, Streams},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

const ROUNDS: usize = 5;
const IN_FLIGHT: usize = 64;
const SEQUENTIAL_CALLS: usize = 5_000;
const CONCURRENT_CALLS: usize = 64_000;
const CASTS: usize = 300_000;
const BULK_BYTES: usize = 256 << 20;
const BLOCK_BYTES: usize = 64 << 10;
const PAYLOAD_BYTES: usize = 100;
const DEADLINE: Duration = Duration::from_secs(60);
/// The argument that makes this program the other process.
const SERVE: &str = "--serve";

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if std::env::args().any(|arg| arg == SERVE) {
        return runtime.block_on(serve());
    }
    let mut other =
        Command::new(std::env::current_exe()?).arg(SERVE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let measured = runtime.block_on(measure(&mut other));
    // The other process ends with its standard input.
    drop(other.stdin.take());
    other.wait()?;
    measured
}

// ---- The other process ----

#[derive(RactorClusterMessage)]
enum Order {
    #[rpc]
    Echo(Wire<String>, RpcReplyPort<Wire<String>>),
    Take(Wire<String>),
    /// How many were taken so far.
    #[rpc]
    Taken(RpcReplyPort<Wire<u64>>),
    /// A ticket for a stream that is read to its end and answered with its length.
    #[rpc]
    Read(RpcReplyPort<Wire<Ticket>>),
}

struct Clerk(Directory, Env, Tasks);

impl Actor for Clerk {
    type Msg = Order;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Order>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(&self, _: ActorRef<Order>, order: Order, taken: &mut u64) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Echo(text, port) => {
                let _ = port.send(text);
            }
            Order::Take(_) => *taken += 1,
            Order::Taken(port) => {
                let _ = port.send(Wire(*taken));
            }
            Order::Read(port) => {
                let expected = self.0.expect(id(1), self.1.base.ticket())?;
                let _ = port.send(Wire(expected.ticket()));
                self.2.spawn(async move {
                    if let Ok(stream) = expected.opened().await {
                        let _ = count(stream).await;
                    }
                });
            }
        }
        Ok(())
    }
}

async fn count(mut stream: Stream) -> Result<()> {
    let (mut block, mut bytes) = (vec![0; BLOCK_BYTES], 0u64);
    loop {
        match stream.reader.read(&mut block).await? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    stream.writer.write_u64(bytes).await?;
    Ok(stream.writer.shutdown().await?)
}

/// Everyone is a member. Control streams are the raw ones.
struct Open;

impl Gate for Open {
    fn is_member(&self, _: &NodeId) -> bool {
        true
    }

    fn joiner(&self, _: NodeId, _: SocketAddr, _: Streams) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn control(&self, _: NodeId, _: Protocol, (send, recv): Streams) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _ = raw_serve(send, recv).await;
        })
    }
}

/// Reads frames `[length u32][answer? u8][body]` and echoes those that want it, a batch at a time.
async fn raw_serve(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let (mut input, mut output) = (Vec::with_capacity(2 * BLOCK_BYTES), Vec::new());
    loop {
        input.reserve(BLOCK_BYTES);
        if recv.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut rest = &input[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((body, after)) = after.split_at_checked(1 + length) else { break };
            if body[0] == 1 {
                output.extend_from_slice(&rest[..5 + length]);
            }
            rest = after;
        }
        let used = input.len() - rest.len();
        input.drain(..used);
        if !output.is_empty() {
            send.write_all(&output).await?;
            output.clear();
        }
    }
}

fn node(seed: u8) -> Result<(Mesh, Incoming, Directory, Env)> {
    let (env, identity) = (Env::machine(), Identity::from_seed([seed; 32]));
    let directory = Directory::new(identity.id());
    let (mesh, incoming) = Mesh::start(&env, &identity, directory.clone(), Arc::new(Open), ([127, 0, 0, 1], 0).into())?;
    Ok((mesh, incoming, directory, env))
}

fn id(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).id()
}

async fn serve() -> Result<()> {
    let (mesh, _incoming, directory, env) = node(2)?;
    directory.spawn("clerk", Clerk(directory.clone(), env, Tasks::default()), (), None).await?;
    writeln!(std::io::stdout(), "{}", mesh.local_addr())?;
    let ended = || std::io::stdin().read_to_end(&mut Vec::new());
    Tasks::default().spawner().compute(ended).await??;
    mesh.shutdown().await;
    Ok(())
}

// ---- This process ----

/// One measure of one round: ours and the raw stream's, more is better unless it is a time.
struct Line {
    what: &'static str,
    ours: f64,
    raw: f64,
}

async fn measure(other: &mut Child) -> Result<()> {
    let mut at = String::new();
    BufReader::new(other.stdout.take().context("it was piped")?).read_line(&mut at)?;
    let (mesh, _incoming, directory, _) = node(1)?;
    mesh.learn(id(2), at.trim().parse()?);
    let clerk: Handle<Order> = directory.at(id(2), "clerk");
    echo(&clerk).await?;

    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push(run(&mesh, &directory, &clerk).await?);
        writeln!(std::io::stdout(), "round {} of {ROUNDS}, load {}", round + 1, load())?;
    }
    writeln!(std::io::stdout(), "\n{:<28} {:>12} {:>12} {:>8}", "", "link", "raw stream", "ratio")?;
    for i in 0..rounds[0].len() {
        let column = |of: fn(&Line) -> f64| median(rounds.iter().map(|round| of(&round[i])).collect());
        let (ours, raw, ratio) = (column(|l| l.ours), column(|l| l.raw), column(|l| l.ours / l.raw));
        writeln!(std::io::stdout(), "{:<28} {ours:>12.0} {raw:>12.0} {ratio:>8.2}", rounds[0][i].what)?;
    }
    mesh.shutdown().await;
    Ok(())
}

async fn run(mesh: &Mesh, directory: &Directory, clerk: &Handle<Order>) -> Result<Vec<Line>> {
    let (ours, raw) = (sequential(clerk).await?, raw_sequential(mesh).await?);
    let mut lines = vec![
        Line {
            what: "sequential calls/s",
            ours: rate(SEQUENTIAL_CALLS, ours.iter().sum()),
            raw: rate(SEQUENTIAL_CALLS, raw.iter().sum()),
        },
        Line { what: "  median, us", ours: at_permille(&ours, 500), raw: at_permille(&raw, 500) },
        Line { what: "  p99, us", ours: at_permille(&ours, 990), raw: at_permille(&raw, 990) },
    ];
    lines.push(Line {
        what: "calls/s, 64 in flight",
        ours: concurrent(clerk).await?,
        raw: raw_concurrent(mesh).await?,
    });
    lines.push(Line { what: "casts/s", ours: casts(clerk).await?, raw: raw_casts(mesh).await? });
    lines.push(Line { what: "bulk, MB/s", ours: bulk(directory, clerk).await?, raw: raw_bulk(mesh).await? });
    Ok(lines)
}

async fn echo(clerk: &Handle<Order>) -> Result<()> {
    let text = "x".repeat(PAYLOAD_BYTES);
    let answer = clerk.ask(DEADLINE, |port| Order::Echo(Wire(text), port)).await?;
    ensure!(answer.len() == PAYLOAD_BYTES);
    Ok(())
}

async fn sequential(clerk: &Handle<Order>) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(SEQUENTIAL_CALLS);
    for _ in 0..SEQUENTIAL_CALLS {
        let start = Instant::now();
        echo(clerk).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

async fn concurrent(clerk: &Handle<Order>) -> Result<f64> {
    let tasks = Tasks::default();
    let start = Instant::now();
    let done: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (clerk, (done, waited)) = (clerk.clone(), tokio::sync::oneshot::channel());
            tasks.spawn(async move {
                let mut outcome = Ok(());
                for _ in 0..CONCURRENT_CALLS / IN_FLIGHT {
                    outcome = outcome.and(echo(&clerk).await);
                }
                let _ = done.send(outcome);
            });
            waited
        })
        .collect();
    for outcome in try_join_all(done).await? {
        outcome?;
    }
    Ok(rate(CONCURRENT_CALLS, start.elapsed()))
}

async fn casts(clerk: &Handle<Order>) -> Result<f64> {
    let before = clerk.ask(DEADLINE, Order::Taken).await?;
    let start = Instant::now();
    for _ in 0..CASTS {
        clerk.tell(Order::Take(Wire("x".repeat(PAYLOAD_BYTES)))).await?;
    }
    // The answer comes after the last of them: they are in one order.
    let after = clerk.ask(DEADLINE, Order::Taken).await?;
    ensure!(after - before == CASTS as u64);
    Ok(rate(CASTS, start.elapsed()))
}

async fn bulk(directory: &Directory, clerk: &Handle<Order>) -> Result<f64> {
    let ticket = clerk.ask(DEADLINE, Order::Read).await?;
    let mut stream = directory.open(id(2), ticket).await?;
    let (block, start) = (vec![7; BLOCK_BYTES], Instant::now());
    for _ in 0..BULK_BYTES / BLOCK_BYTES {
        stream.writer.write_all(&block).await?;
    }
    stream.writer.shutdown().await?;
    ensure!(stream.reader.read_u64().await? == BULK_BYTES as u64);
    Ok(rate(BULK_BYTES / 1_000_000, start.elapsed()))
}

fn raw_frame(answer: bool, body: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&(body.len() as u32).to_le_bytes());
    to.push(u8::from(answer));
    to.extend_from_slice(body);
}

async fn raw(mesh: &Mesh) -> Result<Streams> {
    Ok(mesh.control(id(2), Protocol::Card).await?)
}

async fn raw_sequential(mesh: &Mesh) -> Result<Vec<Duration>> {
    let (mut send, mut recv) = raw(mesh).await?;
    let mut frame = Vec::new();
    raw_frame(true, &[7; PAYLOAD_BYTES], &mut frame);
    let (mut times, mut answer) = (Vec::with_capacity(SEQUENTIAL_CALLS), vec![0; frame.len()]);
    for _ in 0..SEQUENTIAL_CALLS {
        let start = Instant::now();
        send.write_all(&frame).await?;
        recv.read_exact(&mut answer).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// Keeps so many frames in flight: for each that comes back, another goes out.
async fn raw_concurrent(mesh: &Mesh) -> Result<f64> {
    let (mut send, mut recv) = raw(mesh).await?;
    let mut frame = Vec::new();
    raw_frame(true, &[7; PAYLOAD_BYTES], &mut frame);
    let start = Instant::now();
    send.write_all(&frame.repeat(IN_FLIGHT)).await?;
    let (mut sent, mut bytes, mut input) = (IN_FLIGHT, 0, vec![0; BLOCK_BYTES]);
    while bytes < CONCURRENT_CALLS * frame.len() {
        bytes += recv.read(&mut input).await?.context("the stream stands")?;
        let next = (bytes / frame.len() + IN_FLIGHT - sent).min(CONCURRENT_CALLS - sent);
        send.write_all(&frame.repeat(next)).await?;
        sent += next;
    }
    Ok(rate(CONCURRENT_CALLS, start.elapsed()))
}

async fn raw_casts(mesh: &Mesh) -> Result<f64> {
    raw_push(mesh, PAYLOAD_BYTES, CASTS).await
}

async fn raw_bulk(mesh: &Mesh) -> Result<f64> {
    let blocks = raw_push(mesh, BLOCK_BYTES, BULK_BYTES / BLOCK_BYTES).await?;
    Ok(blocks * BLOCK_BYTES as f64 / 1e6)
}

/// Sends frames of which the last alone is answered; frames a second.
async fn raw_push(mesh: &Mesh, body: usize, count: usize) -> Result<f64> {
    let (mut send, mut recv) = raw(mesh).await?;
    let (body, start) = (vec![7; body], Instant::now());
    let mut batch = Vec::new();
    for i in 1..=count {
        raw_frame(i == count, &body, &mut batch);
        if batch.len() >= BLOCK_BYTES || i == count {
            send.write_all(&batch).await?;
            batch.clear();
        }
    }
    recv.read_exact(&mut vec![0; 5 + body.len()]).await?;
    Ok(rate(count, start.elapsed()))
}

fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn at_permille(times: &[Duration], permille: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() - 1) * permille / 1000].as_secs_f64() * 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The machine's load averages, to judge the rest by.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
