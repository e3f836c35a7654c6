//! `/api/goals`: goals, how far they are, and how to end them.

use super::goal::{Goal, GoalList, NewGraph};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::Input,
    limits::{CANCEL_TIMEOUT, HAND_OVER_TIMEOUT, ROWS},
    reply::Created,
    tag::Tag,
};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
    payload::Json,
};
use skep_actors::{
    Context,
    goal::{self, Message},
    runtime::{Handle, Wire, defaults::ASK_TIMEOUT},
};
use uuid::Uuid;

/// Endpoints of the goals.
#[derive(Clone)]
pub struct Goals(pub Context);

#[OpenApi(prefix_path = "/api/goals", tag = "Tag::Tasks")]
impl Goals {
    /// List the newest goals
    ///
    /// Without their tasks.
    #[oai(path = "/", method = "get", operation_id = "goals_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many, at most 500
        #[oai(validator(minimum(value = "1"), maximum(value = "500")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<GoalList>> {
        let rows = limit.0.unwrap_or(ROWS);
        let shown = self.goals().ask(ASK_TIMEOUT, |port| Message::List(Wire(rows), port)).await?;
        let goals: Vec<Goal> = shown.into_iter().map(Goal::from).collect();
        Ok(Json(GoalList { count: goals.len(), goals }))
    }

    /// Set a goal
    ///
    /// A graph of commands. Each runs when those that it waits for have completed, wherever there is room. Answered when
    /// all of them are taken; a cycle is refused with its name.
    #[oai(path = "/", method = "post", operation_id = "goals_create")]
    async fn create(&self, _caller: Caller, body: Input<NewGraph>) -> Reply<Created<Goal>> {
        let plan = body.0.try_into()?;
        let shown = self.goals().ask(HAND_OVER_TIMEOUT, |port| Message::Create(Wire(plan), port)).await??;
        Ok(Created::Made(Json(shown.into())))
    }

    /// Show a goal and how far it is
    #[oai(path = "/:id", method = "get", operation_id = "goals_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Goal>> {
        let id = goal_id(&id.0)?;
        let shown = self.goals().ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(shown.into()))
    }

    /// End a goal
    ///
    /// Ends what runs and what waits of it. One that has ended is forgotten; the records of its tasks stay.
    #[oai(path = "/:id", method = "delete", operation_id = "goals_delete")]
    async fn delete(&self, _caller: Caller, id: Path<String>) -> Reply<Json<Goal>> {
        let id = goal_id(&id.0)?;
        let shown = self.goals().ask(CANCEL_TIMEOUT, |port| Message::Cancel(Wire(id), port)).await??;
        Ok(Json(shown.into()))
    }

    fn goals(&self) -> Handle<Message> {
        self.0.directory.here(goal::NAME)
    }
}

/// The id of a goal; what is no id is no goal's.
fn goal_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Goal not found: {text}")))
}
