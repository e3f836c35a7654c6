//! What listeners are told of a command: each step of it, once it is on the disk. Decides nothing.

use super::{
    core::word,
    desk::Desk,
    messages::{Record, State, Term},
};
use crate::event::{What, what::Task};

impl Desk {
    /// Tells whoever listens how a command stands.
    pub(super) fn tell_listeners(&self, record: &Record) {
        // Of an end that could still be lost nobody is told.
        if !record.state.ended() || record.is_over() {
            self.context.events.publish(|| news(record));
        }
    }
}

fn news(record: &Record) -> What {
    let task = Task {
        id: record.id,
        command: record.spec.command.as_str().into(),
        status: word(record.state).into(),
        assigned_node: record.assigned,
        owner_node: record.owner,
        attempts: record.attempts,
        exit_code: record.exit_code,
        error: record.error.as_deref().map(Into::into),
    };
    match is_new(record) {
        true => What::TaskSubmitted(task),
        false => What::TaskUpdated(task),
    }
}

/// Whether nothing has happened to it yet.
fn is_new(record: &Record) -> bool {
    // One that never runs twice is voted for before it is taken, in a term of its own.
    let first = record.spec.course.once || record.term == Term::first(record.submitted_ms, record.owner);
    first
        && record.state == State::Pending
        && (record.attempts, record.strikes, record.failures) == (0, 0, 0)
        && !record.cancelling
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::Spec;
    use skep_runtime::NodeId;
    use uuid::Uuid;

    #[test]
    fn a_command_is_submitted_once_and_updated_ever_after() {
        let me = NodeId::from_bytes([1; 32]);
        let new = Record::new(Uuid::nil(), Spec::new("true"), me, Term::first(5000, me), 5000);
        let name = |record: Record| news(&record).name();
        assert_eq!(name(new.clone()), "task_submitted");
        assert_eq!(name(Record { state: State::Running, attempts: 1, ..new.clone() }), "task_updated");
        assert_eq!(name(Record { cancelling: true, ..new.clone() }), "task_updated");
        assert_eq!(name(Record { term: new.term.next(me), ..new }), "task_updated", "it was taken over");
    }
}
