//! Which error of an actor is which HTTP status. The texts are the actors' own; only the status and one word for
//! programs are chosen here.

use crate::Problem;
use poem::http::StatusCode as S;
use skep_actors::{
    agent::AgentError,
    approval::ApprovalError,
    blob::BlobError,
    budget::BudgetError,
    cron::CronError,
    goal::GoalError,
    model::ModelError,
    node::NodeError,
    organism::OrganismError,
    pipeline::GenerateError,
    runtime::{self, swarm},
    scheduler::ScheduleError,
    thread::ThreadError,
    worker::WorkerError,
};

impl From<runtime::Error> for Problem {
    fn from(error: runtime::Error) -> Problem {
        use runtime::Error as E;
        let (status, code) = match &error {
            E::NoSuchActor(_) => (S::SERVICE_UNAVAILABLE, "not_running"),
            E::Busy(_) => (S::SERVICE_UNAVAILABLE, "busy"),
            E::LinkDown(_) => (S::BAD_GATEWAY, "link_down"),
            E::Timeout => (S::GATEWAY_TIMEOUT, "timeout"),
            E::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "too_large"),
            E::Refused(_) => (S::BAD_GATEWAY, "refused"),
            _ => (S::INTERNAL_SERVER_ERROR, "no_reply"),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Problem {
        let (status, code) = match &error {
            NodeError::NoSuchNode(_) => (S::NOT_FOUND, "no_such_node"),
            NodeError::Ambiguous(_) => (S::CONFLICT, "ambiguous"),
            NodeError::Label(_) => (S::BAD_REQUEST, "invalid_field"),
            NodeError::Swarm(e) => of_swarm(e),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, error.to_string())
    }
}

fn of_swarm(error: &swarm::Error) -> (S, &'static str) {
    use swarm::Error as E;
    match error {
        E::BadInvite => (S::BAD_REQUEST, "bad_invite"),
        E::Spent => (S::GONE, "invite_spent"),
        E::WrongCode { .. } => (S::FORBIDDEN, "wrong_code"),
        E::WrongPeer => (S::BAD_GATEWAY, "wrong_peer"),
        E::Unreachable(_) => (S::BAD_GATEWAY, "unreachable"),
        E::AlreadyMember(_) => (S::CONFLICT, "already_member"),
        E::NoSuchNode(_) => (S::NOT_FOUND, "no_such_node"),
        E::NoMajority { .. } => (S::CONFLICT, "no_majority"),
        E::Oneself => (S::CONFLICT, "oneself"),
        E::Refused(_) => (S::FORBIDDEN, "refused"),
        E::Timeout => (S::GATEWAY_TIMEOUT, "timeout"),
        _ => (S::INTERNAL_SERVER_ERROR, "store"),
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Problem {
        use ScheduleError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::Invalid { field, reason } => return Problem::invalid(field, reason),
            E::Named { field, error } => return Problem::from(error).in_field(field),
            E::NoSuchTask(_) => (S::NOT_FOUND, "no_such_task"),
            E::KeyTaken(_) => return Problem::new(S::CONFLICT, "key_taken", text).in_field("idempotency_key"),
            E::NoInput(e) => return Problem::from(e).in_field("inputs"),
            E::NodeDown(_) => (S::CONFLICT, "node_down"),
            E::Impossible(_) | E::NeverTogether { .. } => (S::UNPROCESSABLE_ENTITY, "impossible"),
            E::NoFence(_) => (S::UNPROCESSABLE_ENTITY, "no_sandbox"),
            E::NoRoom => (S::SERVICE_UNAVAILABLE, "no_room"),
            E::OwnerAway(_) => (S::SERVICE_UNAVAILABLE, "owner_away"),
            E::TakenOver | E::Further(_) => (S::SERVICE_UNAVAILABLE, "taken_over"),
            E::NoMajority => (S::SERVICE_UNAVAILABLE, "no_majority"),
            E::QueueFull(_) => (S::SERVICE_UNAVAILABLE, "queue_full"),
            // As the documented API answers who cancels what has ended.
            E::Over(_) => (S::BAD_REQUEST, "task_over"),
            E::NoOutput(_) => (S::CONFLICT, "no_output"),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<ApprovalError> for Problem {
    fn from(error: ApprovalError) -> Problem {
        use ApprovalError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::Invalid(mistakes) => {
                // All of them in the text; of one is said where it lies.
                let problem = Problem::new(S::BAD_REQUEST, "invalid_field", text);
                return mistakes.into_iter().next().map_or(problem.clone(), |first| problem.in_field(first.field));
            }
            E::NoSuchRequest(_) => (S::NOT_FOUND, "no_such_approval"),
            E::Decided { .. } => (S::CONFLICT, "already_decided"),
            E::Late(_) => (S::CONFLICT, "timed_out"),
            E::Withdrawn => (S::CONFLICT, "withdrawn"),
            E::OwnerAway(_) => (S::SERVICE_UNAVAILABLE, "owner_away"),
            E::Full(_) => (S::SERVICE_UNAVAILABLE, "busy"),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Problem {
        use BlobError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::NoSuchBlob(_) => (S::NOT_FOUND, "no_such_blob"),
            E::TooLarge(_) => (S::PAYLOAD_TOO_LARGE, "blob_too_large"),
            E::NoRoom(_) => (S::INSUFFICIENT_STORAGE, "no_room"),
            E::InUse(_) => (S::CONFLICT, "blob_in_use"),
            E::Alone { .. } | E::Cut(_) => (S::SERVICE_UNAVAILABLE, "no_copy"),
            E::Differs(_) | E::Disk(_) => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<GoalError> for Problem {
    fn from(error: GoalError) -> Problem {
        use GoalError as E;
        let text = error.to_string();
        match error {
            E::Invalid { field, reason } => Problem::invalid(field, reason),
            E::NoSuchGoal(_) => Problem::not_found(text),
            E::Full(_) => Problem::new(S::SERVICE_UNAVAILABLE, "goals_full", text),
            E::Step { step, error } => Problem::from(error).of(&format!("step {step}")),
            _ => Problem::new(S::INTERNAL_SERVER_ERROR, "store", text),
        }
    }
}

impl From<CronError> for Problem {
    fn from(error: CronError) -> Problem {
        use CronError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Invalid { field, reason } => return Problem::invalid(field, reason),
            E::NoSuchJob(_) => (S::NOT_FOUND, "no_such_job"),
            E::Full(_) => (S::CONFLICT, "full"),
            _ => (S::SERVICE_UNAVAILABLE, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<WorkerError> for Problem {
    fn from(error: WorkerError) -> Problem {
        use WorkerError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::Invalid { field, reason } => return Problem::invalid(field, reason),
            E::NoSuchWorker(_) => (S::NOT_FOUND, "no_such_agent"),
            E::NoSuchJob(_) => (S::NOT_FOUND, "no_such_task"),
            E::Lost(_) => (S::CONFLICT, "lease_lost"),
            E::Taken => (S::CONFLICT, "task_taken"),
            E::QueueFull(_) => (S::SERVICE_UNAVAILABLE, "queue_full"),
            E::TooMany(_) => (S::SERVICE_UNAVAILABLE, "too_many_agents"),
            E::Busy => (S::SERVICE_UNAVAILABLE, "busy"),
            E::OwnerAway => (S::SERVICE_UNAVAILABLE, "owner_away"),
            E::Moved => (S::SERVICE_UNAVAILABLE, "taken_over"),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Problem {
        use AgentError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::Budget(e) => return e.into(),
            E::Invalid { field, reason } => return Problem::invalid(field, reason),
            E::NoSuchNode(_) => return Problem::new(S::NOT_FOUND, "no_such_node", text).in_field("node_id"),
            E::Ambiguous(_) => return Problem::new(S::CONFLICT, "ambiguous", text).in_field("node_id"),
            E::NoSuchRun(_) => (S::NOT_FOUND, "no_such_agent"),
            E::Limit(_) => (S::CONFLICT, "limit"),
            E::Full(_) => (S::SERVICE_UNAVAILABLE, "full"),
            E::Rights(_) | E::Warrant(_) => (S::FORBIDDEN, "rights"),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<OrganismError> for Problem {
    fn from(error: OrganismError) -> Problem {
        use OrganismError as E;
        let (status, code) = match &error {
            E::Wrong(_) => (S::BAD_REQUEST, "wrong_definition"),
            E::NoSuchAgent(_) => (S::NOT_FOUND, "no_such_agent"),
            E::NoFile => (S::NOT_FOUND, "no_definition"),
            E::Unreadable(_) => (S::INTERNAL_SERVER_ERROR, "unreadable"),
            _ => (S::SERVICE_UNAVAILABLE, "store"),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<ThreadError> for Problem {
    fn from(error: ThreadError) -> Problem {
        use ThreadError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::Budget(e) => return e.into(),
            E::Organism(e) => return e.into(),
            E::Invalid { field, reason } => return Problem::invalid(field, reason),
            E::NoSuchThread(_) => (S::NOT_FOUND, "no_such_thread"),
            E::NoSuchTurn(_) => (S::NOT_FOUND, "no_such_turn"),
            E::NoFeedback(_) => (S::NOT_FOUND, "no_feedback"),
            E::Graded(_) => (S::CONFLICT, "graded"),
            E::NoSuchAgent(_) => (S::NOT_FOUND, "no_such_agent"),
            E::Stopped(_) => (S::CONFLICT, "agent_stopped"),
            E::NoPeer { .. } | E::Circle { .. } => (S::FORBIDDEN, "no_peer"),
            // As the document of sessions answers it.
            E::Busy(_) => (S::TOO_MANY_REQUESTS, "thread_busy"),
            E::Killed(_) => (S::CONFLICT, "thread_killed"),
            E::Full(_) => (S::CONFLICT, "full"),
            E::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "message_too_large"),
            E::Failed(_) => (S::BAD_GATEWAY, "turn_failed"),
            E::Moving(_) => (S::SERVICE_UNAVAILABLE, "moving"),
            _ => (S::SERVICE_UNAVAILABLE, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<BudgetError> for Problem {
    fn from(error: BudgetError) -> Problem {
        use BudgetError as E;
        let (status, code) = match &error {
            E::NoSuchThread(_) => (S::NOT_FOUND, "no_such_thread"),
            E::Exists(_) => (S::CONFLICT, "exists"),
            // 402 and not 429: clients retry a 429 by themselves, and waiting brings no tokens.
            E::Exhausted { .. } | E::ExhaustedCost { .. } => (S::PAYMENT_REQUIRED, "insufficient_quota"),
            E::Invalid { field, reason } => return Problem::invalid(field.clone(), reason.clone()),
            E::Ended(_) => (S::CONFLICT, "thread_ended"),
            E::TooMany(_) => (S::SERVICE_UNAVAILABLE, "busy"),
            E::OwnerUnreachable(_) | E::Unsure { .. } => (S::BAD_GATEWAY, "owner_unreachable"),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Problem {
        use ModelError as E;
        let text = error.to_string();
        let (status, code) = match error {
            E::Link(e) => return e.into(),
            E::NoSuchModel(_) => return Problem::new(S::NOT_FOUND, "model_not_found", text).in_field("model"),
            E::BadSource(_) => return Problem::new(S::BAD_REQUEST, "bad_source", text).in_field("model"),
            E::NoPlan { .. } => return Problem::new(S::UNPROCESSABLE_ENTITY, "no_plan", text).in_field("stages"),
            E::Fetch(_) | E::Pull(_) => (S::BAD_GATEWAY, "fetch_failed"),
            E::Start(_) => (S::SERVICE_UNAVAILABLE, "start_failed"),
            E::BadFile(_) => (S::UNPROCESSABLE_ENTITY, "bad_file"),
            E::NoRoom(_) => (S::INSUFFICIENT_STORAGE, "no_room"),
            E::InUse(_) => (S::CONFLICT, "in_use"),
            _ => (S::INTERNAL_SERVER_ERROR, "store"),
        };
        Problem::new(status, code, text)
    }
}

impl From<GenerateError> for Problem {
    fn from(error: GenerateError) -> Problem {
        use GenerateError as E;
        let text = error.to_string();
        let (status, code) = match error {
            // Every request that leads here calls its turns messages.
            E::Invalid { field, reason } => return Problem::invalid(field, reason).renamed("turns", "messages"),
            E::TooLong { .. } => {
                return Problem::new(S::BAD_REQUEST, "context_length_exceeded", text).in_field("messages");
            }
            E::Busy(_) => (S::SERVICE_UNAVAILABLE, "busy"),
            E::Ended => (S::SERVICE_UNAVAILABLE, "stopping"),
            E::StageLost { .. } => (S::BAD_GATEWAY, "stage_lost"),
            _ => (S::INTERNAL_SERVER_ERROR, "engine"),
        };
        Problem::new(status, code, text)
    }
}
