//! A command, as the API takes and shows it.

use crate::{Problem, when::rfc3339};
use poem_openapi::{Enum, Object};
use skep_actors::{
    digest::Digest,
    scheduler::{self, Artefact, Condition, Course, Demand, Files, Input, Record, Spec, Wish},
    task::{Level, fence::level::BadLevel},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "TaskStatus", rename_all = "lowercase")]
pub enum Status {
    /// It waits for room.
    Pending,
    /// It runs.
    Running,
    /// It ended with status 0.
    Completed,
    /// It ended otherwise, or could not run.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

/// A command and its record.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The line for the shell, or the program when there are `args`.
    pub command: String,
    /// The program's arguments.
    pub args: Vec<String>,
    /// Its environment, as `NAME=value`.
    pub env: Vec<String>,
    /// `urgent`, `critical`, `high`, `normal` or `low`.
    pub priority: String,
    /// The machine that was preferred.
    pub preferred_node: Option<String>,
    /// The key of the machine that it runs or ran on.
    pub assigned_node: Option<String>,
    /// The key of the machine that keeps this record.
    pub owner_node: String,
    /// Where it stands.
    pub status: Status,
    /// How often it was given to a machine. Each time after the first, one had died or fallen silent under it: it ran at
    /// most this often.
    pub attempts: u32,
    /// The fence that it has or had: `bubblewrap`, `landlock` or `none`; absent until a machine has taken it. What was
    /// required is among the requirements.
    pub sandbox: Option<String>,
    /// Its exit status, if it exited by itself.
    pub exit_code: Option<i32>,
    /// The last part of what it wrote, output and errors as they came.
    pub output: String,
    /// Bytes that it wrote in all.
    pub output_bytes: u64,
    /// The files that lie in its folder when it starts.
    pub inputs: Vec<InputFile>,
    /// What is kept of its folder.
    pub outputs: Vec<String>,
    /// The files that it left under those names. `GET /api/blobs/:digest` is what is in one.
    pub artefacts: Vec<ArtefactFile>,
    /// Why it failed.
    pub error: Option<String>,
    /// How often it failed by itself and was run again.
    pub failures: u32,
    /// The tasks that it waits for, or waited.
    pub after: Vec<String>,
    /// It waits until then: it failed, and is run again.
    pub not_before: Option<String>,
    /// By when it must have ended.
    pub deadline: Option<String>,
    /// The goal that it is a part of.
    pub goal_id: Option<String>,
    /// Of a gang: how many tasks are placed at once, this one among them.
    pub gang_size: Option<u32>,
    /// What it needs.
    pub requirements: Requirements,
    /// When it was given.
    pub submitted_at: String,
    /// When it started.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// A file that a command is given.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct InputFile {
    /// What it is called, from the command's folder: relative, without `.` and `..`.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub path: String,
    /// What is in it: the digest that storing it answered with.
    pub digest: String,
    /// Whether it may be executed.
    pub executable: Option<bool>,
}

/// A file that a command left.
#[derive(Debug, Object)]
pub struct ArtefactFile {
    /// What it is called, from the command's folder.
    pub path: String,
    /// SHA-256 of what is in it.
    pub digest: String,
    /// How large it is.
    pub bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// What a command needs.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Requirements {
    /// Cores; 0 is whatever there is.
    pub cpus: u16,
    /// Bytes of memory; 0 is whatever there is.
    pub memory_bytes: u64,
    /// Graphics processors.
    pub gpus: u16,
    /// Bytes of memory of each of them.
    pub vram_bytes: u64,
    /// Bytes free on the machine's disk.
    pub disk_bytes: u64,
    /// A model whose weights lie there.
    pub model: Option<String>,
    /// Conditions on the machine's labels.
    pub labels: Vec<String>,
    /// Conditions on them that it prefers to hold.
    pub prefers: Vec<String>,
    /// Taints that it puts up with.
    pub tolerates: Vec<String>,
    /// The group whose tasks never share a machine.
    pub apart: Option<String>,
    /// How its machine is chosen among those that have room.
    pub strategy: String,
    /// How often it is run again if it fails.
    pub retries: u32,
    /// Tasks of lower classes make way for it.
    pub preempts: bool,
    /// The weakest fence that will do: `bubblewrap`, `landlock` or `none`.
    pub sandbox: String,
    /// Whether it has the network.
    pub network: bool,
    /// What it may read of its machine, beside the system's files and its folder.
    pub readable: Vec<String>,
    /// What it may change of its machine, beside its own folder.
    pub writable: Vec<String>,
    /// Seconds after which it is ended; 0 is never.
    pub timeout_s: u64,
}

