//! Who the workers are: what they said when they registered, which every node knows, and when they were last heard of,
//! which only their home does.

use super::{
    job::{word, words},
    messages::WorkerError,
    strategy::{USAGE_UNKNOWN, WEIGHT_MAX},
};
use crate::ledger::Collection;
use serde::{Deserialize, Serialize};
use skep_runtime::NodeId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Every worker of the swarm, by its id's bytes.
pub const WORKERS: Collection<Worker> = Collection::new(21, 1);

/// Workers whose home is one node, at some KiB each. More is a program that registers in a loop.
pub const WORKERS_MAX: usize = 1000;
/// How long a worker may be silent before it counts as stale: two heartbeats of the 10 s that workers are advised to
/// keep may be lost.
pub const STALE_AFTER: Duration = Duration::from_secs(30);
/// How long a silent worker is remembered: a machine that is switched off at night is back in the morning.
pub const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a worker's metadata, as JSON.
pub const METADATA_BYTES_MAX: usize = 16 << 10;
/// Endpoints of a worker.
pub const ENDPOINTS_MAX: usize = 32;
/// Characters of an endpoint's address.
pub const ENDPOINT_CHARS_MAX: usize = 2048;
/// Words that lie behind `/agents/` themselves: nobody may be called so.
const RESERVED: [&str; 2] = ["register", "discover"];

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NewWorker {
    /// Its own name for itself, which must be its own.
    pub id: String,
    /// `worker`, `provider`, `consumer`, `general`, or another word.
    pub kind: String,
    /// What it can do: jobs ask for these.
    pub capabilities: BTreeSet<String>,
    /// What it serves.
    pub services: BTreeSet<String>,
    /// Where, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Anything else: an object, as JSON.
    pub metadata: String,
    /// Its version.
    pub version: String,
    /// Words for filters.
    pub tags: BTreeSet<String>,
    /// Its share of the jobs where they are given by weight.
    pub weight: u32,
}

impl NewWorker {
    /// # Errors
    /// [`WorkerError::Invalid`], with the field at fault.
    pub fn check(&self) -> Result<(), WorkerError> {
        word("agent_id", &self.id)?;
        if RESERVED.contains(&self.id.as_str()) || self.id.contains('/') {
            return Err(WorkerError::invalid("agent_id", "is a word of this API, or has a slash".into()));
        }
        // The ledger finds it by its bytes.
        if self.id.len() > crate::ledger::ID_BYTES_MAX {
            return Err(WorkerError::invalid("agent_id", "has too many bytes".into()));
        }
        word("agent_type", &self.kind)?;
        words("capabilities", &self.capabilities)?;
        words("services", &self.services)?;
        words("tags", &self.tags)?;
        if self.version.chars().count() > super::job::WORD_CHARS_MAX {
            return Err(WorkerError::invalid("version", "is too long".into()));
        }
        let long = |(name, url): (&String, &String)| name.len().max(url.len()) > ENDPOINT_CHARS_MAX;
        if self.endpoints.len() > ENDPOINTS_MAX || self.endpoints.iter().any(long) {
            let reason = format!("must be at most {ENDPOINTS_MAX}, of at most {ENDPOINT_CHARS_MAX} characters");
            return Err(WorkerError::invalid("endpoints", reason));
        }
        if self.metadata.len() > METADATA_BYTES_MAX {
            return Err(WorkerError::invalid("metadata", format!("is over {} KiB", METADATA_BYTES_MAX >> 10)));
        }
        match (1..=WEIGHT_MAX).contains(&self.weight) {
            true => Ok(()),
            false => Err(WorkerError::invalid("metadata.weight", format!("must be 1 to {WEIGHT_MAX}"))),
        }
    }
}

/// A registered worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// What it said.
    pub said: NewWorker,
    /// The node that it talks to.
    pub home: NodeId,
    /// When it registered first, in milliseconds since 1970.
    pub registered_ms: u64,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// It was heard of lately.
    Active,
    /// It says that it takes nothing.
    Inactive,
    /// It says that it has enough to do.
    Busy,
    /// It was not heard of for [`STALE_AFTER`], or says so.
    Stale,
    /// It says that somebody works on it.
    Maintenance,
    /// It says that it can't work.
    Error,
}

