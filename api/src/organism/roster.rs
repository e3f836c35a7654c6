//! `/api/roster` and `/api/subagents`: the defined agents with the models that they think with, and whether they work.

use super::state::{self, Known};
use crate::{
    Reply,
    caller::Caller,
    input::{Input, Perhaps},
    limits::CANCEL_TIMEOUT,
    tag::Tag,
};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    defaults::MODEL,
    organism::{self, Standing, messages::ModelChange},
    runtime::{Handle, Wire},
};

/// Endpoints of the roster.
#[derive(Clone)]
pub struct Roster(pub Context);

#[OpenApi(prefix_path = "/api", tag = "Tag::Organism")]
impl Roster {
    /// List the agents and their models
    #[oai(path = "/roster", method = "get", operation_id = "roster_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<RosterList>> {
        let (_, agents) = state::all(&self.0).await?;
        let roster: Vec<Row> = agents.iter().map(Row::from).collect();
        Ok(Json(RosterList {
            count: roster.len(),
            taskable_subagent_count: roster.iter().filter(|row| row.enabled && row.role == "subagent").count(),
            model_proxy_count: 0,
            model_proxies: Vec::new(),
            roster,
        }))
    }

    /// Let an agent think with another model
    ///
    /// From its next answer on. `auto` is the default one.
    #[oai(path = "/roster/:name/model", method = "put", operation_id = "roster_model")]
    async fn model(&self, _caller: Caller, name: Path<String>, body: Input<NewModel>) -> Reply<Json<Changed>> {
        let model = Some(body.0.model).filter(|model| model != "auto");
        let change = Wire((name.0.clone(), model));
        let changed = self.organism().ask(CANCEL_TIMEOUT, |port| organism::Message::Model(change, port)).await??;
        let ModelChange { old, new } = changed;
        let word = |model: Option<String>| model.unwrap_or_else(|| "auto".into());
        Ok(Json(Changed {
            updated: true,
            persisted: true,
            agent: name.0,
            old_model: word(old),
            new_model: word(new),
            fallback_models: Vec::new(),
        }))
    }

    /// List the agents that work for others
    #[oai(path = "/subagents", method = "get", operation_id = "subagents_list")]
    async fn subagents(&self, _caller: Caller) -> Reply<Json<SubAgentList>> {
        let (_, agents) = state::all(&self.0).await?;
        let agents: Vec<SubAgent> =
            agents.iter().filter(|known| known.agent.name != organism::MAIN).map(SubAgent::from).collect();
        let count = |word: &str| agents.iter().filter(|agent| agent.runtime_state == word).count();
        Ok(Json(SubAgentList {
            count: agents.len(),
            runtime_summary: Summary { booting: count("booting"), running: count("running"), error: count("error") },
            agents,
        }))
    }

    /// Show one of them
    #[oai(path = "/subagents/:name", method = "get", operation_id = "subagents_get")]
    async fn subagent(&self, _caller: Caller, name: Path<String>) -> Reply<Json<SubAgent>> {
        Ok(Json(SubAgent::from(&state::one(&self.0, &name.0, "Sub-agent not found").await?)))
    }

    /// Let one of them work, or not
    ///
    /// Without a body: the other way than now.
    #[oai(path = "/subagents/:name/toggle", method = "put", operation_id = "subagents_toggle")]
    async fn toggle(&self, _caller: Caller, name: Path<String>, body: Perhaps<Toggle>) -> Reply<Json<Toggled>> {
        let known = state::one(&self.0, &name.0, "Sub-agent not found").await?;
        let enabled = body.0.map_or(known.standing == Standing::Stopped, |toggle| toggle.enabled);
        let standing = if enabled { Standing::Ready } else { Standing::Stopped };
        state::set_known(&self.0, &known, standing).await?;
        Ok(Json(Toggled { name: name.0, enabled }))
    }

    fn organism(&self) -> Handle<organism::Message> {
        self.0.directory.here(organism::NAME)
    }
}

/// The agents and their models.
#[derive(Debug, Object)]
pub struct RosterList {
    /// Each of them, by name.
    pub roster: Vec<Row>,
    /// How many they are.
    pub count: usize,
    /// Those that others may give something to do.
    pub taskable_subagent_count: usize,
    /// Agents that stand for a model: there are none.
    pub model_proxy_count: usize,
    /// The same, by name.
    pub model_proxies: Vec<String>,
}