/// A command to run.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct NewTask {
    /// One line for `sh -c`, or a program when there are `args`.
    #[oai(validator(min_length = 1, max_length = 65536))]
    pub command: String,
    /// The program's arguments; with them no shell reads the command.
    #[oai(validator(max_items = 1024))]
    pub args: Option<Vec<String>>,
    /// Added to a clean environment, as `NAME=value`.
    #[oai(validator(max_items = 1024))]
    pub env: Option<Vec<String>>,
    /// Its working folder; a scratch folder of its own if absent.
    pub dir: Option<String>,
    /// The machine that it must run on: key, beginning of the key, or name.
    pub node: Option<String>,
    /// The machine to prefer if it has room.
    pub preferred_node: Option<String>,
    /// Cores that it needs.
    #[oai(validator(minimum(value = "0"), maximum(value = "65535")))]
    pub cpus: Option<u16>,
    /// Bytes of memory that it needs. With more, it is ended.
    #[oai(validator(minimum(value = "0")))]
    pub memory_bytes: Option<u64>,
    /// Graphics processors that it needs. They are counted: which of them it uses is its own affair.
    #[oai(validator(minimum(value = "0"), maximum(value = "65535")))]
    pub gpus: Option<u16>,
    /// Bytes of memory that each of those has at least; alone it asks for one.
    #[oai(validator(minimum(value = "0")))]
    pub vram_bytes: Option<u64>,
    /// Bytes that are free on the machine's disk. If it writes more into its folder, it is ended.
    #[oai(validator(minimum(value = "0")))]
    pub disk_bytes: Option<u64>,
    /// A model whose weights lie there, by its name.
    #[oai(validator(min_length = 1, max_length = 256))]
    pub model: Option<String>,
    /// Conditions on the machine's labels, which all have to hold: `key`, `!key`, `key=value` or `key!=value`. Every
    /// machine has `os`, `arch` and `device` beside those that its owner gave it.
    #[oai(validator(max_items = 32))]
    pub labels: Option<Vec<String>>,
    /// The same, but only preferred: of the machines with room, those where most of them hold.
    #[oai(validator(max_items = 8))]
    pub prefers: Option<Vec<String>>,
    /// Taints that it puts up with. A machine with the label `taint.NAME` takes only tasks that name NAME here, or `*`.
    #[oai(validator(max_items = 32))]
    pub tolerates: Option<Vec<String>>,
    /// A group whose tasks never share a machine, as far as the machine that they were given to knows.
    #[oai(validator(min_length = 1, max_length = 63))]
    pub apart: Option<String>,
    /// How to choose among machines with room: `least_connections` (or `spread`), `round_robin`, `weighted`,
    /// `resource_based`, `random` (of two) or `bin_pack`.
    pub strategy: Option<String>,
    /// At least this strong a fence around it: `bubblewrap`, `landlock` or `none`. Absent, it has the strongest that its
    /// machine has, but never none: to run without a fence has to be asked for.
    pub sandbox: Option<String>,
    /// Whether it has the network; without a fence it always has.
    pub network: Option<bool>,
    /// Files and folders that it may read behind its fence, by absolute paths, beside the system's own and `dir`.
    #[oai(validator(max_items = 16))]
    pub readable: Option<Vec<String>>,
    /// Folders that it may change behind its fence, by absolute paths, beside its own.
    #[oai(validator(max_items = 16))]
    pub writable: Option<Vec<String>>,
    /// Files that lie in its folder when it starts, on whichever machine: stored before by `POST /api/blobs`.
    #[oai(validator(max_items = 64))]
    pub inputs: Option<Vec<InputFile>>,
    /// Files and folders in its folder that are kept when it has ended, an hour at least, 64 files in all; its record names
    /// them as `artefacts`. If one isn't there, a task fails that would have completed.
    #[oai(validator(max_items = 16))]
    pub outputs: Option<Vec<String>>,
    /// Seconds after which it is ended.
    #[oai(validator(minimum(value = "0")))]
    pub timeout_s: Option<u64>,
    /// How often it is run again if it fails by itself, after pauses of 1 s, 2 s, 4 s and so on up to a minute.
    #[oai(validator(minimum(value = "0"), maximum(value = "100")))]
    pub retries: Option<u8>,
    /// Seconds from now by which it must have ended, or it fails.
    #[oai(validator(minimum(value = "0")))]
    pub deadline_s: Option<u64>,
    /// Ids of tasks that must have completed before it runs. If one of them doesn't, it fails.
    #[oai(validator(max_items = 1024))]
    pub after: Option<Vec<String>>,
    /// Tasks of lower classes make way for it if there is no room: they are ended, and run again from their beginning.
    pub preempts: Option<bool>,
    /// What becomes of it when its machine can't be reached: `at_least_once` (the default) runs it again elsewhere at once,
    /// and if its machine was merely cut off, both run it for a while. `at_most_once` never runs it twice at the same time:
    /// a machine that is cut off ends it, only then is it run elsewhere, and it waits while half of the swarm is away.
    pub delivery: Option<String>,
    /// `urgent`, `critical`, `high`, `normal`, `low` or `background`.
    pub priority: Option<String>,
    /// Whoever submits the same command with the same key once more, to any node, is answered with the task of the
    /// first time: for those that didn't hear the answer.
    #[oai(validator(min_length = 1, max_length = 128))]
    pub idempotency_key: Option<String>,
    /// The same wishes under their documented names.
    pub hints: Option<Hints>,
}

