//! `run_task`: a command through the scheduler, with its output.

use super::{Bench, Tool, maybe_text, text};
use crate::scheduler::{
    self, Demand, Message, Record, Spec, State,
    messages::{Ending, Output},
};
use serde_json::Value;
use skep_runtime::{Handle, Wire, defaults::ASK_TIMEOUT, frames};
use std::time::Duration;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};
use uuid::Uuid;

/// Its name.
pub const NAME: &str = "run_task";
/// What it is.
pub const TOOL: Tool = Tool {
    name: NAME,
    args: "{\"command\": TEXT, \"node\": TEXT or null}",
    about: "run a shell command on a machine of the swarm and see its output",
    repeatable: true,
};

/// Bytes of output that are given back: its end, where results and errors stand.
const OUTPUT_BYTES_MAX: usize = 8 << 10;
/// Bytes of a command.
const COMMAND_BYTES_MAX: usize = 8 << 10;
/// How long a scheduler whose disk is slow may take to take a command in, before it is no longer waited for at all.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to wait for a command to end that is being cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn call(bench: Bench, args: &Value) -> Result<String, String> {
    let command = text(args, "command")?;
    if command.is_empty() || command.len() > COMMAND_BYTES_MAX {
        return Err(format!("a command has 1 to {COMMAND_BYTES_MAX} bytes"));
    }
    let spec = Spec {
        node: maybe_text(args, "node")?.map(str::to_owned),
        // No other machine than those that keep it in as well as its tree's root does, whatever the model says.
        demand: Demand { sandbox: Some(bench.sandbox), ..Demand::default() },
        timeout_s: bench.patience.as_secs().max(1),
        idempotency_key: Some(bench.key.clone()),
        ..Spec::new(command)
    };
    let scheduler = bench.context.directory.here::<Message>(scheduler::NAME);
    let record = submitted(&bench, &scheduler, spec).await?;
    let ended = tokio::select! {
        ended = followed(&bench, &scheduler, record.id) => ended,
        () = bench.stop.cancelled() => Err("the run has ended".into()),
    };
    if ended.is_err() {
        // Nobody will read it: it is not to go on.
        let cancelled = scheduler.ask(CANCEL_TIMEOUT, |reply| Message::Cancel(Wire(record.id), reply)).await;
        tracing::debug!(task = %record.id, ok = cancelled.is_ok(), "an agent's command was cancelled");
    }
    let (ending, output) = ended?;
    let exit = match (ending.state, ending.exit_code, ending.error) {
        (State::Completed, ..) => "exit status 0".to_owned(),
        (_, Some(code), _) => format!("exit status {code}"),
        (state, None, error) => format!("{state:?}: {}", error.unwrap_or_default()),
    };
    Ok(format!("{exit}\n{output}"))
}

/// Hands the command in. One that was taken in too late, or for a run that has ended, is cancelled: the model was told
/// that it was not, and may try again.
async fn submitted(bench: &Bench, scheduler: &Handle<Message>, spec: Spec) -> Result<Record, String> {
    let (done, taken) = oneshot::channel();
    let scheduler = scheduler.clone();
    bench.context.tasks.spawn(async move {
        let submitted = scheduler.ask(SUBMIT_TIMEOUT, |reply| Message::Submit(Wire(spec), reply)).await;
        if let Err(Ok(Ok(Record { id, .. }))) = done.send(submitted) {
            let cancelled = scheduler.ask(CANCEL_TIMEOUT, |reply| Message::Cancel(Wire(id), reply)).await;
            tracing::debug!(task = %id, ok = cancelled.is_ok(), "a command that was taken in too late was cancelled");
        }
    });
    let submitted = tokio::select! {
        submitted = timeout(ASK_TIMEOUT, taken) => submitted.map_err(|_| "the scheduler is busy: it was not run")?,
        () = bench.stop.cancelled() => return Err("the run has ended".into()),
    };
    let submitted = submitted.map_err(|_| "the node stops")?;
    submitted.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Reads the command's output to its end; keeps the last part.
async fn followed(bench: &Bench, scheduler: &Handle<Message>, task: Uuid) -> Result<(Ending, String), String> {
    let until = Instant::now() + bench.patience;
    let directory = &bench.context.directory;
    let expected = directory.expect(directory.id(), bench.context.env.ticket()).map_err(|e| e.to_string())?;
    let asked = Wire((task, directory.id(), expected.ticket()));
    let followed = scheduler.ask(ASK_TIMEOUT, |reply| Message::Follow(asked, reply)).await;
    followed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let mut stream = expected.opened().await.map_err(|e| e.to_string())?;
    let (mut tail, mut skipped) = (Vec::new(), false);
    loop {
        let frame = timeout_at(until, frames::read::<Output>(&mut stream.reader)).await;
        match frame.map_err(|_| "it took too long and was ended")?.map_err(|e| e.to_string())? {
            Some(Output::Bytes(bytes)) => {
                tail.extend(bytes);
                if tail.len() > OUTPUT_BYTES_MAX {
                    skipped = true;
                    tail.drain(..tail.len() - OUTPUT_BYTES_MAX);
                }
            }
            Some(Output::Skipped(_)) => skipped = true,
            Some(Output::Ended(ending)) => {
                let text = String::from_utf8_lossy(&tail);
                let text = if skipped { format!("(earlier output is left out)\n{text}") } else { text.into_owned() };
                return Ok((ending, text));
            }
            None => return Err("the command's output broke off: its node may be down".into()),
        }
    }
}
