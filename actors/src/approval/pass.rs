//! How a run passes: asks whether a call may be made, waits if somebody has to be asked, and says what came of it. What is
//! refused before anybody could be asked is written down here, too.
//!
//! Whatever fails on the way is a no: a call of which nobody knows whether it may be made is not made.

use super::{
    NAME,
    desk::{JUDGE_TIMEOUT, WAIT_TIMEOUT, judged},
    messages::{Call, Judged, Message},
};
use crate::{
    Context,
    agent::bounded,
    audit::{self, Verdict, What, entry::COPY_BYTES_MAX},
    digest::Digest,
};
use skep_runtime::{Wire, defaults::ASK_TIMEOUT};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a refusal or the end of a call may take to be written down. The model has its result meanwhile.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause after a wait that failed: the actor is started again.
const WAIT_PAUSE: Duration = Duration::from_secs(1);

const ENDED: &str = "the run has ended";

/// A call that is made, from here on.
pub(crate) struct Passed {
    context: Context,
    call: Uuid,
    turn: Uuid,
    began: Instant,
}

/// Waits until a call may be made. `Err`: it may not, and what the model is told.
pub(crate) async fn pass(context: &Context, call: Call, stop: &CancellationToken) -> Result<Passed, String> {
    let approvals = context.directory.here::<Message>(NAME);
    let mut waited = None;
    loop {
        let ask = Wire((call.clone(), waited));
        let judged = approvals.ask(JUDGE_TIMEOUT, |port| Message::Judge(ask, port)).await;
        match judged.map_err(|error| unjudged(&error))?.map_err(|error| unjudged(&error))? {
            Judged::May => {
                let (context, began) = (context.clone(), Instant::now());
                let passed = Passed { context, call: call.id, turn: call.who.turn, began };
                if stop.is_cancelled() {
                    passed.ended(&Err(ENDED.into())).await;
                    return Err(ENDED.into());
                }
                return Ok(passed);
            }
            Judged::MayNot(why) => return Err(why),
            Judged::Waits(id) => {
                waited = Some(id);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Err(ENDED.into()),
                    over = approvals.ask(WAIT_TIMEOUT, |port| Message::Wait(Wire(id), port)) => if over.is_err() {
                        sleep(WAIT_PAUSE).await;
                    }
                }
            }
        }
    }
}

fn unjudged(error: &dyn std::fmt::Display) -> String {
    format!("not done: it is not known whether it may be: {error}")
}

/// A run has ended: nobody has to be asked on its behalf any more.
pub(crate) async fn withdraw(context: &Context, run: Uuid) {
    let approvals = context.directory.here::<Message>(NAME);
    // What is left is refused when its time is over.
    let _ = approvals.ask(ASK_TIMEOUT, |port| Message::Withdraw(Wire(run), port)).await;
}

impl Passed {
    /// The call has come to its end.
    pub(crate) async fn ended(self, result: &Result<String, String>) {
        let text = result.as_ref().unwrap_or_else(|why| why);
        let ended = What::Ended {
            call: self.call,
            turn: self.turn,
            ok: result.is_ok(),
            output: bounded(text, COPY_BYTES_MAX),
            result: Digest::of(text.as_bytes()),
            took_ms: self.began.elapsed().as_millis() as u64,
        };
        note(&self.context, self.call, ended).await;
    }
}

/// A call that is beyond what its run may do: the policy is not asked about it.
pub(crate) async fn refused(context: &Context, call: &Call, why: String) {
    note(context, call.id, judged(call, Verdict::Deny, None, Some(why), None)).await;
}

/// Writes what nobody waits for: it is done, or not done, already.
async fn note(context: &Context, call: Uuid, what: What) {
    let audit = context.directory.here::<audit::Message>(audit::NAME);
    let noted = audit.ask(END_TIMEOUT, |port| audit::Message::Append(Wire(vec![what]), port)).await;
    if !matches!(noted, Ok(Ok(_))) {
        tracing::warn!(%call, "what became of a call could not be written into the audit log");
    }
}