/// Wishes about where and how urgently a command runs.
#[derive(Debug, Default, Object)]
pub struct Hints {
    /// `urgent`, `critical`, `high`, `normal`, `low` or `background`.
    pub priority: Option<String>,
    /// MiB of memory that it needs.
    #[oai(validator(minimum(value = "0"), maximum(value = "1073741824")))]
    pub min_ram_mb: Option<u64>,
    /// The machine that it must run on.
    pub node: Option<String>,
}

impl NewTask {
    /// The field that says where it must run: the machine has two documented names.
    pub(crate) fn names_its_node_in(&self) -> &'static str {
        let hinted = self.hints.as_ref().is_some_and(|hints| hints.node.is_some());
        if self.node.is_none() && hinted { "hints.node" } else { "node" }
    }
}

impl TryFrom<NewTask> for Spec {
    type Error = Problem;

    fn try_from(new: NewTask) -> Result<Spec, Problem> {
        let hints = new.hints.unwrap_or_default();
        let memory = new.memory_bytes.or(hints.min_ram_mb.map(|mb| mb << 20));
        Ok(Spec {
            command: new.command,
            args: new.args.unwrap_or_default(),
            env: environment(new.env.unwrap_or_default())?,
            dir: new.dir,
            node: new.node.or(hints.node),
            preferred_node: new.preferred_node,
            cpus: new.cpus.unwrap_or(0),
            memory_bytes: memory.unwrap_or(0),
            demand: Demand {
                gpus: new.gpus.unwrap_or(0),
                vram_bytes: new.vram_bytes.unwrap_or(0),
                disk_bytes: new.disk_bytes.unwrap_or(0),
                model: new.model,
                labels: conditions("labels", new.labels)?,
                sandbox: level(new.sandbox)?,
                tolerates: new.tolerates.unwrap_or_default(),
            },
            wish: Wish {
                strategy: strategy(new.strategy)?,
                prefers: conditions("prefers", new.prefers)?,
                apart: new.apart,
            },
            course: Course {
                retries: new.retries.unwrap_or(0),
                deadline_s: new.deadline_s.unwrap_or(0),
                after: ids(new.after.unwrap_or_default())?,
                preempts: new.preempts.unwrap_or(false),
                part: None,
                gang: None,
                once: once(new.delivery)?,
            },
            files: Files { inputs: inputs(new.inputs.unwrap_or_default())?, outputs: new.outputs.unwrap_or_default() },
            network: new.network.unwrap_or(false),
            readable: new.readable.unwrap_or_default(),
            writable: new.writable.unwrap_or_default(),
            timeout_s: new.timeout_s.unwrap_or(0),
            priority: priority(new.priority.or(hints.priority))?,
            idempotency_key: new.idempotency_key,
        })
    }
}

