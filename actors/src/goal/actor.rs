//! The actor: checks a plan, writes it down, hands its commands to the scheduler of this node, and tells how far goals are.
//!
//! What takes long runs beside the mailbox. If this node dies while it hands commands over, nobody was told that the goal
//! was taken: who asks again with the same key has the rest handed over, whichever node that is.

use super::{
    NAME, graph,
    messages::{Counts, Goal, GoalError, Message, Outline, Plan, Shown, Status, Step, Task},
};
use crate::{
    Context,
    ledger::{self, Collection, Write},
    scheduler::{self, Gang, Part, ScheduleError, Spec, State, course, spec},
};
use futures::{StreamExt, TryStreamExt, stream};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use skep_runtime::{Handle, Tasks, Wire, defaults::ASK_TIMEOUT};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Every goal's plan, by its id's bytes.
const GOALS: Collection<Goal> = Collection::new(4, 1);
/// Goals that are kept, at some hundred bytes a step: a year of several a day.
const GOALS_MAX: usize = 2000;
/// Commands that are handed over, or ended, at the same time.
const AT_ONCE: usize = 64;
/// Questions that are worked on at once.
const QUESTIONS_MAX: usize = 64;
/// How long the end of a command may take that is being cancelled: its grace, and its killing.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(25);
/// Ids of one question about states, which fits a message.
const STATES_MAX: usize = 1000;
/// Goals in one list.
const LIST_MAX: u32 = 500;

struct GoalActor;

/// What the actor and its tasks share.
struct Goals {
    context: Context,
    places: Arc<Semaphore>,
}

struct Own {
    goals: Arc<Goals>,
    tasks: Tasks,
}

/// Starts the actor and publishes it. The scheduler must be there first.
///
/// # Errors
/// The actor could not be spawned.
pub async fn start(context: &Context, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    // Its owner's alone: other nodes have their own.
    let actor = context.directory.spawn_within(
        skep_runtime::Reach::Only(&[]),
        NAME,
        GoalActor,
        context.clone(),
        Some(supervisor),
    );
    Ok(actor.await?.get_cell())
}

impl Actor for GoalActor {
    type Msg = Message;
    type State = Own;
    type Arguments = Context;

    async fn pre_start(&self, _: ActorRef<Message>, context: Context) -> Result<Own, ActorProcessingErr> {
        let tasks = context.env.tasks();
        let places = Arc::new(Semaphore::new(QUESTIONS_MAX));
        Ok(Own { goals: Arc::new(Goals { context, places }), tasks })
    }

    async fn handle(&self, _: ActorRef<Message>, message: Message, own: &mut Own) -> Result<(), ActorProcessingErr> {
        let goals = own.goals.clone();
        // Beyond that the mailbox waits.
        let place = goals.places.clone().acquire_owned().await.expect("the places are never closed");
        own.tasks.spawn(async move {
            // Who asked may have given up.
            match message {
                Message::Create(Wire(plan), reply) => drop(reply.send(Wire(Box::pin(goals.create(plan)).await))),
                Message::Get(Wire(id), reply) => drop(reply.send(Wire(goals.get(id).await))),
                Message::List(Wire(max), reply) => drop(reply.send(Wire(goals.list(max.min(LIST_MAX)).await))),
                Message::Cancel(Wire(id), reply) => drop(reply.send(Wire(Box::pin(goals.cancel(id)).await))),
            }
            drop(place);
        });
        Ok(())
    }
}

impl Goals {
    async fn create(&self, plan: Plan) -> Result<Shown, GoalError> {
        let (steps, order) = graph::order(&plan)?;
        for step in &plan.steps {
            let why = |error| GoalError::Step { step: step.name.clone(), error };
            spec::check(&entered(Uuid::nil(), step, 0, Vec::new())).map_err(why)?;
            if step.spec.idempotency_key.is_some() || !step.spec.course.after.is_empty() {
                let (field, reason) = ("after", "and a key are the goal's own to give".to_owned());
                return Err(why(ScheduleError::Invalid { field: field.into(), reason }));
            }
        }
        let key = plan.idempotency_key.as_ref().map(|key| spec::named_by(&format!("goal\0{key}")));
        let id = key.unwrap_or_else(|| self.context.env.id());
        let goal = Goal {
            id,
            title: plan.title.clone(),
            description: plan.description.clone(),
            steps,
            created_ms: self.context.env.now_ms(),
        };
        // Of the first time: it says which commands there are.
        let goal = match self.known(id)? {
            Some(known) if known.steps == goal.steps => known,
            Some(_) => return bad("idempotency_key", "named another goal before"),
            None => {
                self.write(&goal).await?;
                goal
            }
        };
        for place in order {
            self.hand_over(&goal, &plan.steps[place], key.is_some()).await?;
        }
        self.shown(goal, true).await
    }