/// An agent and its model.
#[derive(Debug, Object)]
pub struct Row {
    /// Its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its name, for people.
    pub display_name: String,
    /// `main` or `subagent`.
    pub role: String,
    /// The model that it thinks with.
    pub model: String,
    /// It works.
    pub enabled: bool,
    /// The tools that it may use.
    pub skills: Vec<String>,
}

impl From<&Known> for Row {
    fn from(known: &Known) -> Row {
        let name = known.agent.name.clone();
        Row {
            id: name.clone(),
            display_name: name.clone(),
            role: if name == organism::MAIN { "main" } else { "subagent" }.into(),
            name,
            model: known.agent.model.clone().unwrap_or_else(|| MODEL.into()),
            enabled: known.standing != Standing::Stopped,
            skills: known.agent.tools.clone(),
        }
    }
}

/// Another model.
#[derive(Debug, Object)]
pub struct NewModel {
    /// Its name, or `auto` for the default one.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub model: String,
}

/// An agent thinks with another model.
#[derive(Debug, Object)]
pub struct Changed {
    /// True.
    pub updated: bool,
    /// It outlives this node.
    pub persisted: bool,
    /// Its name.
    pub agent: String,
    /// The model before.
    pub old_model: String,
    /// The model now.
    pub new_model: String,
    /// Models that are tried when that one can't be had: none.
    pub fallback_models: Vec<String>,
}

/// The agents that work for others.
#[derive(Debug, Object)]
pub struct SubAgentList {
    /// Each of them, by name.
    pub agents: Vec<SubAgent>,
    /// How many they are.
    pub count: usize,
    /// How many of them do what.
    pub runtime_summary: Summary,
}

/// How many agents do what.
#[derive(Debug, Object)]
pub struct Summary {
    /// They have something to do and have not begun.
    pub booting: usize,
    /// They work on an answer.
    pub running: usize,
    /// Their last answer failed.
    pub error: usize,
}

/// An agent that works for others.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SubAgent {
    /// Its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its name, for people.
    pub display_name: String,
    /// The model that it thinks with.
    pub model: String,
    /// `subagent`.
    pub role: String,
    /// What it is good for.
    pub description: String,
    /// The tools that it may use.
    pub skills: Vec<String>,
    /// Models that are tried when its own can't be had: none.
    pub fallback_models: Vec<String>,
    /// It works.
    pub enabled: bool,
    /// What it has to do: turns that run or wait.
    pub session_count: u32,
    /// `running`, `booting`, `error`, `idle`, `paused` or `stopped`.
    pub runtime_state: String,
    /// Others may give it something to do now.
    pub taskable: bool,
    /// Whether its definition is whole.
    pub integrity: Integrity,
}

/// Whether a definition is whole.
#[derive(Debug, Object)]
pub struct Integrity {
    /// It is: one that isn't is not taken.
    pub ok: bool,
    /// What is missing.
    pub issues: Vec<String>,
}

impl From<&Known> for SubAgent {
    fn from(known: &Known) -> SubAgent {
        let state = known.doing().word();
        let Known { agent, standing, activity } = known;
        SubAgent {
            id: agent.name.clone(),
            name: agent.name.clone(),
            display_name: agent.name.clone(),
            model: agent.model.clone().unwrap_or_else(|| MODEL.into()),
            role: "subagent".into(),
            description: agent.description.clone(),
            skills: agent.tools.clone(),
            fallback_models: Vec::new(),
            enabled: *standing != Standing::Stopped,
            session_count: activity.running + activity.waiting,
            runtime_state: state.into(),
            taskable: *standing == Standing::Ready,
            integrity: Integrity { ok: true, issues: Vec::new() },
        }
    }
}

/// Whether it shall work.
#[derive(Debug, Object)]
pub struct Toggle {
    /// It shall.
    pub enabled: bool,
}

/// Whether it works now.
#[derive(Debug, Object)]
pub struct Toggled {
    /// Its name.
    pub name: String,
    /// It does.
    pub enabled: bool,
}
