//! A goal and the record of its run, as the API takes and shows them.

use crate::{usage, when::rfc3339};
use poem_openapi::{Enum, Object, types::Any};
use serde_json::Value;
use skep_actors::{
    agent::{self, Goal, Run, RunState},
    defaults::THREAD_TOKENS,
};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "RunStatus", rename_all = "lowercase")]
pub enum Status {
    /// It waits for a place.
    Pending,
    /// It is worked on.
    Running,
    /// It has its answer.
    Completed,
    /// It could not finish, or the machine that it lived on died.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// How a goal is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Strategy {
    /// One prompt, one answer.
    Answer,
    /// Each document is worked on by a sub-agent, the parts are put together.
    MapReduce,
    /// The model thinks, calls tools, sees their results, until it answers.
    React,
}

/// A goal to work on.
#[derive(Debug, Object)]
pub struct NewGoal {
    /// What is wanted, in words.
    #[oai(validator(min_length = 1, max_length = 32768))]
    pub goal: String,
    /// The tools that it may use, by name.
    #[oai(validator(max_items = 64))]
    pub tools: Option<Vec<String>>,
    /// How it is worked on. If absent: `map_reduce` with documents, `react` with tools, else `answer`.
    pub strategy: Option<Strategy>,
    /// The model; the node's default if absent.
    pub model: Option<String>,
    /// The machine that it shall live on: key, beginning of the key, or name.
    pub node_id: Option<String>,
    /// The tokens that it and its sub-agents may spend in all; 100000 if absent.
    #[oai(validator(minimum(value = "1")))]
    pub budget: Option<u64>,
    /// The money that it and its sub-agents may spend in all, by `/api/prices`; as much as the tokens cost if absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000000")))]
    pub budget_cost: Option<f64>,
    /// Documents for `map_reduce`; 4 MiB in all.
    #[oai(validator(max_items = 1024))]
    pub documents: Option<Vec<Document>>,
    /// A folder on the machine that it starts on, whose text files are its documents.
    pub folder: Option<String>,
}

/// A document.
#[derive(Debug, Object)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A goal and what became of it.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct AgentRun {
    /// Its id.
    pub id: String,
    /// What is wanted.
    pub goal: String,
    /// The tools that it may use.
    pub tools: Vec<String>,
    /// How it is worked on.
    pub strategy: Strategy,
    /// Where it stands.
    pub status: Status,
    /// The machine that it lived on died.
    pub lost: bool,
    /// What was done so far.
    pub steps: Vec<RunStep>,
    /// Its answer, or what there is of it.
    pub output: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was given.
    pub created_at: String,
    /// When it ended.
    pub completed_at: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// The key of the machine that it lives on.
    pub node_id: String,
    /// The thread whose budget it spends: `/api/v1/usage/threads/{id}`.
    pub thread_id: String,
    /// The tokens that it and its sub-agents may spend.
    pub budget: u64,
    /// The money that it and its sub-agents may spend, if there is a limit.
    pub budget_cost: Option<f64>,
    /// The tokens that it spent itself.
    pub tokens: u64,
    /// The run that it works for, if it is a sub-agent.
    pub parent_id: Option<String>,
    /// Its sub-agents.
    pub children: Vec<Child>,
}

/// A sub-agent.
#[derive(Debug, Object)]
pub struct Child {
    /// Its run.
    pub id: String,
    /// The key of the machine that it lives on.
    pub node_id: String,
}

/// A step of a run.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct RunStep {
    /// From 1.
    pub number: u32,
    /// `think`, `map`, `reduce`, or a tool's name.
    pub tool: String,
    /// What it was called with.
    pub args: Any<Value>,
    /// What came of it.
    pub result: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// Milliseconds that it took so far.
    pub elapsed_time_ms: u64,
    /// Tokens that it spent.
    pub tokens: u64,
}

impl From<NewGoal> for Goal {
    fn from(new: NewGoal) -> Goal {
        let tools = new.tools.unwrap_or_default();
        let documents = new.documents.unwrap_or_default();
        let strategy = match new.strategy {
            Some(strategy) => strategy.into(),
            None if !documents.is_empty() || new.folder.is_some() => agent::Strategy::MapReduce,
            None if !tools.is_empty() => agent::Strategy::React,
            None => agent::Strategy::Answer,
        };
        Goal {
            goal: new.goal,
            strategy,
            tools,
            model: new.model,
            node: new.node_id,
            budget: new.budget.unwrap_or(THREAD_TOKENS),
            budget_cost: new.budget_cost.map(usage::millionths),
            documents: documents.into_iter().map(|d| (d.name, d.text)).collect(),
            folder: new.folder,
            ..Goal::default()
        }
    }
}

impl From<Strategy> for agent::Strategy {
    fn from(strategy: Strategy) -> agent::Strategy {
        match strategy {
            Strategy::Answer => agent::Strategy::Answer,
            Strategy::MapReduce => agent::Strategy::MapReduce,
            Strategy::React => agent::Strategy::React,
        }
    }
}

impl From<agent::Strategy> for Strategy {
    fn from(strategy: agent::Strategy) -> Strategy {
        match strategy {
            agent::Strategy::Answer => Strategy::Answer,
            agent::Strategy::MapReduce => Strategy::MapReduce,
            agent::Strategy::React => Strategy::React,
        }
    }
}

impl From<RunState> for Status {
    fn from(state: RunState) -> Status {
        match state {
            RunState::Pending => Status::Pending,
            RunState::Running => Status::Running,
            RunState::Completed => Status::Completed,
            RunState::Failed | RunState::Lost => Status::Failed,
            RunState::Cancelled => Status::Cancelled,
        }
    }
}

impl From<agent::Step> for RunStep {
    fn from(step: agent::Step) -> RunStep {
        let args = serde_json::from_str(&step.args).unwrap_or(Value::String(step.args));
        RunStep {
            number: step.number,
            tool: step.tool,
            args: Any(args),
            result: step.result,
            status: step.state.into(),
            elapsed_time_ms: step.elapsed_ms,
            tokens: step.tokens,
        }
    }
}

impl From<Run> for AgentRun {
    fn from(run: Run) -> AgentRun {
        AgentRun {
            id: run.given().to_string(),
            goal: run.goal.goal,
            tools: run.goal.tools,
            strategy: run.goal.strategy.into(),
            status: run.state.into(),
            lost: run.state == RunState::Lost,
            steps: run.steps.into_iter().map(RunStep::from).collect(),
            output: run.output,
            error: run.error,
            created_at: rfc3339(run.created_ms),
            completed_at: run.completed_ms.map(rfc3339),
            model: run.goal.model,
            node_id: run.node.to_string(),
            thread_id: run.thread.to_string(),
            budget: run.goal.budget,
            budget_cost: run.goal.budget_cost.map(usage::exact),
            tokens: run.tokens,
            parent_id: run.goal.parent.map(|parent| parent.run.to_string()),
            children: run
                .children
                .into_iter()
                .map(|(id, node)| Child { id: id.to_string(), node_id: node.to_string() })
                .collect(),
        }
    }
}
