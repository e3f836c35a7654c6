//! What the SchedulerActor can be told and asked, and the record that it keeps of each command.

use super::{
    course::Course,
    demand::Demand,
    files::{ARTEFACTS_MAX, Artefact, Files},
    wish::Wish,
};
pub use crate::ownership::Term;
use crate::{
    blob::BlobError,
    node::NodeError,
    ownership::lease::Holding,
    task::{Level, output::TAIL_BYTES_MAX},
};
use ractor::RpcReplyPort;
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, Ticket, Wire};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What the SchedulerActor understands.
#[derive(RactorClusterMessage)]
pub enum Message {
    /// Take a command: it is placed now or queued. Answered when its record is on disk.
    #[rpc]
    Submit(Wire<Spec>, RpcReplyPort<Wire<Result<Record, ScheduleError>>>),
    /// Take a command under this id, which its asker alone gives; one that is known is left as it is. `true`: it may have
    /// been given before, on another node, so others are asked as well.
    #[rpc]
    Enter(Wire<(Uuid, Spec, bool)>, RpcReplyPort<Wire<Result<Record, ScheduleError>>>),
    /// How these commands stand, as far as this node knows, in the same order. `None`: it knows nothing of it.
    #[rpc]
    States(Wire<Vec<Uuid>>, RpcReplyPort<Wire<Vec<Option<Standing>>>>),
    /// One command, wherever its record is.
    #[rpc]
    Get(Wire<Uuid>, RpcReplyPort<Wire<Result<Record, ScheduleError>>>),
    /// The newest commands of the whole swarm, at most this many; nodes that don't answer in time are left out.
    #[rpc]
    List(Wire<u32>, RpcReplyPort<Wire<Vec<Record>>>),
    /// The commands whose record is on this node, newest first, at most this many and 512 KiB; each shows the
    /// last KiB of its output.
    #[rpc]
    Own(Wire<u32>, RpcReplyPort<Wire<Vec<Record>>>),
    /// The record, if it is on this node.
    #[rpc]
    Find(Wire<Uuid>, RpcReplyPort<Wire<Option<Record>>>),
    /// End a command and everything that it started. Answered with its record once it has ended.
    #[rpc]
    Cancel(Wire<Uuid>, RpcReplyPort<Wire<Result<Record, ScheduleError>>>),
    /// Cancel all commands of this class that wait here. Answered with their number.
    #[rpc]
    Clear(Wire<Priority>, RpcReplyPort<Wire<u32>>),
    /// Follow a command's output: [`Output`] frames on the stream of this ticket, from its beginning (as far as
    /// it is kept) to its end. `NodeId` is who expects the stream.
    #[rpc]
    Follow(Wire<(Uuid, NodeId, Ticket)>, RpcReplyPort<Wire<Result<(), ScheduleError>>>),
    /// Numbers.
    #[rpc]
    Stats(RpcReplyPort<Wire<Stats>>),
    /// Between schedulers: run this here, now. Refused when there is no room, or no fence as it requires. Answered with the
    /// one that it has. Said twice it runs once.
    #[rpc]
    Run(Wire<Run>, RpcReplyPort<Wire<Result<Level, ScheduleError>>>),
    /// Between schedulers: does this attempt, on this node, still count? Asked about commands that never run twice at once. A
    /// yes is good for [`crate::ownership::lease::LEASE`], counted from when it was asked.
    #[rpc]
    Counts(Wire<(Uuid, u32, Term, NodeId)>, RpcReplyPort<Wire<bool>>),
    /// Between schedulers: end this attempt here. Answered when nothing of it is left.
    #[rpc]
    Stop(Wire<(Uuid, u32, Term)>, RpcReplyPort<Wire<Result<(), ScheduleError>>>),
    /// Between schedulers: the output of a run that was here, on a stream.
    #[rpc]
    Tap(Wire<Tap>, RpcReplyPort<Wire<Result<(), ScheduleError>>>),
    /// From a TaskActor of this node: the attempt of this number ended. Repeated until it is answered.
    #[rpc]
    Ended(Wire<(Uuid, u32, Ending)>, RpcReplyPort<Wire<()>>),
    /// Between schedulers: the attempt of this number, in this term, ended. Repeated until it is answered.
    #[rpc]
    Moved(Wire<(Uuid, u32, Term, Ending)>, RpcReplyPort<Wire<()>>),
    /// End what runs here, so that its owners run it elsewhere: this machine is to be switched off. Answered with how much
    /// that was, when nothing of it is left.
    #[rpc]
    Empty(RpcReplyPort<Wire<u32>>),
    /// Between schedulers: these records are gone, their output may go too.
    Forget(Wire<Vec<Uuid>>),
}

