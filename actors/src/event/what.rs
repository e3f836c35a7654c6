//! What can happen: each kind with its documented name and what is told of it. The whole list is here, in one place.
//!
//! A kind without a source in this program is here because its name is documented and its source is being built: whoever
//! has it publishes it.

use super::Text;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use skep_runtime::NodeId;
use uuid::Uuid;

/// Something that happened, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970, by that node's clock.
    pub at_ms: u64,
    /// The node that told of it.
    pub node: NodeId,
    /// What it was.
    pub what: What,
}

/// One list for the kinds, their names and what is told of each.
macro_rules! kinds {
    ($($(#[$about:meta])* $name:literal $kind:ident($told:ty),)*) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum What {
            $($(#[$about])* $kind($told),)*
        }

        impl What {
            /// The names of all kinds.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The documented name of its kind.
            pub fn name(&self) -> &'static str {
                match self {
                    $(What::$kind(_) => $name,)*
                }
            }

            /// What is told of it, by the documented names; what is not known is left out.
            pub fn fields(&self) -> Map<String, Value> {
                let told = match self {
                    $(What::$kind(told) => serde_json::to_value(told),)*
                };
                match told {
                    Ok(Value::Object(fields)) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
                    // Each kind tells an object with names for keys.
                    _ => Map::new(),
                }
            }
        }
    };
}

kinds! {
    /// A machine was let in.
    "node_joined" NodeJoined(Node),
    /// What is known of a machine changed: its work, its load, that it is back.
    "node_updated" NodeUpdated(Node),
    /// A machine stopped answering.
    "node_offline" NodeOffline(Node),
    /// A machine said goodbye, or is off the roster.
    "node_left" NodeLeft(Node),
    /// A command was taken.
    "task_submitted" TaskSubmitted(Task),
    /// A command moved on: it runs, waits again, or has ended.
    "task_updated" TaskUpdated(Task),
    /// A run of an agent began.
    "agent_started" AgentStarted(Agent),
    /// A run is being worked on.
    "agent_working" AgentWorking(Agent),
    /// A run made a step, or ended.
    "agent_updated" AgentUpdated(Agent),
    /// Nothing is being worked on in a run.
    "agent_idle" AgentIdle(Agent),
    /// A run has ended and what it cost is settled.
    "agent_stopped" AgentStopped(Agent),
    /// A piece of text that a run's model wrote.
    "stream_chunk" StreamChunk(Chunk),
    /// An agent is in another state now.
    "agent_state" AgentState(AgentState),
    /// A message in a thread.
    "message" Message(Message),
    /// A thread was opened.
    "thread_created" ThreadCreated(Thread),
    /// A thread changed.
    "thread_updated" ThreadUpdated(Thread),
    /// A call of a tool waits for the owner's word.
    "pending_approval" PendingApproval(Approval),
    /// A call that was approved is made now.
    "approval_replay_started" ApprovalReplayStarted(Approval),
    /// A call that was approved has been made.
    "approval_replay_succeeded" ApprovalReplaySucceeded(Approval),
    /// A call that was approved could not be made.
    "approval_replay_failed" ApprovalReplayFailed(Approval),
    /// A model was chosen for a turn.
    "model_selection" ModelSelection(Selection),
    /// Another model goes on with it.
    "model_shift" ModelShift(Selection),
    /// A skill is used.
    "skill_activated" SkillActivated(Skill),
    /// The configuration was read again.
    "reload" Reload(Reload),
    /// Something failed that no answer told.
    "error" Error(Failure),
    /// Events of a node were lost on the way: too many at once, or its link was down.
    "missed" Missed(Missed),
}

impl What {
    /// Whether each node sees it for itself, so that no node tells another.
    pub(super) fn is_seen_by_each(&self) -> bool {
        matches!(self, What::NodeJoined(_) | What::NodeUpdated(_) | What::NodeOffline(_) | What::NodeLeft(_))
    }
}

/// A machine, as the node that tells of it sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its key.
    pub id: NodeId,
    /// Its name.
    pub name: Text,
    /// `online`, `offline` or `left`.
    pub status: Text,
    /// Processor time in use, in percent of all cores.
    pub cpu_percent: f64,
    /// Memory in use, in percent.
    pub memory_percent: f64,
    /// Commands, agents and shards at work.
    pub running: u16,
    /// Work that waits there.
    pub queued: u16,
    /// It takes no new work.
    pub draining: bool,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: Uuid,
    /// The line for the shell, or the program.
    pub command: Text,
    /// `pending`, `running`, `completed`, `failed` or `cancelled`.
    pub status: Text,
    /// The machine that it runs or ran on.
    pub assigned_node: Option<NodeId>,
    /// The machine that keeps its record.
    pub owner_node: NodeId,
    /// How often it was given to a machine.
    pub attempts: u32,
    /// Its exit status, if it exited by itself.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<Text>,
}

/// A run of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: Uuid,
    /// The same, as clients that subscribe to agents name it.
    pub agent_id: Text,
    /// The thread whose budget it spends.
    pub thread_id: Text,
    /// The run whose sub-agent it is.
    pub parent_id: Option<Uuid>,
    /// What is wanted.
    pub goal: Text,
    /// Where it stands.
    pub status: Text,
    /// How many steps it has made.
    pub steps: u32,
    /// What the last of them was.
    pub step: Option<Text>,
    /// Tokens that it spent itself.
    pub tokens: u64,
    /// Why it failed.
    pub error: Option<Text>,
}

