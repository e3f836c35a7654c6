//! `/api/turns`: what an agent did about one message: what it was told, which tools it called, what it cost.

use super::thread::threads;
use crate::{Problem, Reply, caller::Caller, tag::Tag, when::rfc3339};
use poem_openapi::{Enum, Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    defaults::MODEL,
    runtime::{Wire, defaults::ASK_TIMEOUT},
    thread::{Message, State, Turn},
};
use uuid::Uuid;

/// Endpoints of the turns.
#[derive(Clone)]
pub struct Turns(pub Context);

#[OpenApi(prefix_path = "/api/turns", tag = "Tag::Threads")]
impl Turns {
    /// Show a turn
    #[oai(path = "/:id", method = "get", operation_id = "turns_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<TurnRow>> {
        Ok(Json(turn(&self.0, &id.0).await?.into()))
    }

    /// Show what a turn's prompt was made of
    ///
    /// Tokens of its parts are those of the prompt, shared out by their bytes.
    #[oai(path = "/:id/context", method = "get", operation_id = "turns_context")]
    async fn context(&self, _caller: Caller, id: Path<String>) -> Reply<Json<TurnContext>> {
        Ok(Json(turn(&self.0, &id.0).await?.into()))
    }

    /// List the tools that a turn called
    #[oai(path = "/:id/tools", method = "get", operation_id = "turns_tools")]
    async fn tools(&self, _caller: Caller, id: Path<String>) -> Reply<Json<ToolList>> {
        let turn = turn(&self.0, &id.0).await?;
        let created_at = rfc3339(turn.started_ms.unwrap_or(turn.created_ms));
        let tool_calls = turn.calls().map(|step| ToolCall {
            id: format!("{}/{}", turn.id, step.number),
            tool_name: step.tool.clone(),
            status: if step.state == skep_actors::agent::RunState::Completed { "success" } else { "error" }.into(),
            duration_ms: step.elapsed_ms,
            created_at: created_at.clone(),
        });
        Ok(Json(ToolList { tool_calls: tool_calls.collect() }))
    }

    /// Show which model a turn was given to
    #[oai(path = "/:id/model-selection", method = "get", operation_id = "turns_model")]
    async fn selection(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Selection>> {
        let turn = turn(&self.0, &id.0).await?;
        let wanted = turn.wanted.clone().unwrap_or_else(|| MODEL.into());
        Ok(Json(Selection {
            event_id: turn.run.to_string(),
            turn_id: turn.id.to_string(),
            session_id: turn.thread.to_string(),
            agent_id: turn.agent,
            channel: "api".into(),
            selected_model: turn.model.unwrap_or_else(|| wanted.clone()),
            strategy: if turn.wanted.is_some() { "named" } else { "default" }.into(),
            primary_model: wanted.clone(),
            candidates: vec![wanted],
            created_at: rfc3339(turn.created_ms),
        }))
    }

    /// Say what could be better about a turn
    ///
    /// By rules, without a model.
    #[oai(path = "/:id/tips", method = "get", operation_id = "turns_tips")]
    async fn tips(&self, _caller: Caller, id: Path<String>) -> Reply<Json<TipList>> {
        let turn = turn(&self.0, &id.0).await?;
        let tips = tips(&turn);
        Ok(Json(TipList { turn_id: turn.id.to_string(), tip_count: tips.len(), tips }))
    }
}

/// A turn, or a problem that says that there is none.
pub(crate) async fn turn(context: &Context, text: &str) -> Reply<Turn> {
    let id: Uuid = text.parse().map_err(|_| Problem::not_found(format!("Turn not found: {text}")))?;
    Ok(threads(context).ask(ASK_TIMEOUT, |port| Message::Turn(Wire(id), port)).await??)
}