/// One attempt to run a command, from the scheduler that keeps its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The command's id.
    pub id: Uuid,
    /// Who keeps its record.
    pub owner: NodeId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The owner's term: a node that has heard of a later one refuses.
    pub term: Term,
    /// When the command was given, in milliseconds since 1970: a key that was forgotten may be given to another one.
    pub submitted_ms: u64,
    /// What to run.
    pub spec: Spec,
}

/// Whose output, from where, to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// The command's id.
    pub id: Uuid,
    /// Which attempt.
    pub attempt: u32,
    /// Bytes of output to leave out: the reader has them.
    pub from: u64,
    /// Who expects the stream.
    pub to: NodeId,
    /// Its ticket.
    pub ticket: Ticket,
}

/// A command, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// One line for `sh -c`, or a program when `args` is not empty. At most 64 KiB.
    pub command: String,
    /// Arguments; empty means that the shell reads `command`.
    pub args: Vec<String>,
    /// Added to a clean environment.
    pub env: BTreeMap<String, String>,
    /// Working folder; the task's own scratch folder if absent.
    pub dir: Option<String>,
    /// The node to run on, if it must be that one: key, unique prefix or name.
    pub node: Option<String>,
    /// The node to prefer if it has room.
    pub preferred_node: Option<String>,
    /// Cores that it needs; 0 is "whatever there is".
    pub cpus: u16,
    /// Bytes of memory that it needs.
    pub memory_bytes: u64,
    /// What else its node must have.
    pub demand: Demand,
    /// What it would like of its node.
    pub wish: Wish,
    /// When it runs, and how often.
    pub course: Course,
    /// What lies in its folder, and what is kept of that.
    pub files: Files,
    /// Whether it has the network, and with it the sockets of its machine's daemons. Behind a fence it has neither unless
    /// this says so; without a fence it has both.
    pub network: bool,
    /// Files and folders of its machine that it may read behind its fence, beside the system's own and `dir`.
    pub readable: Vec<String>,
    /// Folders of its machine that it may change behind its fence, beside its own.
    pub writable: Vec<String>,
    /// Seconds after which it is ended; 0 is never.
    pub timeout_s: u64,
    /// `urgent`, `critical`, `high`, `normal`, `low`.
    pub priority: Priority,
    /// Who submits the same command with the same key once more, to whichever node, is answered with the task of the
    /// first time: for those that didn't hear the answer. 1 to 128 bytes. Two nodes that are asked at the same moment,
    /// or cut off from each other, may both take it; then one task remains, which may have run twice.
    pub idempotency_key: Option<String>,
}

impl Spec {
    /// This line for the shell, wherever there is room, without wishes or limits.
    pub fn new(command: impl Into<String>) -> Spec {
        Spec {
            command: command.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            node: None,
            preferred_node: None,
            cpus: 0,
            memory_bytes: 0,
            demand: Demand::default(),
            wish: Wish::default(),
            course: Course::default(),
            files: Files::default(),
            network: false,
            readable: Vec::new(),
            writable: Vec::new(),
            timeout_s: 0,
            priority: Priority::Normal,
            idempotency_key: None,
        }
    }
}

impl Spec {
    /// The same without a fence: it has the rights of the user that its node runs as, the network too.
    pub fn unfenced(mut self) -> Spec {
        self.demand.sandbox = Some(Level::None);
        self
    }
}

/// How urgent a command is; a higher class always goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everything else.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before normal.
    High,
    /// Before high.
    Critical,
    /// Before everything.
    Urgent,
}

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for room.
    Pending,
    /// It runs.
    Running,
    /// It ended with status 0.
    Completed,
    /// It ended otherwise, or could not run; `error` says why.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl State {
    /// Whether nothing more will come of it.
    pub fn ended(self) -> bool {
        matches!(self, State::Completed | State::Failed | State::Cancelled)
    }
}