    /// Has the scheduler take a step's commands. Those that it has already stay as they are.
    async fn hand_over(&self, goal: &Goal, step: &Step, again: bool) -> Result<(), GoalError> {
        let outline = goal.steps.iter().find(|outline| outline.name == step.name);
        let after: Vec<Uuid> = outline.into_iter().flat_map(|outline| prerequisites(goal, outline)).collect();
        let scheduler = self.scheduler();
        let submissions = (0..step.count).map(|index| {
            let entry = Wire((task(goal.id, &step.name, index), entered(goal.id, step, index, after.clone()), again));
            let scheduler = scheduler.clone();
            async move { scheduler.ask(ASK_TIMEOUT, |reply| scheduler::Message::Enter(entry, reply)).await }
        });
        let taken = stream::iter(submissions).buffer_unordered(AT_ONCE);
        let why = |error| GoalError::Step { step: step.name.clone(), error };
        taken.map(|taken| taken.map_err(ScheduleError::from)?.map(drop)).map_err(why).try_collect().await
    }

    async fn get(&self, id: Uuid) -> Result<Shown, GoalError> {
        let goal = self.known(id)?.ok_or(GoalError::NoSuchGoal(id))?;
        self.shown(goal, true).await
    }

    async fn list(&self, max: u32) -> Vec<Shown> {
        let mut goals = Vec::new();
        if let Err(error) = self.context.ledger.visit(GOALS, |record| goals.push(record.value)) {
            tracing::warn!(%error, "goals can't be read");
        }
        goals.sort_by_key(|goal: &Goal| (std::cmp::Reverse(goal.created_ms), goal.id));
        goals.truncate(max as usize);
        let mut shown = Vec::new();
        for goal in goals {
            shown.extend(self.shown(goal, false).await);
        }
        shown
    }

    async fn cancel(&self, id: Uuid) -> Result<Shown, GoalError> {
        let goal = self.known(id)?.ok_or(GoalError::NoSuchGoal(id))?;
        let shown = self.shown(goal.clone(), true).await?;
        let open = |task: &&Task| task.state.is_some_and(|state| !state.ended());
        let open: Vec<Uuid> = shown.tasks.iter().filter(open).map(|task| task.id).collect();
        if open.is_empty() {
            self.put(GOALS.write(id.as_bytes(), 0, None)).await?;
            return Ok(shown);
        }
        // The last ones first: what waits shall not begin when what it waits for is over.
        let cancel = |id: &Uuid| {
            let (scheduler, id) = (self.scheduler(), *id);
            async move { scheduler.ask(CANCEL_TIMEOUT, |reply| scheduler::Message::Cancel(Wire(id), reply)).await }
        };
        let ended: Vec<_> = stream::iter(open.iter().rev()).map(cancel).buffered(AT_ONCE).collect().await;
        // One that has ended meanwhile is no failure.
        let failed = |answer: Result<_, ScheduleError>| answer.err().filter(|e| !matches!(e, ScheduleError::Over(_)));
        let failed =
            ended.into_iter().find_map(|answer| failed(answer.map_err(ScheduleError::from).flatten().map(drop)));
        match failed {
            Some(error) => Err(GoalError::Step { step: goal.title, error }),
            None => self.shown(goal, true).await,
        }
    }

    /// A goal with the states of its commands, as far as they are known here.
    async fn shown(&self, goal: Goal, with_tasks: bool) -> Result<Shown, GoalError> {
        let mut tasks: Vec<Task> = goal.steps.iter().flat_map(|step| waiting(goal.id, step)).collect();
        let scheduler = self.scheduler();
        for chunk in tasks.chunks_mut(STATES_MAX) {
            let ids = Wire(chunk.iter().map(|task| task.id).collect());
            let states = scheduler.ask(ASK_TIMEOUT, |reply| scheduler::Message::States(ids, reply)).await;
            let states = states.map_err(|error| GoalError::Step { step: goal.title.clone(), error: error.into() })?;
            for (task, state) in chunk.iter_mut().zip(states) {
                (task.state, task.error) = state.map_or((None, None), |state| (Some(state.state), state.error));
            }
        }
        let step =
            |name: &str| tasks.iter().filter(|task| task.step == name).all(|t| t.state == Some(State::Completed));
        let completed: BTreeSet<&str> = goal.steps.iter().map(|s| s.name.as_str()).filter(|name| step(name)).collect();
        let blocked: BTreeSet<String> = goal
            .steps
            .iter()
            .filter(|step| !step.after.iter().all(|name| completed.contains(name.as_str())))
            .map(|step| step.name.clone())
            .collect();
        for task in &mut tasks {
            task.blocked = task.state == Some(State::Pending) && blocked.contains(&task.step);
        }
        let counts = count(&tasks);
        let status = status(&counts);
        Ok(Shown { goal, status, tasks: if with_tasks { tasks } else { Vec::new() }, counts })
    }