/// A turn.
#[derive(Debug, Object)]
#[oai(rename = "Turn", skip_serializing_if_is_none)]
pub struct TurnRow {
    /// Its id.
    pub id: String,
    /// Its session, which is its thread.
    pub session_id: String,
    /// The agent that answers.
    pub agent_id: String,
    /// Where it stands.
    pub status: TurnStatus,
    /// What its agent thought last, on its way to the answer. Not in lists.
    pub thinking: Option<String>,
    /// Tokens of its prompts.
    pub tokens_in: u64,
    /// Tokens of its completions.
    pub tokens_out: u64,
    /// The model that answered.
    pub model: Option<String>,
    /// How often it was begun.
    pub attempt: u32,
    /// The key of the machine that works on it, or did last.
    pub node_id: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When its message came.
    pub created_at: String,
    /// When it ended.
    pub completed_at: Option<String>,
}

impl From<Turn> for TurnRow {
    fn from(turn: Turn) -> TurnRow {
        let thought = turn.steps.iter().rev().filter(|step| step.tool == "think").nth(1);
        TurnRow {
            thinking: thought.and_then(|step| step.result.clone()),
            id: turn.id.to_string(),
            session_id: turn.thread.to_string(),
            agent_id: turn.agent,
            status: turn.state.into(),
            tokens_in: turn.prompt,
            tokens_out: turn.completion,
            model: turn.model,
            attempt: turn.attempt,
            node_id: turn.node.map(|node| node.to_string()),
            error: turn.error,
            created_at: rfc3339(turn.created_ms),
            completed_at: turn.ended_ms.map(rfc3339),
        }
    }
}

/// Where a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub enum TurnStatus {
    /// Its agent has not begun.
    Waiting,
    /// It is worked on.
    Running,
    /// It has its answer.
    Completed,
    /// It could not be answered.
    Failed,
    /// It was given up with its thread.
    Cancelled,
}

impl From<State> for TurnStatus {
    fn from(state: State) -> TurnStatus {
        match state {
            State::Waiting => TurnStatus::Waiting,
            State::Running => TurnStatus::Running,
            State::Completed => TurnStatus::Completed,
            State::Failed => TurnStatus::Failed,
            State::Cancelled => TurnStatus::Cancelled,
        }
    }
}

/// What a turn's first prompt was made of.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct TurnContext {
    /// The turn.
    pub turn_id: String,
    /// The model that answered.
    pub model: Option<String>,
    /// The most tokens that it might spend.
    pub token_budget: u64,
    /// Tokens of what the agent is told about itself, and the rules.
    pub system_prompt_tokens: u64,
    /// Tokens of what it remembers: nothing yet.
    pub memory_tokens: u64,
    /// Tokens of what was said before.
    pub history_tokens: u64,
    /// How many messages that were.
    pub history_depth: u32,
    /// `simple` with one prompt, `moderate` with tools, `complex` with many calls.
    pub complexity_level: String,
    /// Tokens of its prompts.
    pub tokens_in: u64,
    /// Tokens of its completions.
    pub tokens_out: u64,
    /// Tools that it called.
    pub tool_call_count: usize,
    /// Calls of them that failed.
    pub tool_failure_count: usize,
}

impl From<Turn> for TurnContext {
    fn from(turn: Turn) -> TurnContext {
        let (calls, failed) = (turn.calls().count(), turn.failed_calls());
        let thoughts = (turn.steps.len() - calls) as u64;
        let (system, history, depth) = turn.context.map_or((0, 0, 0), |context| {
            // Of the first of its prompts, which is about as large as the others.
            let tokens = turn.prompt / thoughts.max(1);
            let share = |bytes: u32| tokens * u64::from(bytes) / u64::from(context.whole.max(1));
            (share(context.system), share(context.history), context.depth)
        });
        TurnContext {
            turn_id: turn.id.to_string(),
            token_budget: turn.cap,
            system_prompt_tokens: system,
            memory_tokens: 0,
            history_tokens: history,
            history_depth: depth,
            complexity_level: match calls {
                0 => "simple",
                1..=4 => "moderate",
                _ => "complex",
            }
            .into(),
            tokens_in: turn.prompt,
            tokens_out: turn.completion,
            tool_call_count: calls,
            tool_failure_count: failed,
            model: turn.model,
        }
    }
}