fn conditions(field: &str, texts: Option<Vec<String>>) -> Result<Vec<Condition>, Problem> {
    let parse = |text: String| text.parse().map_err(|why: String| Problem::invalid(field, &why));
    texts.unwrap_or_default().into_iter().map(parse).collect()
}

fn strategy(word: Option<String>) -> Result<scheduler::Strategy, Problem> {
    let parse = |word: String| word.parse().map_err(|why: String| Problem::invalid("strategy", &why));
    word.map(parse).transpose().map(Option::unwrap_or_default)
}

/// The word for a task that never runs twice at the same time.
const AT_MOST_ONCE: &str = "at_most_once";

fn once(word: Option<String>) -> Result<bool, Problem> {
    match word.as_deref() {
        None | Some("at_least_once") => Ok(false),
        Some(AT_MOST_ONCE) => Ok(true),
        Some(other) => {
            Err(Problem::invalid("delivery", format!("{other:?} is neither at_least_once nor at_most_once")))
        }
    }
}

fn inputs(files: Vec<InputFile>) -> Result<Vec<Input>, Problem> {
    let parse = |file: InputFile| {
        let wrong = |why| Problem::invalid("inputs", format!("the digest of {} {why}", file.path));
        let digest: Digest = file.digest.parse().map_err(wrong)?;
        Ok(Input { path: file.path, digest, executable: file.executable.unwrap_or(false) })
    };
    files.into_iter().map(parse).collect()
}

fn ids(texts: Vec<String>) -> Result<Vec<Uuid>, Problem> {
    let parse = |text: String| text.parse().map_err(|_| Problem::invalid("after", format!("{text:?} is no task's id")));
    texts.into_iter().map(parse).collect()
}

fn level(word: Option<String>) -> Result<Option<Level>, Problem> {
    word.map(|word| word.parse().map_err(|e: BadLevel| Problem::invalid("sandbox", e.to_string()))).transpose()
}

/// What was asked for, in the words in which it can be asked for again. What is as usual is left out.
pub(crate) fn command_of(spec: Spec) -> NewTask {
    let some = |number: u64| Some(number).filter(|number| *number > 0);
    let few = |number: u16| Some(number).filter(|number| *number > 0);
    let any = |texts: Vec<String>| Some(texts).filter(|texts| !texts.is_empty());
    let conditions = |conditions: &[Condition]| any(conditions.iter().map(ToString::to_string).collect());
    NewTask {
        command: spec.command,
        args: any(spec.args),
        env: any(spec.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        dir: spec.dir,
        node: spec.node,
        preferred_node: spec.preferred_node,
        cpus: few(spec.cpus),
        memory_bytes: some(spec.memory_bytes),
        gpus: few(spec.demand.gpus),
        vram_bytes: some(spec.demand.vram_bytes),
        disk_bytes: some(spec.demand.disk_bytes),
        labels: conditions(&spec.demand.labels),
        tolerates: any(spec.demand.tolerates),
        sandbox: spec.demand.sandbox.map(|level| level.to_string()),
        network: Some(true).filter(|_| spec.network),
        readable: any(spec.readable),
        writable: any(spec.writable),
        prefers: conditions(&spec.wish.prefers),
        apart: spec.wish.apart,
        strategy: Some(spec.wish.strategy).filter(|s| *s != Default::default()).map(|s| s.word().to_owned()),
        retries: Some(spec.course.retries).filter(|retries| *retries > 0),
        deadline_s: some(spec.course.deadline_s),
        after: any(spec.course.after.iter().map(ToString::to_string).collect()),
        preempts: Some(true).filter(|_| spec.course.preempts),
        delivery: Some(AT_MOST_ONCE.to_owned()).filter(|_| spec.course.once),
        model: spec.demand.model,
        inputs: Some(spec.files.inputs.into_iter().map(InputFile::from).collect::<Vec<_>>()).filter(|i| !i.is_empty()),
        outputs: any(spec.files.outputs),
        timeout_s: some(spec.timeout_s),
        priority: Some(spec.priority).filter(|p| *p != Default::default()).map(|p| format!("{p:?}").to_lowercase()),
        idempotency_key: spec.idempotency_key,
        hints: None,
    }
}

fn environment(pairs: Vec<String>) -> Result<BTreeMap<String, String>, Problem> {
    let split = |pair: String| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Problem::invalid("env", "each entry is NAME=value")),
    };
    pairs.into_iter().map(split).collect()
}