    fn known(&self, id: Uuid) -> Result<Option<Goal>, GoalError> {
        let found = self.context.ledger.get(GOALS, id.as_bytes()).map_err(|e| GoalError::Store(e.to_string()))?;
        Ok(found.map(|record| record.value))
    }

    async fn write(&self, goal: &Goal) -> Result<(), GoalError> {
        let kept = self.context.ledger.count_of(GOALS);
        if kept >= GOALS_MAX {
            return Err(GoalError::Full(kept));
        }
        let write = GOALS.write(goal.id.as_bytes(), 0, Some(goal));
        if write.value.as_ref().is_some_and(|value| value.len() > ledger::VALUE_BYTES_MAX) {
            return bad("tasks", "have names and descriptions that are too long in all");
        }
        self.put(write).await
    }

    async fn put(&self, write: Write) -> Result<(), GoalError> {
        self.context.ledger.put(vec![write]).await.map_err(|error| GoalError::Store(error.to_string()))
    }

    fn scheduler(&self) -> Handle<scheduler::Message> {
        self.context.directory.here(scheduler::NAME)
    }
}

/// The id of a goal's command, which follows from the goal's.
fn task(goal: Uuid, step: &str, index: u32) -> Uuid {
    spec::named_by(&format!("step\0{goal}\0{index}\0{step}"))
}

/// A goal's command, as the scheduler takes it.
fn entered(goal: Uuid, step: &Step, index: u32, after: Vec<Uuid>) -> Spec {
    let part = Some(Part { goal, index, count: step.count });
    // Its id follows from the goal's, too, so that what is handed over later belongs to it.
    let gang = (step.gang && step.count > 1)
        .then(|| Gang { id: spec::named_by(&format!("gang\0{goal}\0{}", step.name)), count: step.count });
    Spec { course: course::Course { after, part, gang, ..step.spec.course.clone() }, ..step.spec.clone() }
}

/// The ids of all that a step waits for.
fn prerequisites<'a>(goal: &'a Goal, step: &'a Outline) -> impl Iterator<Item = Uuid> + 'a {
    let before = goal.steps.iter().filter(|other| step.after.contains(&other.name));
    before.flat_map(|other| (0..other.count).map(|index| task(goal.id, &other.name, index)))
}

/// A step's commands before anything is known of them.
fn waiting(goal: Uuid, step: &Outline) -> impl Iterator<Item = Task> + '_ {
    (0..step.count).map(move |index| Task {
        id: task(goal, &step.name, index),
        step: step.name.clone(),
        index,
        state: None,
        blocked: false,
        error: None,
    })
}

fn count(tasks: &[Task]) -> Counts {
    let mut counts = Counts::default();
    for task in tasks {
        *match task.state {
            Some(State::Pending) if task.blocked => &mut counts.blocked,
            Some(State::Pending) => &mut counts.pending,
            Some(State::Running) => &mut counts.running,
            Some(State::Completed) => &mut counts.completed,
            Some(State::Failed) => &mut counts.failed,
            Some(State::Cancelled) => &mut counts.cancelled,
            None => &mut counts.forgotten,
        } += 1;
    }
    counts
}

fn status(counts: &Counts) -> Status {
    let Counts { pending, blocked, running, completed, failed, cancelled, forgotten } = *counts;
    match (pending + blocked + running > 0, failed > 0, cancelled > 0) {
        (true, ..) if running + completed + failed + cancelled + forgotten == 0 => Status::Pending,
        (true, ..) => Status::InProgress,
        (false, true, _) => Status::Failed,
        (false, false, true) => Status::Cancelled,
        (false, false, false) if completed == 0 => Status::Unknown,
        // Records of what has ended go with time.
        (false, false, false) => Status::Completed,
    }
}

fn bad<T>(field: &str, reason: &str) -> Result<T, GoalError> {
    Err(GoalError::Invalid { field: field.into(), reason: reason.into() })
}
