//! `/api/approvals`: calls of tools that wait for the owner, and the owner's answers.

use super::request::{Approval, ApprovalDetail, NewDecision};
use crate::{Problem, Reply, caller::Caller, input::Perhaps, limits::DECIDE_TIMEOUT, tag::Tag};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use skep_actors::{
    Context,
    approval::{self, Decide, Message, Request, State},
    runtime::{Wire, defaults::ASK_TIMEOUT},
};
use uuid::Uuid;

/// Endpoints of the requests.
#[derive(Clone)]
pub struct Requests(pub Context);

#[OpenApi(prefix_path = "/api/approvals", tag = "Tag::Approvals")]
impl Requests {
    /// List the calls that wait
    ///
    /// Of agents on all machines, the oldest first.
    #[oai(path = "/", method = "get", operation_id = "approvals_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<ApprovalList>> {
        let now_ms = self.0.env.now_ms();
        let requests = self.approvals().ask(ASK_TIMEOUT, Message::List).await??;
        let waits = requests.into_iter().filter(|request| request.state_at(now_ms) == State::Pending);
        let pending: Vec<Approval> = waits.map(|request| Approval::of(request, now_ms)).collect();
        Ok(Json(ApprovalList { total: pending.len(), pending }))
    }

    /// Show a call that waits or waited
    #[oai(path = "/:id", method = "get", operation_id = "approvals_get")]
    async fn get(&self, _caller: Caller, id: Path<String>) -> Reply<Json<ApprovalDetail>> {
        let id = approval_id(&id.0)?;
        let request = self.approvals().ask(ASK_TIMEOUT, |port| Message::Get(Wire(id), port)).await??;
        Ok(Json(ApprovalDetail::of(request, self.0.env.now_ms())))
    }

    /// Let a call be made
    ///
    /// Once, with exactly the arguments that are shown. The first answer counts: a second one, and one that is too late, is
    /// refused with 409.
    #[oai(path = "/:id/approve", method = "post", operation_id = "approvals_approve")]
    async fn approve(&self, _caller: Caller, id: Path<String>, body: Perhaps<NewDecision>) -> Reply<Json<Approved>> {
        let request = self.decide(&id.0, true, body.0).await?;
        let approval = Approval::of(request, self.0.env.now_ms());
        Ok(Json(Approved { approval, replay_queued: true }))
    }

    /// Refuse a call
    #[oai(path = "/:id/deny", method = "post", operation_id = "approvals_deny")]
    async fn deny(&self, _caller: Caller, id: Path<String>, body: Perhaps<NewDecision>) -> Reply<Json<Approval>> {
        let request = self.decide(&id.0, false, body.0).await?;
        Ok(Json(Approval::of(request, self.0.env.now_ms())))
    }

    async fn decide(&self, id: &str, approve: bool, said: Option<NewDecision>) -> Reply<Request> {
        let said = said.unwrap_or_default();
        let answer = Decide {
            request: approval_id(id)?,
            approve,
            by: said.decided_by.unwrap_or_else(|| "api".into()),
            because: said.because,
            via: self.0.directory.id(),
        };
        Ok(self.approvals().ask(DECIDE_TIMEOUT, |port| Message::Decide(Wire(answer), port)).await??)
    }

    fn approvals(&self) -> skep_actors::runtime::Handle<Message> {
        self.0.directory.here(approval::NAME)
    }
}

/// The id of a request; what is no id is no request's.
fn approval_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem::not_found(format!("Approval not found: {text}")))
}

/// The calls that wait for an answer.
#[derive(Debug, Object)]
pub struct ApprovalList {
    /// Each of them.
    pub pending: Vec<Approval>,
    /// How many they are.
    pub total: usize,
}

/// The answer is written down.
#[derive(Debug, Object)]
#[oai(rename = "ApprovedCall")]
pub struct Approved {
    /// The request as it is now.
    pub approval: Approval,
    /// The call is made by whoever waits for it, or is free to be made again.
    pub replay_queued: bool,
}