/// A command's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: Uuid,
    /// What was asked for.
    pub spec: Spec,
    /// The node that keeps this record and decides about it.
    pub owner: NodeId,
    /// Since when: it grows with every takeover.
    pub term: Term,
    /// Of one that never runs twice at once: the epoch of its owner ([`crate::ownership::lease`]) in which it decides about it.
    pub epoch: u64,
    /// How often it was placed on a node that took it. More than one: nodes died under it, it failed and was retried, or
    /// others went first.
    pub attempts: u32,
    /// How many nodes died or fell silent under it.
    pub strikes: u32,
    /// How often it failed by itself and was run again.
    pub failures: u8,
    /// It waits until then, in milliseconds since 1970.
    pub not_before_ms: Option<u64>,
    /// Where it runs or ran.
    pub assigned: Option<NodeId>,
    /// Where it stands.
    pub state: State,
    /// Somebody wants it ended while it runs: whoever decides about it next ends it, and nobody runs it once more.
    pub cancelling: bool,
    /// That is because its deadline has passed.
    pub overdue: bool,
    /// The fence that it has or had, once a node has taken it. What was required is in `spec.demand`.
    pub sandbox: Option<Level>,
    /// Exit status, if it exited by itself.
    pub exit_code: Option<i32>,
    /// The last part of its output, standard output and error as they came; the whole (as far as it is kept) by `Follow`.
    pub output: String,
    /// Bytes of output in all.
    pub output_bytes: u64,
    /// The files that it left.
    pub artefacts: Vec<Artefact>,
    /// Why it failed.
    pub error: Option<String>,
    /// Times in milliseconds since 1970.
    pub submitted_ms: u64,
    /// When it started.
    pub started_ms: Option<u64>,
    /// When it ended.
    pub finished_ms: Option<u64>,
    /// Of one that never runs twice at once: half of the swarm has its end on disk. Until then it counts as running.
    pub settled: bool,
}

impl Record {
    /// A new command's: it waits.
    pub fn new(id: Uuid, spec: Spec, owner: NodeId, term: Term, submitted_ms: u64) -> Record {
        Record {
            id,
            spec,
            owner,
            term,
            epoch: 0,
            attempts: 0,
            strikes: 0,
            failures: 0,
            not_before_ms: None,
            assigned: None,
            state: State::Pending,
            cancelling: false,
            overdue: false,
            sandbox: None,
            exit_code: None,
            output: String::new(),
            output_bytes: 0,
            artefacts: Vec::new(),
            error: None,
            submitted_ms,
            started_ms: None,
            finished_ms: None,
            settled: false,
        }
    }

    /// By when it must have ended, in milliseconds since 1970, by the clock of the node that took it.
    pub fn due_ms(&self) -> Option<u64> {
        let deadline_s = self.spec.course.deadline_s;
        (deadline_s > 0).then(|| self.submitted_ms.saturating_add(deadline_s.saturating_mul(1000)))
    }

    /// Who decides about it, since when.
    pub(super) fn holding(&self) -> Holding {
        Holding { term: self.term, owner: self.owner, epoch: self.epoch }
    }

    /// Whether it has ended, and nobody will run it again.
    pub(super) fn is_over(&self) -> bool {
        self.state.ended() && (!self.spec.course.once || self.settled)
    }

    /// Whether it is one of those that never run twice at once, and may run yet.
    pub(super) fn is_single(&self) -> bool {
        self.spec.course.once && !self.is_over()
    }

    /// As it may be shown: one whose end could still be lost runs, as far as anyone is told.
    pub(super) fn shown(mut self, lasting: bool) -> Record {
        if self.state.ended() && !(lasting && self.is_over()) {
            self.state = State::Running;
            (self.exit_code, self.error, self.finished_ms) = (None, None, None);
            self.artefacts.clear();
        }
        self
    }

    /// The gang that it belongs to.
    pub fn gang(&self) -> Option<Uuid> {
        self.spec.course.gang.map(|gang| gang.id)
    }

    /// Whose it is, and whether it is over.
    pub(super) fn stands(&self) -> (NodeId, bool) {
        (self.owner, self.is_over())
    }
}

/// How a command stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Where.
    pub state: State,
    /// Why it failed.
    pub error: Option<String>,
}

/// A step of a running command, from where it runs to where its record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Completed, Failed or Cancelled.
    pub state: State,
    /// Exit status, if it exited by itself.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
    /// The last part of its output.
    pub output: String,
    /// Bytes of output in all.
    pub output_bytes: u64,
    /// The files that it left.
    pub artefacts: Vec<Artefact>,
    /// The node failed, not the command: its scheduler may place it again.
    pub lost: bool,
}

/// Bytes of the reason of an ending: a sentence or two.
const REASON_BYTES_MAX: usize = 1 << 10;

impl Ending {
    /// Cut to what a record keeps: the node that tells it may be of another version or worse.
    pub fn bounded(mut self) -> Ending {
        let cut = self.output.len().saturating_sub(TAIL_BYTES_MAX);
        let cut = (cut..=self.output.len()).find(|at| self.output.is_char_boundary(*at)).unwrap_or_default();
        self.output.drain(..cut);
        self.artefacts.truncate(ARTEFACTS_MAX);
        if let Some(why) = &mut self.error {
            why.truncate(
                (0..=REASON_BYTES_MAX.min(why.len())).rev().find(|at| why.is_char_boundary(*at)).unwrap_or_default(),
            );
        }
        self
    }
}

