//! A cron job, as the API takes and shows it.

use crate::{
    Problem,
    tasks::task::{NewTask, command_of},
    when::rfc3339,
};
use poem_openapi::{
    Enum, Object,
    registry::Registry,
    types::{ParseFromJSON, ToJSON, Type},
};
use serde_json::Value;
use skep_actors::{
    cron::{self, Job, NewJob},
    scheduler::Spec,
};

/// How a schedule's words are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "CronScheduleKind", rename_all = "lowercase")]
pub enum Kind {
    /// Minute, hour, day, month and weekday, or six fields with seconds in front: `30 7 * * 1-5`.
    Cron,
    /// A period from the job's creation on: `5m`, `1h30m`.
    Every,
    /// Another word for the same.
    Interval,
    /// One moment: RFC 3339, or `2026-03-01 07:30` in the job's zone.
    Once,
}

/// A command to run at times.
#[derive(Debug, Object)]
pub struct NewCronJob {
    /// What people call it.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub name: String,
    /// How `schedule_expr` is read.
    pub schedule_kind: Kind,
    /// When it is due.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub schedule_expr: Option<String>,
    /// Another name of `schedule_expr`.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub schedule: Option<String>,
    /// The zone in which that is read, such as `Europe/Zurich`; UTC if absent.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub schedule_tz: Option<String>,
    /// Whose it is, for clients that keep such a name.
    #[oai(validator(max_length = 128))]
    pub agent_id: Option<String>,
    /// What it is good for.
    #[oai(validator(max_length = 1024))]
    pub description: Option<String>,
    /// What it runs: the body of `POST /api/tasks` as JSON in a text, such as `{"command": "echo hello"}`.
    #[oai(validator(max_length = 65536))]
    pub payload_json: Option<String>,
    /// The same, as it is.
    pub task: Option<NewTask>,
}

/// A cron job in a list.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CronJob {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is good for.
    pub description: Option<String>,
    /// Something is due yet.
    pub enabled: bool,
    /// How `schedule_expr` is read.
    pub schedule_kind: Kind,
    /// When it is due.
    pub schedule_expr: String,
    /// Whose it is; empty if nobody said.
    pub agent_id: String,
    /// What it runs, as JSON in a text.
    pub payload_json: String,
    /// When it was due last.
    pub last_run_at: Option<String>,
    /// What came of that: `pending`, `running`, `completed`, `failed`, `cancelled` or `missed`.
    pub last_status: Option<String>,
    /// How many runs have failed since one went well.
    pub consecutive_errors: u32,
    /// When it is due next.
    pub next_run_at: Option<String>,
}

/// A cron job.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CronJobDetail {
    /// The job as a list shows it.
    #[oai(flatten)]
    pub job: CronJob,
    /// Its period in milliseconds, if it has one.
    pub schedule_every_ms: Option<u64>,
    /// The zone in which its schedule is read.
    pub schedule_tz: String,
    /// Where its runs happen: always `isolated`, each as a command of its own.
    pub session_target: String,
    /// How long the last run that has ended took.
    pub last_duration_ms: Option<u64>,
    /// Why the last run failed, if it did.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// The key of the machine that fires it.
    pub owner_node: String,
}

impl TryFrom<NewCronJob> for NewJob {
    type Error = Problem;

    fn try_from(new: NewCronJob) -> Result<NewJob, Problem> {
        let expr = new.schedule_expr.or(new.schedule);
        let spec = match (new.task, new.payload_json) {
            (Some(task), None) => Spec::try_from(task).map_err(|problem| problem.below("task"))?,
            (None, Some(text)) => payload(&text)?,
            (None, None) => return Err(Problem::invalid("payload_json", NO_COMMAND)),
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("task", "and `payload_json` say the same: give one of them"));
            }
        };
        Ok(NewJob {
            name: new.name,
            description: new.description.filter(|text| !str::is_empty(text)),
            agent_id: new.agent_id.filter(|text| !str::is_empty(text)),
            kind: match new.schedule_kind {
                Kind::Cron => cron::Kind::Cron,
                Kind::Every => cron::Kind::Every,
                Kind::Interval => cron::Kind::Interval,
                Kind::Once => cron::Kind::Once,
            },
            expr: expr.ok_or_else(|| Problem::invalid("schedule_expr", "is required"))?,
            tz: new.schedule_tz.unwrap_or_else(|| "UTC".into()),
            spec,
        })
    }
}

