//! The life of one run: start, output, end. Whatever the end is, nothing of the command is left when it is over,
//! also if this future is dropped.

use super::{
    family::Family,
    fence::{Breach, Level, Limits, watch::Watch},
    goods::{self, Missing},
    imitation::imitate,
    kept::First,
    launch::{Launched, launch},
    mark::Mark,
    output::Sink,
    scratch::Scratch,
};
use crate::{
    Context,
    scheduler::messages::{Ending, Run, State},
};
use rustix::process::Signal;
use skep_runtime::tasks::Spawner;
use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How long a command has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);
/// How long killed processes may take to go; longer is a process that hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether they are gone.
const KILL_PAUSE: Duration = Duration::from_millis(20);
/// How often what could not be killed is looked at.
const LEFT_PAUSE: Duration = Duration::from_secs(1);
/// How often what broke a limit is told to stand still before it is killed: each time fewer are left that fork.
const FREEZES_MAX: u32 = 20;
/// Bytes that are read from a command at once.
const READ_BYTES: usize = 64 << 10;

/// Until when what runs is good, if that isn't for ever.
type Leash = watch::Receiver<Option<Duration>>;

/// Why a run is over.
enum Over {
    Exited(std::io::Result<ExitStatus>),
    Stopped,
    TimedOut,
    Breached(Breach),
}

/// Runs the command behind a fence of this level, to its end or until `stop`. The ending has no output yet: [`Sink::end`] adds it.
pub(super) async fn work(
    context: &Context,
    run: &Run,
    level: Level,
    sink: &mut Sink,
    (stop, good): (&CancellationToken, Leash),
) -> Ending {
    let deadline = (run.spec.timeout_s > 0).then(|| Instant::now() + Duration::from_secs(run.spec.timeout_s));
    if context.env.simulated() {
        let given = goods::fetch(context, &run.spec.files.inputs);
        return match before(given, stop, deadline, run.spec.timeout_s).await {
            Ok(()) => imitated(run, sink, stop, deadline).await,
            Err(ending) => ending,
        };
    }
    let scratch = match context.scratches.take() {
        Ok(scratch) => scratch,
        Err(e) => return failed(None, format!("it has no folder to work in: {e}")),
    };
    let given = goods::place(context, &scratch.work, &run.spec.files.inputs);
    let (mut ending, left, disk_bytes) = match before(given, stop, deadline, run.spec.timeout_s).await {
        Ok(bytes) => live(context, run, (&scratch, bytes, level), sink, (stop, good), deadline).await,
        Err(ending) => (ending, false, 0),
    };
    if !left {
        if !ending.lost && ending.state != State::Cancelled && !run.spec.files.outputs.is_empty() {
            ending = tokio::select! {
                biased;
                ending = with_artefacts(context, run, (&scratch, disk_bytes), ending.clone()) => ending,
                () = stop.cancelled() => Ending {
                    error: Some("it had ended, and was cancelled while its files were stored".into()),
                    ..self::ending(Over::Stopped, 0)
                },
            };
        }
        // What it left would count against nobody.
        context.scratches.give_back(scratch, !run.spec.files.inputs.is_empty(), &context.tasks).await;
    }
    ending
}

/// Gives a command its files. How it ends if it doesn't get them.
async fn before<T>(
    given: impl Future<Output = Result<T, Missing>>,
    stop: &CancellationToken,
    deadline: Option<Instant>,
    timeout_s: u64,
) -> Result<T, Ending> {
    tokio::select! {
        biased;
        given = given => given.map_err(|missing| Ending { lost: missing.elsewhere, ..failed(None, missing.why) }),
        () = stop.cancelled() => Err(ending(Over::Stopped, timeout_s)),
        () = until(deadline) => Err(ending(Over::TimedOut, timeout_s)),
    }
}