/// What a worker says of its load.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Connections that it serves.
    pub active_connections: Option<u32>,
    /// Tasks that wait in it.
    pub pending_tasks: Option<u32>,
    /// Of its processor, 0 to 1; above that it is per cent.
    pub cpu_usage: Option<f64>,
    /// Of its memory, alike.
    pub memory_usage: Option<f64>,
}

impl Load {
    /// The busier of processor and memory, 0 to 1.
    pub fn usage(&self) -> f64 {
        let part = |usage: f64| if usage > 1.0 { usage / 100.0 } else { usage };
        let both = [self.cpu_usage, self.memory_usage];
        both.into_iter().flatten().map(part).reduce(f64::max).unwrap_or(USAGE_UNKNOWN).clamp(0.0, 1.0)
    }
}

/// What a worker's home knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// When it was last heard of, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long ago that is, in milliseconds of its home's own clock.
    pub silent_ms: u64,
    /// What it says of itself.
    pub status: Status,
    /// What it says of its load.
    pub load: Load,
}

impl Heard {
    /// Whether it was silent for too long.
    pub fn is_stale(&self) -> bool {
        self.silent_ms >= STALE_AFTER.as_millis() as u64
    }

    /// How it is: silence counts more than words.
    pub fn status(&self) -> Status {
        if self.is_stale() { Status::Stale } else { self.status }
    }
}

/// What became of a worker's jobs since the nodes started that count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Done.
    pub completed: u64,
    /// Failed, as the worker says.
    pub failed: u64,
    /// Taken back from it: it fell silent.
    pub lost: u64,
}

impl Record {
    /// Both counts together.
    pub fn add(&mut self, other: Record) {
        self.completed += other.completed;
        self.failed += other.failed;
        self.lost += other.lost;
    }
}

/// A worker's health, 0 to 1. From 1 go: half for being stale or unheard of, a fifth for a heartbeat that is late (half of
/// [`STALE_AFTER`]); 0.3 for a load over 0.8, 0.1 over 0.6; half for saying that it is in error, a fifth for maintenance;
/// and 0.4 times the share of its jobs that failed or were taken back.
pub fn health(heard: Option<&Heard>, record: Record) -> f64 {
    let Some(heard) = heard else { return 0.5 };
    let silence = match heard.silent_ms {
        _ if heard.is_stale() => 0.5,
        ms if ms * 2 >= STALE_AFTER.as_millis() as u64 => 0.2,
        _ => 0.0,
    };
    let load = match heard.load.usage() {
        usage if usage > 0.8 => 0.3,
        usage if usage > 0.6 => 0.1,
        _ => 0.0,
    };
    let said = match heard.status {
        Status::Error => 0.5,
        Status::Maintenance => 0.2,
        Status::Active | Status::Inactive | Status::Busy | Status::Stale => 0.0,
    };
    let (bad, all) = (record.failed + record.lost, record.completed + record.failed + record.lost);
    let failures = if all == 0 { 0.0 } else { 0.4 * bad as f64 / all as f64 };
    (1.0 - silence - load - said - failures).clamp(0.0, 1.0)
}

/// What workers are looked for by: all that is given has to hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Its status.
    pub status: Option<Status>,
    /// Its type.
    pub kind: Option<String>,
    /// It has all of these.
    pub capabilities: BTreeSet<String>,
    /// It serves all of these.
    pub services: BTreeSet<String>,
    /// It has all of these.
    pub tags: BTreeSet<String>,
    /// Its health at least.
    pub min_health: Option<f64>,
    /// How many at most.
    pub limit: Option<u32>,
}

impl Filter {
    /// Whether this one is meant, as far as its registration tells.
    pub fn means(&self, said: &NewWorker) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == said.kind)
            && self.capabilities.is_subset(&said.capabilities)
            && self.services.is_subset(&said.services)
            && self.tags.is_subset(&said.tags)
    }
}

/// The last word of one worker.
#[derive(Debug, Clone, Copy)]
struct Last {
    at: Duration,
    at_ms: u64,
    status: Status,
    load: Load,
}

/// The workers, as one node knows them.
#[derive(Debug, Default)]
pub struct Registry {
    workers: BTreeMap<String, Worker>,
    last: BTreeMap<String, Last>,
}