/// The tools that a turn called.
#[derive(Debug, Object)]
pub struct ToolList {
    /// Each call.
    pub tool_calls: Vec<ToolCall>,
}

/// A call of a tool.
#[derive(Debug, Object)]
pub struct ToolCall {
    /// Its id: the turn's, and which step of it.
    pub id: String,
    /// The tool.
    pub tool_name: String,
    /// `success` or `error`.
    pub status: String,
    /// How long it took.
    pub duration_ms: u64,
    /// When the turn that called it began.
    pub created_at: String,
}

/// Which model a turn was given to.
#[derive(Debug, Object)]
pub struct Selection {
    /// The run that it was chosen for.
    pub event_id: String,
    /// The turn.
    pub turn_id: String,
    /// Its session.
    pub session_id: String,
    /// The agent.
    pub agent_id: String,
    /// Which way the message came: `api`, for there is no other. What its sender called it is not kept.
    pub channel: String,
    /// The model that answered, or is to answer.
    pub selected_model: String,
    /// `named` by the agent or the session, or the `default` one.
    pub strategy: String,
    /// The model that was asked for.
    pub primary_model: String,
    /// The models that it was chosen from.
    pub candidates: Vec<String>,
    /// When the message came.
    pub created_at: String,
}

/// What could be better.
#[derive(Debug, Object)]
pub struct TipList {
    /// The turn.
    pub turn_id: String,
    /// Each of them.
    pub tips: Vec<Tip>,
    /// How many they are.
    pub tip_count: usize,
}

/// Something that could be better.
#[derive(Debug, Clone, Object)]
pub struct Tip {
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// `budget`, `memory`, `prompt`, `tools`, `cost` or `quality`.
    pub category: String,
    /// The rule that says so.
    pub rule_name: String,
    /// What is not so good.
    pub message: String,
    /// What to do.
    pub suggestion: String,
}

/// What could be better about a turn.
pub(crate) fn tips(turn: &Turn) -> Vec<Tip> {
    let mut out = Vec::new();
    let mut tip = |severity: &str, category: &str, rule: &str, message: String, suggestion: &str| {
        out.push(Tip {
            severity: severity.into(),
            category: category.into(),
            rule_name: rule.into(),
            message,
            suggestion: suggestion.into(),
        });
    };
    if let Some(error) = &turn.error {
        tip("critical", "quality", "failed", format!("it failed: {error}"), "mend what it names, and say it again");
    }
    let spent = turn.prompt + turn.completion;
    if turn.cap > 0 && spent * 10 >= turn.cap * 9 {
        let message = format!("it spent {spent} of the {} tokens that it might", turn.cap);
        tip("warning", "budget", "nearly_spent", message, "give its thread, or its agent, a larger budget");
    }
    if let Some(context) = turn.context.filter(|context| context.whole > 0) {
        let share = |bytes: u32| u64::from(bytes) * 100 / u64::from(context.whole);
        if share(context.history) >= 60 {
            let message = format!("{} % of its prompt is what was said before", share(context.history));
            tip("info", "memory", "long_history", message, "begin a new session for a new subject");
        }
        if share(context.system) >= 60 && context.system > 2000 {
            let message = format!("{} % of its prompt are instructions", share(context.system));
            tip("info", "prompt", "long_instructions", message, "shorten its agent's instructions");
        }
    }
    let failed = turn.failed_calls();
    if failed > 0 {
        let message = format!("{failed} of its calls of tools failed");
        tip("warning", "tools", "tools_failed", message, "look at their results: `/api/audit/tools` has them");
    }
    if turn.attempt > 1 {
        let message = format!("it was begun {} times: a machine went down", turn.attempt);
        tip("info", "quality", "begun_again", message, "nothing to do: what was done was not done again");
    }
    out
}
