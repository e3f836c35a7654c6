//! `/api/approvals`: calls of tools that wait for the owner, and the owner's answers.

use super::request::{Approval, ApprovalDetail, NewDecision};
use crate::{
    Problem, Reply,
    caller::Caller,
    input::Perhaps,
    limits::{DECIDE_TIMEOUT, ROWS, ROWS_MAX},
    tag::Tag,
};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
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
    async fn list(
        &self,
        _caller: Caller,
        /// How many calls, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<ApprovalList>> {
        let rows = limit.0.unwrap_or(ROWS).min(ROWS_MAX) as usize;
        let requests = self.approvals().ask(ASK_TIMEOUT, Message::List).await??;
        Ok(Json(ApprovalList::of(requests, rows, self.0.env.now_ms())))
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
    /// Each of them, up to the limit.
    pub pending: Vec<Approval>,
    /// How many they are, without a limit.
    pub total: usize,
}

impl ApprovalList {
    fn of(mut requests: Vec<Request>, rows: usize, now_ms: u64) -> ApprovalList {
        requests.retain(|request| request.state_at(now_ms) == State::Pending);
        let total = requests.len();
        let pending = requests.into_iter().take(rows).map(|request| Approval::of(request, now_ms).listed()).collect();
        ApprovalList { pending, total }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LISTED_INPUT_BYTES_MAX;
    use skep_actors::{
        approval::{Arguments, Call},
        audit::Who,
        runtime::NodeId,
    };

    fn request(n: u128, text: &str) -> Request {
        let id = Uuid::from_u128(n);
        let who = Who { agent: String::new(), run: id, turn: id, thread: id };
        let args = Arguments::of(&serde_json::json!({ "text": text }));
        Request {
            id,
            owner: NodeId::from_bytes([1; 32]),
            call: Call { id, who, tool: "run_task".into(), args, scope: id, doubtful: false },
            rule: None,
            reason: None,
            created_ms: 1,
            until_ms: 10,
            state: State::Pending,
            decision: None,
            used: None,
        }
    }

    #[test]
    fn a_list_has_a_limit_and_long_arguments_are_cut_in_it_and_it_says_so() {
        let long = "é".repeat(16 << 10);
        let over = Request { state: State::Denied, ..request(4, "over") };
        let all = vec![request(1, "short"), request(2, &long), request(3, "more"), over];
        let list = ApprovalList::of(all, 2, 2);
        assert_eq!((list.pending.len(), list.total), (2, 3));
        let [short, cut] = list.pending.as_slice() else { panic!("{list:?}") };
        assert_eq!((short.tool_input.as_str(), short.tool_input_bytes), (r#"{"text":"short"}"#, None));
        assert!(cut.tool_input.len() <= LISTED_INPUT_BYTES_MAX && cut.tool_input.starts_with(r#"{"text":"éé"#));
        assert_eq!(cut.tool_input_bytes, Some(2 * (16 << 10) + r#"{"text":""}"#.len()));
        let whole = Approval::of(request(2, &long), 2);
        assert_eq!((whole.tool_input.len(), whole.tool_input_bytes), (cut.tool_input_bytes.unwrap(), None));
    }
}
