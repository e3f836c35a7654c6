//! `ask_agent`: a message to another agent that the swarm has defined, and its answer.
//!
//! The thread's node keeps both in the thread, decides whether this agent may ask that one, and has it answered by a turn
//! of its own: with its own instructions, tools and rights, out of the thread's budget.

use super::{Bench, Tool, text};
use crate::thread::{self, messages::Ask};
use serde_json::Value;
use skep_runtime::Wire;

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
    let threads = bench.context.directory.at::<thread::Message>(seat.owner, thread::NAME);
    let asked = threads.ask(bench.patience, |reply| thread::Message::Ask(Wire(ask), reply));
    tokio::select! {
        answer = asked => answer.map_err(|e| e.to_string())?.map_err(|e| e.to_string()),
        () = bench.stop.cancelled() => Err("the run has ended".into()),
    }
}