/// A piece of generated text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Whose thread.
    pub thread_id: Text,
    /// Whose text.
    pub agent_id: Text,
    /// Which words it belongs to: those that are begun anew, because a node died, are others.
    pub generation_id: Text,
    /// The text.
    pub delta: Text,
}

/// An agent and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// Which agent.
    pub agent_id: Text,
    /// `idle`, `processing`, `waiting`, `error`, `paused`, ...
    pub state: Text,
    /// The thread that it works in.
    pub thread_id: Option<Text>,
}

/// A message in a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: Text,
    /// Its thread.
    pub thread_id: Text,
    /// The agent whose thread it is, or that it goes to.
    pub agent_id: Option<Text>,
    /// Who wrote it.
    pub from: Text,
    /// Whom it is for.
    pub to: Option<Text>,
    /// `user`, `assistant`, `system` or `tool`.
    pub role: Text,
    /// What kind of payload it is.
    pub payload_type: Text,
    /// The beginning of what it says.
    pub content: Text,
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub thread_id: Text,
    /// Whose it is.
    pub agent_id: Option<Text>,
    /// What people call it.
    pub title: Option<Text>,
    /// Where it stands.
    pub status: Text,
    /// How many messages it has.
    pub message_count: u64,
}

/// A call of a tool that needs the owner's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The id to answer with.
    pub id: Text,
    /// Which tool.
    pub tool: Text,
    /// Who wants to call it.
    pub agent_id: Option<Text>,
    /// In which thread.
    pub thread_id: Option<Text>,
    /// What it would be called with: the beginning of it.
    pub arguments: Text,
    /// Until when it waits, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
    /// Why it could not be made.
    pub error: Option<Text>,
}

/// Which model does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The model.
    pub model: Text,
    /// The one before it.
    pub from: Option<Text>,
    /// Why.
    pub reason: Option<Text>,
    /// In which thread.
    pub thread_id: Option<Text>,
}

/// A skill that is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Which.
    pub name: Text,
    /// By whom.
    pub agent_id: Option<Text>,
}

/// What changed when the configuration was read again, in names with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reload {
    /// What is new.
    pub added: Text,
    /// What is gone.
    pub removed: Text,
    /// What is different.
    pub updated: Text,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For people.
    pub detail: Text,
}

/// Events that were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Of which node.
    pub from: NodeId,
    /// How many; absent if nobody knows.
    pub count: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime::wire;
    use std::collections::BTreeSet;

    #[test]
    fn an_event_is_told_by_the_documented_names_without_what_is_unknown() {
        let node = NodeId::from_bytes([1; 32]);
        let task = Task {
            id: Uuid::nil(),
            command: "true".into(),
            status: "running".into(),
            assigned_node: Some(node),
            owner_node: node,
            attempts: 1,
            exit_code: None,
            error: None,
        };
        let event = Event { at_ms: 1, node, what: What::TaskUpdated(task) };
        let fields = event.what.fields();
        assert_eq!((event.what.name(), fields["status"].as_str()), ("task_updated", Some("running")));
        assert_eq!(fields["assigned_node"], node.to_string().as_str());
        assert!(!fields.contains_key("error"));
        assert_eq!(wire::decode::<Event>(&wire::encode(&event), 1 << 20).unwrap(), event, "it travels");
    }

    #[test]
    fn each_name_is_there_once_and_reads_as_the_documented_ones() {
        let names: BTreeSet<_> = What::NAMES.iter().collect();
        assert_eq!(names.len(), What::NAMES.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')), "{names:?}");
    }
}
