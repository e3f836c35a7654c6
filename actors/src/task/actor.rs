//! The actor of one running command: owns its job, and tells the scheduler of this node how it ended.

use super::{
    Level, Message, job, name,
    output::{Output, Sink},
};
use crate::{
    Context,
    scheduler::{
        self,
        messages::{Ending, Run},
        runs::lost,
    },
};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Reach, Tasks, Wire, defaults::ASK_TIMEOUT};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a stopping actor waits for its command: the grace and the killing, with some room.
const STOP_TIMEOUT: Duration = Duration::from_secs(9);
/// How often an ending is told again to a scheduler that does not answer (it is being started again).
const TELL_PAUSE: Duration = Duration::from_millis(500);

/// What other nodes may say: only this one ends or prolongs what runs on it.
const REMOTE: Reach = Reach::Only(&["Look"]);

/// One running command.
struct TaskActor;

/// What a TaskActor is started with.
struct Start {
    context: Context,
    run: Run,
    level: Level,
    until: Option<Duration>,
    sink: Sink,
}

/// A TaskActor's own.
struct State {
    output: Output,
    stop: CancellationToken,
    /// Until when it is good.
    good: watch::Sender<Option<Duration>>,
    done: watch::Receiver<bool>,
    tasks: Tasks,
}

/// Starts the run under `supervisor`, behind a fence of this level; it is good until then by `Env::elapsed`, if it isn't for
/// ever. Its output goes to `sink`.
///
/// # Errors
/// The actor could not be spawned; the command was not started.
pub async fn start(
    context: &Context,
    run: Run,
    (level, until): (Level, Option<Duration>),
    sink: Sink,
    supervisor: ActorCell,
) -> Result<ActorCell, SpawnErr> {
    let name = name(run.id);
    let start = Start { context: context.clone(), run, level, until, sink };
    let actor = context.directory.spawn_within(REMOTE, &name, TaskActor, start, Some(supervisor)).await?;
    Ok(actor.get_cell())
}

impl Actor for TaskActor {
    type Msg = Message;
    type State = State;
    type Arguments = Start;

    async fn pre_start(&self, me: ActorRef<Message>, start: Start) -> Result<State, ActorProcessingErr> {
        let tasks = start.context.env.tasks();
        let stop = CancellationToken::new();
        let (finished, done) = watch::channel(false);
        let (good, leash) = watch::channel(start.until);
        let output = start.sink.output();
        let stopped = stop.clone();
        tasks.spawn(async move {
            let Start { context, run, level, mut sink, .. } = start;
            let ending = job::work(&context, &run, level, &mut sink, (&stopped, leash)).await;
            tracing::debug!(task = %run.id, attempt = run.attempt, "a command is over");
            let ending = sink.end(ending, &context.tasks).await;
            finished.send_replace(true);
            tell(&context, &run, ending).await;
            me.stop(None);
        });
        Ok(State { output, stop, good, done, tasks })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Good(Wire(until_ms)) => {
                state.good.send_replace(Some(Duration::from_millis(until_ms)));
                Ok(())
            }
            Message::Look(reply) => {
                // Who asked may have given up: no reason to end the command.
                let _ = reply.send(Wire(state.output.look()));
                Ok(())
            }
            Message::Stop(reply) => {
                state.stop.cancel();
                let mut done = state.done.clone();
                state.tasks.spawn(async move {
                    // An error says that the job is gone, hence its processes too.
                    let _ = done.wait_for(|done| *done).await;
                    let _ = reply.send(Wire(()));
                });
                Ok(())
            }
        }
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.stop.cancel();
        let _ = timeout(STOP_TIMEOUT, state.done.wait_for(|done| *done)).await;
        Ok(())
    }
}

async fn tell(context: &Context, run: &Run, ending: Ending) {
    let scheduler = context.directory.here::<scheduler::Message>(scheduler::NAME);
    // A whole ending that would not fit a message is a bug; the scheduler shall know that it ended nevertheless.
    let mut said = Wire((run.id, run.attempt, ending));
    loop {
        let message = said.clone();
        match scheduler.ask(ASK_TIMEOUT, |reply| scheduler::Message::Ended(message, reply)).await {
            Ok(()) => return,
            Err(skep_runtime::Error::TooLarge { .. }) => said.0.2 = lost("its ending was too large to be told"),
            Err(_) => sleep(TELL_PAUSE).await,
        }
    }
}
