//! What listeners are told of threads and messages. Decides nothing.

use super::messages::{Role, Said, Status, Thread};
use crate::event::what;

/// A thread, as listeners are told of it.
pub(super) fn thread(thread: &Thread) -> what::Thread {
    let status = match thread.status {
        Status::Active => "active",
        Status::Completed => "completed",
        Status::Error => "error",
        Status::Killed => "killed",
    };
    what::Thread {
        thread_id: thread.id.to_string().into(),
        agent_id: Some(thread.agent.as_str().into()),
        title: thread.title.as_deref().map(Into::into),
        status: status.into(),
        message_count: thread.last,
    }
}

/// A message, as listeners are told of it.
pub(super) fn message(said: &Said) -> what::Message {
    let (agent, role) = match said.role {
        Role::User => (&said.to, "user"),
        Role::Assistant => (&said.from, "assistant"),
        Role::System => (&said.to, "system"),
    };
    what::Message {
        id: said.id.to_string().into(),
        thread_id: said.thread.to_string().into(),
        agent_id: Some(agent.as_str().into()),
        from: said.from.as_str().into(),
        to: Some(said.to.as_str().into()),
        role: role.into(),
        payload_type: said.kind.as_str().into(),
        content: said.content().into(),
    }
}