pub(crate) fn priority(word: Option<String>) -> Result<scheduler::messages::Priority, Problem> {
    use scheduler::messages::Priority as P;
    Ok(match word.as_deref() {
        None | Some("normal") => P::Normal,
        Some("low" | "background") => P::Low,
        Some("high") => P::High,
        Some("critical") => P::Critical,
        Some("urgent") => P::Urgent,
        Some(other) => return Err(Problem::bad(format!("Invalid priority: {other}")).in_field("priority")),
    })
}

impl From<scheduler::State> for Status {
    fn from(state: scheduler::State) -> Status {
        match state {
            scheduler::State::Pending => Status::Pending,
            scheduler::State::Running => Status::Running,
            scheduler::State::Completed => Status::Completed,
            scheduler::State::Failed => Status::Failed,
            scheduler::State::Cancelled => Status::Cancelled,
        }
    }
}

impl From<Input> for InputFile {
    fn from(input: Input) -> InputFile {
        let executable = Some(true).filter(|_| input.executable);
        InputFile { path: input.path, digest: input.digest.to_string(), executable }
    }
}

impl From<Artefact> for ArtefactFile {
    fn from(artefact: Artefact) -> ArtefactFile {
        let Artefact { path, digest, bytes, executable } = artefact;
        ArtefactFile { path, digest: digest.to_string(), bytes, executable }
    }
}

impl From<Record> for Task {
    fn from(record: Record) -> Task {
        let deadline = record.due_ms().map(rfc3339);
        let spec = record.spec;
        Task {
            id: record.id.to_string(),
            command: spec.command,
            args: spec.args,
            env: spec.env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            priority: format!("{:?}", spec.priority).to_lowercase(),
            preferred_node: spec.node.or(spec.preferred_node),
            assigned_node: record.assigned.map(|node| node.to_string()),
            owner_node: record.owner.to_string(),
            status: record.state.into(),
            attempts: record.attempts,
            sandbox: record.sandbox.map(|level| level.to_string()),
            exit_code: record.exit_code,
            output: record.output,
            output_bytes: record.output_bytes,
            inputs: spec.files.inputs.into_iter().map(InputFile::from).collect(),
            outputs: spec.files.outputs,
            artefacts: record.artefacts.into_iter().map(ArtefactFile::from).collect(),
            error: record.error,
            failures: record.failures.into(),
            after: spec.course.after.iter().map(ToString::to_string).collect(),
            not_before: record.not_before_ms.map(rfc3339),
            deadline,
            goal_id: spec.course.part.map(|part| part.goal.to_string()),
            gang_size: spec.course.gang.map(|gang| gang.count),
            requirements: Requirements {
                sandbox: spec.demand.sandbox().to_string(),
                cpus: spec.cpus,
                memory_bytes: spec.memory_bytes,
                gpus: spec.demand.gpus(),
                vram_bytes: spec.demand.vram_bytes,
                disk_bytes: spec.demand.disk_bytes,
                labels: spec.demand.labels.iter().map(ToString::to_string).collect(),
                prefers: spec.wish.prefers.iter().map(ToString::to_string).collect(),
                tolerates: spec.demand.tolerates,
                apart: spec.wish.apart,
                strategy: spec.wish.strategy.word().into(),
                retries: spec.course.retries.into(),
                preempts: spec.course.preempts,
                model: spec.demand.model,
                network: spec.network,
                readable: spec.readable,
                writable: spec.writable,
                timeout_s: spec.timeout_s,
            },
            submitted_at: rfc3339(record.submitted_ms),
            started_at: record.started_ms.map(rfc3339),
            finished_at: record.finished_ms.map(rfc3339),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_priority_has_its_class() {
        use scheduler::messages::Priority as P;
        let of = |word: &str| priority(Some(word.into())).unwrap();
        assert_eq!((of("background"), of("low"), of("urgent")), (P::Low, P::Low, P::Urgent));
        let problem = priority(Some("asap".into())).unwrap_err();
        assert_eq!((problem.detail(), problem.field()), ("Invalid priority: asap", Some("priority")));
    }

    #[test]
    fn an_environment_keeps_equal_signs_in_values() {
        assert_eq!(environment(vec!["A=b=c".into()]).unwrap()["A"], "b=c");
        assert_eq!(environment(vec!["A".into()]).unwrap_err().field(), Some("env"));
    }
}