/// One frame of a followed command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Bytes of standard output or error, as they came.
    Bytes(Vec<u8>),
    /// Earlier output is no longer kept: this many bytes are left out here.
    Skipped(u64),
    /// It ended; nothing follows. The text of its output is left empty here: it has been streamed.
    Ended(Ending),
}

/// Numbers of one node's scheduler.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Commands that wait, by priority's name.
    pub queued: BTreeMap<String, u32>,
    /// Commands that wait for others to end, or for a moment.
    pub aside: u32,
    /// Commands that run, whose record is here.
    pub in_flight: u32,
    /// Commands that run on this node.
    pub running_here: u32,
    /// Ended well since the node started.
    pub completed: u64,
    /// Ended badly.
    pub failed: u64,
    /// Ended by somebody.
    pub cancelled: u64,
    /// Nodes that failed lately, by key: `closed`, `open` or `half_open`.
    pub breakers: BTreeMap<String, String>,
}

/// Why a scheduler could not do it. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// No node's record has this id.
    #[error("Task not found: {0}")]
    NoSuchTask(Uuid),
    /// A field names a node that is not in the swarm, or could be several.
    #[error("{error}")]
    Named {
        /// The field's name.
        field: String,
        /// What is wrong with what it says.
        error: NodeError,
    },
    /// The named node does not answer.
    #[error("node {0} is down: choose another, or leave the choice to the scheduler")]
    NodeDown(String),
    /// No node could ever run it: what each lacks.
    #[error("no node has what this needs: {0}")]
    Impossible(String),
    /// The nodes could never run all of a gang at once, each with nothing else to do.
    #[error("these {count} can never run at once: all {nodes} nodes together have room for {room} ({each})")]
    NeverTogether {
        /// How many they are.
        count: u32,
        /// Nodes that could be asked.
        nodes: u32,
        /// For how many there is room.
        room: u64,
        /// For how many each has.
        each: String,
    },
    /// The node that was asked has no fence as strong as required.
    #[error("this can't be run there: {0}")]
    NoFence(String),
    /// No room now, on the node that was asked.
    #[error("no room on this node right now")]
    NoRoom,
    /// The queue is at its bound.
    #[error("the queue is full ({0} commands wait): try again later")]
    QueueFull(usize),
    /// The command has ended, so it can't be cancelled.
    #[error("the task has already {0}")]
    Over(String),
    /// Too many followers, or its output is no longer kept.
    #[error("its output can't be followed: {0}")]
    NoOutput(String),
    /// A field is out of its bounds.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The key names a task already, and that is another command.
    #[error("another command was submitted with this key, as task {0}: use a key of its own for each")]
    KeyTaken(Uuid),
    /// A file that it is to be given is nowhere.
    #[error("inputs: {0}")]
    NoInput(#[from] BlobError),
    /// The node that decides about it does not answer.
    #[error(
        "node {0}, which decides about this task, does not answer: another takes over within seconds, try again then"
    )]
    OwnerAway(String),
    /// The record could not be written.
    #[error("the task could not be saved, so it was not taken: {0}")]
    Store(String),
    /// Another node has taken the task over.
    #[error("another node has taken this task over: ask again, and it will be found there")]
    TakenOver,
    /// It takes half of the swarm or more, which doesn't answer.
    #[error(
        "a task that never runs twice at once takes the word of half of the swarm's nodes, under a key of more than half, \
         and fewer answer: try again when they do"
    )]
    NoMajority,
    /// The node that was asked to run an attempt has run this later one.
    #[error("attempt {0} of this task was made there already")]
    Further(u32),
    /// The other node did not answer.
    #[error("{0}")]
    Link(#[from] skep_runtime::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_tasks_of_one_key_the_later_counts_whoever_took_it() {
        let (low, high) = (NodeId::from_bytes([0; 32]), NodeId::from_bytes([255; 32]));
        assert!(Term::first(5000, high) < Term::first(6000, low));
        assert!(Term::first(5000, high) < Term::first(5000, low).next(low), "whoever takes one over counts more");
        assert!(Term::first(u64::MAX, high).next(low) > Term::first(u64::MAX, high));
    }

    #[test]
    fn an_ending_is_cut_to_what_a_record_keeps() {
        let told = Ending {
            state: State::Failed,
            exit_code: None,
            error: Some("é".repeat(1 << 20)),
            output: format!("{}end", "é".repeat(1 << 20)),
            output_bytes: 1 << 21,
            artefacts: Vec::new(),
            lost: false,
        };
        let kept = told.bounded();
        assert!(kept.output.len() <= TAIL_BYTES_MAX && kept.output.ends_with("end"));
        assert!(kept.error.clone().unwrap().len() <= REASON_BYTES_MAX);
        assert_eq!(kept.clone().bounded(), kept);
    }
}
