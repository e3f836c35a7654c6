//! `/api/cron/jobs`: commands that run at times, and how to make and remove them.

use super::job::{CronJob, CronJobDetail, NewCronJob};
use crate::{Problem, Reply, caller::Caller, input::Input, tag::Tag};
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    cron::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
};
use uuid::Uuid;

/// Endpoints of the jobs.
#[derive(Clone)]
pub struct Jobs(pub Context);

#[OpenApi(prefix_path = "/api/cron/jobs", tag = "Tag::Cron")]
impl Jobs {
    /// List the cron jobs
    #[oai(path = "/", method = "get", operation_id = "cron_jobs_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<CronJobList>> {
        let jobs = self.cron().ask(ASK_TIMEOUT, Message::List).await?;
        Ok(Json(CronJobList { jobs: jobs.into_iter().map(CronJob::from).collect() }))
    }

    /// Run a command at times
    #[oai(path = "/", method = "post", operation_id = "cron_jobs_create")]
    async fn create(&self, _caller: Caller, body: Input<NewCronJob>) -> Reply<MadeCronJob> {
        let new = body.0.try_into()?;
        let job = self.cron().ask(ASK_TIMEOUT, |port| Message::Add(Wire(new), port)).await??;
        Ok(MadeCronJob::Made(Json(CronJobId { job_id: job.definition.id.to_string(), job: job.into() })))
    }

    /// Show a cron job
    #[oai(path = "/:id", method = "get", operation_id = "cron_jobs_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<CronJobDetail>> {
        let id = job_id(&id.0)?;
        let job = self.cron().ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(job.into()))
    }

    /// Remove a cron job
    ///
    /// For good. What it has started goes on.
    #[oai(path = "/:id", method = "delete", operation_id = "cron_jobs_delete")]
    async fn delete(&self, _caller: Caller, id: Path<String>) -> Reply<Json<RemovedCronJob>> {
        let id = job_id(&id.0)?;
        self.cron().ask(ASK_TIMEOUT, |port| Message::Remove(Wire(id), port)).await??;
        Ok(Json(RemovedCronJob { deleted: true, id: id.to_string() }))
    }

    fn cron(&self) -> Handle<Message> {
        self.0.directory.here(cron::NAME)
    }
}

/// The id of a job; what is no id is no job's.
pub(crate) fn job_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Cron job not found: {text}")))
}

/// The cron jobs of the swarm.
#[derive(Debug, Object)]
pub struct CronJobList {
    /// Each of them, by name.
    pub jobs: Vec<CronJob>,
}

/// It was made.
#[derive(ApiResponse)]
pub enum MadeCronJob {
    /// Made
    #[oai(status = 201)]
    Made(Json<CronJobId>),
}

/// The job that was made.
#[derive(Debug, Object)]
pub struct CronJobId {
    /// Its id.
    pub job_id: String,
    /// The job.
    pub job: CronJobDetail,
}

/// What was removed.
#[derive(Debug, Object)]
pub struct RemovedCronJob {
    /// Always true.
    pub deleted: bool,
    /// Its id.
    pub id: String,
}
