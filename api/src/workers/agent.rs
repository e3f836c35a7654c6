//! An external worker, as the API takes and shows it.

use crate::{Problem, when::rfc3339};
use poem_openapi::{Enum, Object};
use serde_json::Value;
use skep_actors::worker::{Filter, Load, NewWorker, Profile, Status};
use std::collections::BTreeMap;

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "AgentStatus", rename_all = "lowercase")]
pub enum StatusWord {
    /// It was heard of lately.
    Active,
    /// It says that it takes nothing.
    Inactive,
    /// It says that it has enough to do.
    Busy,
    /// It was not heard of for 30 s, or says so.
    Stale,
    /// It says that somebody works on it.
    Maintenance,
    /// It says that it can't work.
    Error,
}

/// A worker that comes, or comes back.
#[derive(Debug, Object)]
pub struct NewAgent {
    /// Its own name for itself. Whoever registers under a name that is there already is that worker, come back.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub agent_id: String,
    /// `worker`, `provider`, `consumer`, `general`, or another word.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub agent_type: String,
    /// What it can do: tasks ask for these.
    #[oai(validator(max_items = 64))]
    pub capabilities: Option<Vec<String>>,
    /// What it serves.
    #[oai(validator(max_items = 64))]
    pub services: Option<Vec<String>>,
    /// Where, by name.
    pub endpoints: Option<BTreeMap<String, String>>,
    /// Anything else. `weight`, 1 to 1000, is its share where tasks are given by weight.
    pub metadata: Option<Value>,
    /// Its version.
    #[oai(validator(max_length = 128))]
    pub version: Option<String>,
    /// Words for filters.
    #[oai(validator(max_items = 64))]
    pub tags: Option<Vec<String>>,
}

impl TryFrom<NewAgent> for NewWorker {
    type Error = Problem;

    fn try_from(new: NewAgent) -> Result<NewWorker, Problem> {
        let metadata = new.metadata.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if !metadata.is_object() {
            return Err(Problem::invalid("metadata", "must be an object"));
        }
        let weight = match metadata.get("weight") {
            None => 1,
            Some(weight) => weight
                .as_u64()
                .and_then(|weight| u32::try_from(weight).ok())
                .ok_or_else(|| Problem::invalid("metadata.weight", "must be a whole number"))?,
        };
        let set = |words: Option<Vec<String>>| words.unwrap_or_default().into_iter().collect();
        Ok(NewWorker {
            id: new.agent_id,
            kind: new.agent_type,
            capabilities: set(new.capabilities),
            services: set(new.services),
            endpoints: new.endpoints.unwrap_or_default(),
            metadata: metadata.to_string(),
            version: new.version.unwrap_or_default(),
            tags: set(new.tags),
            weight,
        })
    }
}

/// What workers are looked for by: all that is given has to hold.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct AgentQuery {
    /// How it is.
    pub status: Option<StatusWord>,
    /// Its type.
    pub agent_type: Option<String>,
    /// It has all of these.
    #[oai(validator(max_items = 64))]
    pub capabilities: Option<Vec<String>>,
    /// It serves all of these.
    #[oai(validator(max_items = 64))]
    pub services: Option<Vec<String>>,
    /// It has all of these.
    #[oai(validator(max_items = 64))]
    pub tags: Option<Vec<String>>,
    /// Its health at least, 0 to 1.
    pub min_health_score: Option<f64>,
    /// How many at most; 100 if it doesn't say.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub limit: Option<u32>,
}

impl AgentQuery {
    /// The same as the actor takes it; `limit` if it doesn't say.
    pub(super) fn filter(&self, limit: u32) -> Filter {
        let set = |words: &Option<Vec<String>>| words.iter().flatten().cloned().collect();
        Filter {
            status: self.status.map(Status::from),
            kind: self.agent_type.clone(),
            capabilities: set(&self.capabilities),
            services: set(&self.services),
            tags: set(&self.tags),
            min_health: self.min_health_score,
            limit: Some(self.limit.unwrap_or(limit)),
        }
    }
}