/// Keeps what a command left. One that would have completed fails if that is not all that it was to leave.
async fn with_artefacts(context: &Context, run: &Run, (scratch, bytes_max): (&Scratch, u64), ending: Ending) -> Ending {
    let collected = goods::collect(context, &scratch.work, (&run.spec.files, bytes_max), run.owner).await;
    let (artefacts, why) = match collected {
        Ok((artefacts, None)) => return Ending { artefacts, ..ending },
        Ok((artefacts, Some(missing))) => (artefacts, format!("it left nothing under its output {missing}")),
        Err(why) => (Vec::new(), why),
    };
    match ending.state {
        State::Completed => Ending { state: State::Failed, error: Some(why), artefacts, ..ending },
        _ => Ending { artefacts, ..ending },
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs it in these folders, where so many bytes were put. Whether something of it is left, and how many bytes might be in
/// them.
async fn live(
    context: &Context,
    run: &Run,
    (scratch, given_bytes, level): (&Scratch, u64, Level),
    sink: &mut Sink,
    (stop, mut good): (&CancellationToken, Leash),
    deadline: Option<Instant>,
) -> (Ending, bool, u64) {
    let started = {
        let mark = Mark { node: context.directory.id(), task: run.id, attempt: run.attempt };
        let until_ms = good.borrow_and_update().map_or(u64::MAX, |until| until.as_millis() as u64);
        launch(mark, &run.spec, scratch, (level, until_ms), (context, context.fences.found(context).await)).await
    };
    let Launched { mut first, output, family, limits } = match started {
        Ok(launched) => launched,
        Err(e) => return (failed(None, format!("it could not be started: {e}")), false, 0),
    };
    let mut guard = Guard(Some(family));
    // What it was given is not what it writes.
    let limits = Limits { disk_bytes: limits.disk_bytes.saturating_add(given_bytes), ..limits };
    let watch = Watch { limits, family, folders: scratch.folders().map(Into::into).to_vec() };
    let life = async {
        let over = over(&mut first, (stop, &mut good), deadline, watch.breach(&context.tasks)).await;
        let left = !first.is_whole() && end(&mut first, family, &over, &context.tasks).await;
        (over, left)
    };
    let (over, mut left) = pump_beside(life, output, sink).await;
    // What never may run twice at once is not over while the kernel holds on to something of it.
    while left && run.spec.course.once {
        sleep(LEFT_PAUSE).await;
        left = context.tasks.compute(move || family.signal(Signal::KILL)).await.unwrap_or(true);
    }
    if left {
        tracing::error!(task = %run.id, "processes of a command could not be killed");
    } else {
        guard.0 = None;
        first.retire(&context.keepers, &context.tasks).await;
    }
    // One that was ended since nobody moved its moment on ran while its node stood still: it counts as lost.
    let unseen = run.spec.course.once && matches!(over, Over::Exited(Err(_)));
    (Ending { lost: unseen, ..ending(over, run.spec.timeout_s) }, left, limits.disk_bytes)
}

/// Kills what an earlier process of this node left of a run. Blocks for as long as `/proc` takes.
pub(crate) fn sweep(mark: Mark) -> bool {
    Family::of_mark(mark).signal(Signal::KILL)
}

async fn over(
    first: &mut First,
    (stop, good): (&CancellationToken, &mut Leash),
    deadline: Option<Instant>,
    breach: impl Future<Output = Breach>,
) -> Over {
    let timed_out = until(deadline);
    let (mut timed_out, mut breach) = (std::pin::pin!(timed_out), std::pin::pin!(breach));
    loop {
        tokio::select! {
            biased;
            status = first.ended() => return Over::Exited(status),
            () = stop.cancelled() => return Over::Stopped,
            () = &mut timed_out => return Over::TimedOut,
            breach = &mut breach => return Over::Breached(breach),
            Ok(()) = good.changed() => {}
        }
        if let Some(until) = *good.borrow_and_update() {
            first.good(until.as_millis() as u64);
        }
    }
}

/// Ends the family: politely if it still runs, then by force. `true` if something could not be killed.
async fn end(first: &mut First, family: Family, over: &Over, tasks: &Spawner) -> bool {
    let signal = |signal| {
        let sent = tasks.compute(move || family.signal(signal));
        async move { sent.await.unwrap_or(true) }
    };
    if matches!(over, Over::Breached(_)) {
        // It takes more every moment, and a bomb is faster than who looks for its parts: first all of them stand still.
        for _ in 0..FREEZES_MAX {
            let before = tasks.compute(move || family.members().len()).await.unwrap_or(0);
            signal(Signal::STOP).await;
            if tasks.compute(move || family.members().len()).await.is_ok_and(|now| now <= before) {
                break;
            }
        }
    } else if !matches!(over, Over::Exited(_)) {
        signal(Signal::TERM).await;
        let by = Instant::now() + GRACE;
        while timeout_at(by, first.ended()).await.is_ok() {
            let gone = tasks.compute(move || family.is_gone()).await.unwrap_or(false);
            if gone || Instant::now() >= by {
                break;
            }
            sleep(KILL_PAUSE).await;
        }
    }
    let by = Instant::now() + KILL_TIMEOUT;
    while signal(Signal::KILL).await {
        // A zombie is no process of the family, but it is ours to reap.
        let _ = timeout(KILL_PAUSE, first.ended()).await;
        if Instant::now() >= by {
            return true;
        }
        sleep(KILL_PAUSE).await;
    }
    timeout(KILL_TIMEOUT, first.ended()).await.is_err()
}

/// Reads the output while the command lives, and to the pipe's end after it. A process that got away may hold
/// the pipe open, so the end is waited for only so long.
async fn pump_beside<T>(life: impl Future<Output = T>, mut output: pipe::Receiver, sink: &mut Sink) -> T {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut pump = std::pin::pin!(async {
        while let Ok(1..) = output.read_buf(&mut buffer).await {
            sink.append(&buffer).await;
            buffer.clear();
        }
    });
    let mut life = std::pin::pin!(life);
    tokio::select! {
        () = &mut pump => life.await,
        ended = &mut life => {
            let _ = timeout(KILL_TIMEOUT, pump).await;
            ended
        }
    }
}

async fn imitated(run: &Run, sink: &mut Sink, stop: &CancellationToken, deadline: Option<Instant>) -> Ending {
    let over = tokio::select! {
        biased;
        () = stop.cancelled() => Over::Stopped,
        status = imitate(&run.spec.command, run.attempt, sink) => Over::Exited(Ok(ExitStatus::from_raw(status << 8))),
        () = until(deadline) => Over::TimedOut,
    };
    ending(over, run.spec.timeout_s)
}

fn ending(over: Over, timeout_s: u64) -> Ending {
    match over {
        Over::Stopped => Ending { state: State::Cancelled, error: None, ..failed(None, String::new()) },
        Over::TimedOut => failed(None, format!("it ran longer than its limit of {timeout_s} s and was ended")),
        Over::Breached(breach) => failed(None, format!("it was ended: {breach}")),
        Over::Exited(Err(e)) => failed(None, format!("its end could not be observed: {e}")),
        Over::Exited(Ok(status)) => match (status.code(), status.signal()) {
            (Some(0), _) => Ending { state: State::Completed, error: None, ..failed(Some(0), String::new()) },
            (Some(code), _) => failed(Some(code), explain(code)),
            (None, Some(signal)) => failed(None, format!("it was ended by signal {signal}")),
            (None, None) => failed(None, "it ended without a status".into()),
        },
    }
}

/// What a status other than 0 means, by the shell's conventions.
fn explain(code: i32) -> String {
    match code {
        126 => "it ended with status 126: the program can't be executed".into(),
        127 => "it ended with status 127: there is no such program on this node".into(),
        153 => "it ended with status 153: a file grew larger than it may (limit disk)".into(),
        129..=192 => format!("it ended with status {code}: signal {}", code - 128),
        _ => format!("it ended with status {code}"),
    }
}

fn failed(exit_code: Option<i32>, why: String) -> Ending {
    Ending {
        state: State::Failed,
        exit_code,
        error: Some(why),
        output: String::new(),
        output_bytes: 0,
        artefacts: Vec::new(),
        lost: false,
    }
}

/// Kills the family if the run is dropped before it is over.
struct Guard(Option<Family>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(family) = self.0 {
            family.signal(Signal::KILL);
        }
    }
}
