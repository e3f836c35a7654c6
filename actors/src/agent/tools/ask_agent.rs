//! `ask_agent`: a message to another agent that the swarm has defined, and its answer.
//!
//! The thread's node keeps both in the thread, decides whether this agent may ask that one, and has it answered by a turn
//! of its own: with its own instructions, tools and rights, out of the thread's budget.

use super::{Bench, Tool, text};
use crate::{
    agent::Seat,
    thread::{self, ThreadError, messages::Ask},
};
use serde_json::Value;
use skep_runtime::{Error, Wire};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The pause before a thread's keeper is asked again that didn't answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Its name.
pub const NAME: &str = "ask_agent";
/// What it is.
pub const TOOL: Tool = Tool {
    name: NAME,
    args: "{\"agent\": NAME, \"message\": TEXT}",
    about: "ask another agent and see its answer",
    repeatable: true,
};

pub(super) async fn call(bench: Bench, args: &Value) -> Result<String, String> {
    let (to, message) = (text(args, "agent")?, text(args, "message")?);
    let seat = bench.seat.as_ref().ok_or("only an agent that the swarm has defined asks others")?;
    let ask = Ask {
        key: bench.key.clone(),
        thread: seat.thread,
        turn: seat.turn,
        to: to.to_owned(),
        text: message.to_owned(),
    };
    let asked = async {
        loop {
            match put(&bench, seat, &ask).await {
                // Its keeper is gone, or not yet the one that it is asked as. The same question is asked once.
                Err(Error::LinkDown(_) | Error::NoReply | Error::Timeout | Error::NoSuchActor(_) | Error::Busy(_))
                | Ok(Err(ThreadError::Moving(_))) => sleep(PAUSE).await,
                Err(error) => return Err(error.to_string()),
                Ok(answer) => return answer.map_err(|e| e.to_string()),
            }
        }
    };
    tokio::select! {
        answer = timeout(bench.patience, asked) => answer.map_err(|_| "nobody answered in time".to_owned())?,
        () = bench.stop.cancelled() => Err("the run has ended".into()),
    }
}

/// Asks whoever keeps the thread now.
async fn put(bench: &Bench, seat: &Seat, ask: &Ask) -> Result<Result<String, ThreadError>, Error> {
    let keeper = thread::keeper(&bench.context, seat.thread).await.unwrap_or(seat.owner);
    let threads = bench.context.directory.at::<thread::Message>(keeper, thread::NAME);
    threads.ask(bench.patience, |reply| thread::Message::Ask(Wire(ask.clone()), reply)).await
}
