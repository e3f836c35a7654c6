//! `/api/agents`: goals, their runs, and how to end them.
//!
//! Two documented APIs meet on this path: one lists agents, one lists runs of goals. Agents are those that the swarm has
//! defined, and runs that are at work.

use super::{
    run::{AgentRun, NewGoal, Status},
    shown::{Kinds, Shown, View},
};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::Input,
    limits::{CANCEL_TIMEOUT, GOAL_BYTES_MAX, ROWS, ROWS_MAX},
    organism::instances::instances,
    reply::Done,
    tag::Tag,
};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    agent::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
};
use uuid::Uuid;

/// Endpoints of the agents.
#[derive(Clone)]
pub struct Agents(pub Context);

#[OpenApi(prefix_path = "/api/agents", tag = "Tag::Agents")]
impl Agents {
    /// List agents and the newest runs
    #[oai(path = "/", method = "get", operation_id = "agents_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many runs, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
        /// `runs` answers with the newest runs alone, as a bare array
        view: Query<Option<View>>,
        /// `instance`, `run`, or both with a comma: only these
        kind: Query<Option<String>>,
    ) -> Reply<Json<Shown>> {
        let kinds = Kinds::parse(kind.0.as_deref())?;
        let rows = limit.0.unwrap_or(ROWS).min(ROWS_MAX);
        let runs = self.agents().ask(ASK_TIMEOUT, |port| Message::List(Wire(rows), port)).await?;
        let runs: Vec<AgentRun> = runs.into_iter().map(AgentRun::from).collect();
        Ok(Json(match view.0 {
            Some(View::Runs) => Shown::Runs(runs),
            None => Shown::List(AgentList::new(instances(&self.0).await?, runs, kinds)),
        }))
    }

    /// Work on a goal
    #[oai(path = "/", method = "post", operation_id = "agents_create")]
    async fn create(&self, _caller: Caller, body: Input<NewGoal, GOAL_BYTES_MAX>) -> Reply<Json<AgentRun>> {
        let goal = body.0.into();
        let run = self.agents().ask(CANCEL_TIMEOUT, |port| Message::Give(Wire(goal), port)).await??;
        Ok(Json(run.into()))
    }

    /// Show a run
    #[oai(path = "/:id", method = "get", operation_id = "agents_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<AgentRun>> {
        let id = run_id(&id.0)?;
        let run = self.agents().ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(run.into()))
    }

    /// End a run
    ///
    /// And its sub-agents, wherever they are; what it has so far is kept.
    #[oai(path = "/:id/cancel", method = "post", operation_id = "agents_cancel")]
    async fn cancel(&self, _caller: Caller, id: Path<String>) -> Reply<Done> {
        let id = run_id(&id.0)?;
        self.agents().ask(CANCEL_TIMEOUT, |port| Message::Cancel(Wire(id), port)).await??;
        Ok(Done::Done)
    }

    fn agents(&self) -> Handle<Message> {
        self.0.directory.here(agent::NAME)
    }
}

/// The id of a run; what is no id is no run's.
pub(crate) fn run_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Agent not found: {text}")))
}

/// The agents, and the newest runs.
#[derive(Debug, Object)]
pub struct AgentList {
    /// Those that are defined, and those at work on a goal.
    pub agents: Vec<Instance>,
    /// How many they are.
    pub count: usize,
    /// The newest runs, ended ones too.
    pub runs: Vec<AgentRun>,
    /// How many they are.
    pub runs_count: usize,
}

/// An agent.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Instance {
    /// Its name, or its run's id.
    pub id: String,
    /// Its name, or its goal's first line.
    pub name: String,
    /// The model that was asked for.
    pub model: Option<String>,
    /// What it does.
    pub state: Activity,
    /// Since when, or when it did something last.
    pub started_at: Option<String>,
    /// Turns that it works on or that wait for it.
    pub session_count: u64,
    /// Why it failed last.
    pub last_error: Option<String>,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename = "AgentState")]
pub enum Activity {
    /// It has nothing to do.
    Idle,
    /// It waits for a place.
    Starting,
    /// It is at work.
    Running,
    /// It takes nothing.
    Stopped,
    /// What it did last failed.
    Error,
}

impl AgentList {
    fn new(defined: Vec<Instance>, runs: Vec<AgentRun>, kinds: Kinds) -> AgentList {
        let at_work = runs.iter().filter_map(Instance::of);
        let agents: Vec<Instance> = defined.into_iter().chain(at_work).filter(|_| kinds.instances).collect();
        let runs = if kinds.runs { runs } else { Vec::new() };
        AgentList { count: agents.len(), agents, runs_count: runs.len(), runs }
    }
}

impl Instance {
    fn of(run: &AgentRun) -> Option<Instance> {
        let state = match run.status {
            Status::Pending => Activity::Starting,
            Status::Running => Activity::Running,
            Status::Completed | Status::Failed | Status::Cancelled => return None,
        };
        let name = run.goal.lines().next().unwrap_or_default().chars().take(80).collect();
        Some(Instance {
            id: run.id.clone(),
            name,
            model: run.model.clone(),
            state,
            started_at: Some(run.created_at.clone()),
            session_count: 1,
            last_error: None,
        })
    }
}
