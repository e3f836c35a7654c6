//! `/api/cron/runs`: what came of the cron jobs' last runs.

use super::jobs::job_id;
use crate::{Problem, Reply, caller::Caller, limits::ROWS_MAX, tag::Tag, when};
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};
use skep_actors::{
    Context,
    cron::{self, JobRun, Message, Wanted},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the runs.
#[derive(Clone)]
pub struct Runs(pub Context);

#[OpenApi(prefix_path = "/api/cron/runs", tag = "Tag::Cron")]
impl Runs {
    /// List the cron jobs' runs
    ///
    /// The newest first. The last twenty of each job are kept.
    #[oai(path = "/", method = "get", operation_id = "cron_runs_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// Due at this time or later: RFC 3339, or a day such as `2026-03-01`
        from: Query<Option<String>>,
        /// Due at this time or earlier; a day counts whole
        to: Query<Option<String>>,
        /// Of this job only
        job_id: Query<Option<String>>,
        /// How many, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<CronRunList>> {
        let wanted = Wanted {
            job: job_id.0.as_deref().map(self::job_id).transpose()?,
            from_ms: bound("from", from.0, 0)?,
            to_ms: bound("to", to.0, when::DAY_MS - 1)?,
            limit: limit.0.unwrap_or(ROWS_MAX).min(ROWS_MAX),
        };
        let cron = self.0.directory.here::<Message>(cron::NAME);
        let runs = cron.ask(ASK_TIMEOUT, |port| Message::Runs(Wire(wanted), port)).await?;
        Ok(Json(CronRunList { runs: runs.into_iter().map(CronRun::from).collect() }))
    }
}

/// A moment; of a day, this much after its beginning.
fn bound(field: &'static str, text: Option<String>, of_day_ms: u64) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || Problem::invalid(field, "must be a time such as 2026-03-01T07:30:00Z, or a day such as 2026-03-01");
    let day = when::day_ms(&text).map(|day| day + of_day_ms);
    day.or_else(|| when::ms(&text)).map(Some).ok_or_else(wrong)
}

/// Runs of cron jobs.
#[derive(Debug, Object)]
pub struct CronRunList {
    /// Each of them.
    pub runs: Vec<CronRun>,
}

/// A run of a cron job.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CronRun {
    /// Its id: that of the command, which `/api/tasks/{id}` shows while it is kept.
    pub id: String,
    /// The job.
    pub job_id: String,
    /// The job's name.
    pub job_name: String,
    /// `pending`, `running`, `completed`, `failed`, `cancelled`, or `missed`: it was left out, and `error` says why.
    pub status: String,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// Why it failed or was left out.
    pub error: Option<String>,
    /// The last of what it wrote.
    pub output_text: Option<String>,
    /// When it was due.
    pub created_at: String,
    /// The day of that, in UTC.
    pub day: String,
}

impl From<JobRun> for CronRun {
    fn from(JobRun { job, name, run }: JobRun) -> CronRun {
        let created_at = when::rfc3339(run.at_ms);
        CronRun {
            id: run.task.to_string(),
            job_id: job.to_string(),
            job_name: name,
            status: run.state.word().into(),
            duration_ms: run.finished_ms.zip(run.started_ms).and_then(|(end, start)| end.checked_sub(start)),
            error: run.error,
            output_text: Some(run.output).filter(|output| !str::is_empty(output)),
            day: created_at.chars().take(10).collect(),
            created_at,
        }
    }
}