impl Registry {
    /// What the ledger says of one now.
    pub fn note(&mut self, id: &str, worker: Option<Worker>) {
        match worker {
            Some(worker) => drop(self.workers.insert(id.into(), worker)),
            None => {
                self.workers.remove(id);
                self.last.remove(id);
            }
        }
    }

    /// One of them.
    pub fn get(&self, id: &str) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Whether one more may make this node its home.
    pub fn has_room(&self, me: NodeId) -> bool {
        self.workers.values().filter(|worker| worker.home == me).count() < WORKERS_MAX
    }

    /// It was heard of, here. Its first word after a silence makes it active; what it said of itself it has to take back.
    pub fn hear(&mut self, id: &str, uptime: Duration, wall_ms: u64) {
        let new = Last { at: uptime, at_ms: wall_ms, status: Status::Active, load: Load::default() };
        let last = self.last.entry(id.into()).or_insert(new);
        (last.at, last.at_ms) = (uptime, wall_ms);
    }

    /// A heartbeat: who said that it is inactive or stale takes that back by it.
    pub fn beat(&mut self, id: &str) {
        if let Some(last) = self.last.get_mut(id)
            && matches!(last.status, Status::Inactive | Status::Stale)
        {
            last.status = Status::Active;
        }
    }

    /// It says how it is. A load that it doesn't mention stays.
    pub fn say(&mut self, id: &str, status: Status, load: Option<Load>) {
        if let Some(last) = self.last.get_mut(id) {
            last.status = status;
            last.load = load.unwrap_or(last.load);
        }
    }

    /// What is known here of the last word of one.
    pub fn heard(&self, id: &str, uptime: Duration) -> Option<Heard> {
        let Last { at, at_ms, status, load } = *self.last.get(id)?;
        Some(Heard { at_ms, silent_ms: uptime.saturating_sub(at).as_millis() as u64, status, load })
    }

    /// Workers of this home that were not heard of for [`FORGET_AFTER`]; one that wasn't since the start counts from then.
    pub fn forgotten(&mut self, me: NodeId, uptime: Duration, wall_ms: u64) -> Vec<String> {
        let homed: Vec<String> = self.workers.values().filter(|w| w.home == me).map(|w| w.said.id.clone()).collect();
        for id in &homed {
            let new = Last { at: uptime, at_ms: wall_ms, status: Status::Active, load: Load::default() };
            self.last.entry(id.clone()).or_insert(new);
        }
        let old = |id: &String| self.last.get(id).is_some_and(|last| uptime.saturating_sub(last.at) >= FORGET_AFTER);
        homed.into_iter().filter(old).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(silent_ms: u64, load: Load) -> Heard {
        Heard { at_ms: 0, silent_ms, status: Status::Active, load }
    }

    #[test]
    fn health_falls_with_silence_load_and_failures() {
        let idle = Load { cpu_usage: Some(0.1), ..Load::default() };
        let busy = Load { cpu_usage: Some(90.0), ..Load::default() };
        let bad = Record { completed: 1, failed: 0, lost: 1 };
        let check = |heard: Option<&Heard>, record, expected: f64| {
            let health = health(heard, record);
            assert!((health - expected).abs() < 1e-9, "{health} is not {expected}");
        };
        check(Some(&heard(0, idle)), Record::default(), 1.0);
        check(Some(&heard(15_000, idle)), Record::default(), 0.8);
        check(Some(&heard(30_000, idle)), Record::default(), 0.5);
        check(Some(&heard(0, busy)), Record::default(), 0.7);
        check(Some(&heard(0, idle)), bad, 0.8);
        check(None, Record::default(), 0.5);
    }

    #[test]
    fn a_heartbeat_takes_back_staleness_but_not_what_a_worker_said_of_itself() {
        let mut registry = Registry::default();
        let at = Duration::from_secs;
        registry.hear("w", at(1), 1000);
        for (said, then) in [(Status::Stale, Status::Active), (Status::Busy, Status::Busy)] {
            registry.say("w", said, None);
            registry.beat("w");
            assert_eq!(registry.heard("w", at(2)).unwrap().status(), then);
        }
        assert_eq!(registry.heard("w", at(31)).unwrap().status(), Status::Stale);
        assert!(registry.heard("w", at(31)).unwrap().is_stale() && registry.heard("v", at(31)).is_none());
    }
}