/// What a worker says of its load.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct LoadMetrics {
    /// Connections that it serves.
    #[oai(validator(minimum(value = "0")))]
    pub active_connections: Option<u32>,
    /// Tasks that wait in it.
    #[oai(validator(minimum(value = "0")))]
    pub pending_tasks: Option<u32>,
    /// Of its processor, 0 to 1; above that it is per cent.
    #[oai(validator(minimum(value = "0")))]
    pub cpu_usage: Option<f64>,
    /// Of its memory, alike.
    #[oai(validator(minimum(value = "0")))]
    pub memory_usage: Option<f64>,
}

/// How a worker is, as it says.
#[derive(Debug, Object)]
pub struct NewStatus {
    /// How it is.
    pub status: StatusWord,
    /// Its load; what was said before stays if it is absent.
    pub load_metrics: Option<LoadMetrics>,
}

/// A worker.
#[derive(Debug, Object)]
#[oai(rename = "AgentInfo")]
pub struct Agent {
    /// Its own name for itself.
    pub agent_id: String,
    /// `worker`, `provider`, `consumer`, `general`, or another word.
    pub agent_type: String,
    /// How it is: silence counts more than what it says.
    pub status: StatusWord,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it serves.
    pub services: Vec<String>,
    /// Where, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Anything else that it said.
    pub metadata: Value,
    /// When it was last heard of.
    pub last_heartbeat: String,
    /// When it registered first.
    pub registration_time: String,
    /// What it says of its load.
    pub load_metrics: LoadMetrics,
    /// 0 to 1: falls with silence, load and tasks that failed.
    pub health_score: f64,
    /// Its version.
    pub version: String,
    /// Words for filters.
    pub tags: Vec<String>,
    /// The key of the machine that it talks to.
    pub home_node: String,
    /// Tasks that it has.
    pub active_tasks: u32,
    /// Tasks that it has done, since the machines started that count them.
    pub completed_tasks: u64,
    /// Tasks that it said had failed.
    pub failed_tasks: u64,
    /// Tasks that were taken back from it: it had fallen silent.
    pub lost_tasks: u64,
}

impl From<Profile> for Agent {
    fn from(profile: Profile) -> Agent {
        let said = profile.worker.said;
        Agent {
            agent_id: said.id,
            agent_type: said.kind,
            status: profile.status.into(),
            capabilities: said.capabilities.into_iter().collect(),
            services: said.services.into_iter().collect(),
            endpoints: said.endpoints,
            metadata: serde_json::from_str(&said.metadata).unwrap_or_default(),
            last_heartbeat: rfc3339(profile.heard_ms),
            registration_time: rfc3339(profile.worker.registered_ms),
            load_metrics: profile.load.into(),
            health_score: profile.health,
            version: said.version,
            tags: said.tags.into_iter().collect(),
            home_node: profile.worker.home.to_string(),
            active_tasks: profile.held,
            completed_tasks: profile.record.completed,
            failed_tasks: profile.record.failed,
            lost_tasks: profile.record.lost,
        }
    }
}

impl From<LoadMetrics> for Load {
    fn from(load: LoadMetrics) -> Load {
        let LoadMetrics { active_connections, pending_tasks, cpu_usage, memory_usage } = load;
        Load { active_connections, pending_tasks, cpu_usage, memory_usage }
    }
}

impl From<Load> for LoadMetrics {
    fn from(load: Load) -> LoadMetrics {
        let Load { active_connections, pending_tasks, cpu_usage, memory_usage } = load;
        LoadMetrics { active_connections, pending_tasks, cpu_usage, memory_usage }
    }
}

impl From<StatusWord> for Status {
    fn from(word: StatusWord) -> Status {
        match word {
            StatusWord::Active => Status::Active,
            StatusWord::Inactive => Status::Inactive,
            StatusWord::Busy => Status::Busy,
            StatusWord::Stale => Status::Stale,
            StatusWord::Maintenance => Status::Maintenance,
            StatusWord::Error => Status::Error,
        }
    }
}

impl From<Status> for StatusWord {
    fn from(status: Status) -> StatusWord {
        match status {
            Status::Active => StatusWord::Active,
            Status::Inactive => StatusWord::Inactive,
            Status::Busy => StatusWord::Busy,
            Status::Stale => StatusWord::Stale,
            Status::Maintenance => StatusWord::Maintenance,
            Status::Error => StatusWord::Error,
        }
    }
}
