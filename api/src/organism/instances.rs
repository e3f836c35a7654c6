//! `/api/agents/{id}/start` and `/stop`, and the defined agents as `/api/agents` lists them.
//!
//! An id is an agent's name or a run's id: who is at work on a goal can be stopped, and not be started again.

use super::state::{self, Doing, Known};
use crate::{
    Reply,
    agents::runs::{Activity, Instance},
    caller::Caller,
    limits::CANCEL_TIMEOUT,
    tag::Tag,
    when::rfc3339,
};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{Context, agent, organism::Standing, runtime::Wire};

/// Endpoints of starting and stopping.
#[derive(Clone)]
pub struct Instances(pub Context);

#[OpenApi(prefix_path = "/api/agents", tag = "Tag::Organism")]
impl Instances {
    /// Let a stopped agent work
    #[oai(path = "/:id/start", method = "post", operation_id = "instances_start")]
    async fn start(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Acted>> {
        self.set(&id.0, Standing::Ready).await?;
        Ok(Json(Acted { id: id.0, action: "started".into() }))
    }

    /// Let an agent take nothing more
    ///
    /// What it has begun goes on. A run of a goal is ended; what it has so far is kept.
    #[oai(path = "/:id/stop", method = "post", operation_id = "instances_stop")]
    async fn stop(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Acted>> {
        match id.0.parse() {
            Ok(run) => {
                let agents = self.0.directory.here::<agent::Message>(agent::NAME);
                agents.ask(CANCEL_TIMEOUT, |port| agent::Message::Cancel(Wire(run), port)).await??;
            }
            Err(_) => self.set(&id.0, Standing::Stopped).await?,
        }
        Ok(Json(Acted { id: id.0, action: "stopped".into() }))
    }

    async fn set(&self, name: &str, standing: Standing) -> Reply<()> {
        state::set_known(&self.0, &state::one(&self.0, name, "Agent not found").await?, standing).await
    }
}

/// What was done.
#[derive(Debug, Object)]
pub struct Acted {
    /// To whom.
    pub id: String,
    /// `started` or `stopped`.
    pub action: String,
}

/// The defined agents, as instances.
pub(crate) async fn instances(context: &Context) -> Reply<Vec<Instance>> {
    let (_, agents) = state::all(context).await?;
    Ok(agents.into_iter().map(Instance::from).collect())
}

impl From<Known> for Instance {
    fn from(known: Known) -> Instance {
        let state = match known.doing() {
            Doing::Stopped | Doing::Paused => Activity::Stopped,
            Doing::Working => Activity::Running,
            Doing::Waiting => Activity::Starting,
            Doing::Failed => Activity::Error,
            Doing::Nothing => Activity::Idle,
        };
        let Known { agent, activity, .. } = known;
        Instance {
            id: agent.name.clone(),
            name: agent.name,
            model: agent.model,
            state,
            session_count: u64::from(activity.running) + u64::from(activity.waiting),
            started_at: activity.last_ms.map(rfc3339),
            last_error: activity.failed.then(|| "its last answer failed".into()),
        }
    }
}