const NO_COMMAND: &str = "must say what to run, such as {\"command\": \"echo hello\"}; a goal is given to an agent by a \
                          command, too: {\"command\": \"skep agent 'the goal'\"}";

/// The command in a payload's text.
fn payload(text: &str) -> Result<Spec, Problem> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Problem::invalid("payload_json", format!("is not JSON: {error}")))?;
    if !value["command"].is_string() {
        return Err(Problem::invalid("payload_json", NO_COMMAND));
    }
    let mut registry = Registry::new();
    NewTask::register(&mut registry);
    if let Some((field, reason)) = crate::input::fault(&registry, &NewTask::schema_ref(), &value, "") {
        return Err(Problem::invalid(field, reason).below("payload_json"));
    }
    let task = NewTask::parse_from_json(Some(value))
        .map_err(|error| Problem::invalid("payload_json", error.into_message()))?;
    Spec::try_from(task).map_err(|problem| problem.below("payload_json"))
}

impl From<Job> for CronJob {
    fn from(job: Job) -> CronJob {
        let new = job.definition.new;
        let last = job.progress.runs.last();
        CronJob {
            id: job.definition.id.to_string(),
            name: new.name,
            description: new.description,
            enabled: job.next_ms.is_some(),
            schedule_kind: match new.kind {
                cron::Kind::Cron => Kind::Cron,
                cron::Kind::Every => Kind::Every,
                cron::Kind::Interval => Kind::Interval,
                cron::Kind::Once => Kind::Once,
            },
            schedule_expr: new.expr,
            agent_id: new.agent_id.unwrap_or_default(),
            payload_json: command_of(new.spec).to_json_string(),
            last_run_at: last.map(|run| rfc3339(run.at_ms)),
            last_status: last.map(|run| run.state.word().into()),
            consecutive_errors: job.progress.errors,
            next_run_at: job.next_ms.map(rfc3339),
        }
    }
}

impl From<Job> for CronJobDetail {
    fn from(job: Job) -> CronJobDetail {
        let ended = job.progress.runs.iter().rev().find(|run| run.state.ended());
        let took = ended.and_then(|run| run.finished_ms?.checked_sub(run.started_ms?));
        CronJobDetail {
            schedule_every_ms: job.every_ms,
            schedule_tz: job.definition.new.tz.clone(),
            session_target: "isolated".into(),
            last_duration_ms: took,
            last_error: ended.and_then(|run| run.error.clone()),
            created_at: rfc3339(job.definition.created_ms),
            owner_node: job.progress.owner.to_string(),
            job: job.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(payload: Option<&str>) -> NewCronJob {
        NewCronJob {
            name: "a".into(),
            schedule_kind: Kind::Every,
            schedule_expr: None,
            schedule: Some("5m".into()),
            schedule_tz: None,
            agent_id: None,
            description: None,
            payload_json: payload.map(str::to_owned),
            task: None,
        }
    }

    #[test]
    fn a_payload_is_the_body_of_a_command_and_comes_back_as_one() {
        let job: NewJob =
            new(Some(r#"{"command":"echo","args":["a"],"env":["A=b"],"timeout_s":9}"#)).try_into().unwrap();
        assert_eq!((job.expr.as_str(), job.tz.as_str(), job.spec.timeout_s), ("5m", "UTC", 9));
        let again = command_of(job.spec.clone()).to_json_string();
        assert_eq!(payload(&again).unwrap(), job.spec, "{again}");
    }

    #[test]
    fn what_is_wrong_in_a_payload_is_told_with_its_place() {
        let check = |text: Option<&str>, field: &str, hint: &str| {
            let problem = NewJob::try_from(new(text)).unwrap_err();
            assert!(problem.field() == Some(field) && problem.detail().contains(hint), "{problem}");
        };
        check(None, "payload_json", "skep agent");
        check(Some("{"), "payload_json", "is not JSON");
        check(Some(r#"{"goal":"x"}"#), "payload_json", "skep agent");
        check(Some(r#"{"command":"a","cpus":-1}"#), "payload_json.cpus", "at least 0");
        check(Some(r#"{"command":"a","env":["A"]}"#), "payload_json.env", "NAME=value");
    }
}
