//! The hidden subcommand that stands between a node and a command: it ends the command with the node.
//!
//! A keeper is this same program as a small process of its own, one for each command that runs at a time. It adopts
//! every orphan that the command leaves (`PR_SET_CHILD_SUBREAPER`), kills all of it when the command's first process
//! ends or when its standard input closes, and reports that process's status. Its input is a socket whose other end only
//! the node holds, so the kernel closes it however the node ends, `kill -9` included. A parent-death signal would not
//! do: it is tied to the thread that started the command, and it spares grandchildren.
//!
//! When nothing of a command is left, its keeper takes the next one: to start this program costs more than most commands
//! do. Fences and limits are put up here too, since both are inherited: a thread that restricts itself starts the command,
//! and the limits are this process's own meanwhile.
//!
//! A command that never may run on two machines at once is good until a moment that its node moves on. A node that stands
//! still can't end it, so its keeper does, and ends itself without a word. Not here: the node's side of the socket
//! ([`super::kept`]), and the looks at what a command takes (`fence::watch`).

use super::{
    family::Family,
    fence::{self, Fence, Limits, probe},
    mark::Mark,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Access, access},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getrlimit, setrlimit, wait},
};
use serde::{Deserialize, Serialize};
use skep_runtime::{env::since_boot, wire};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

/// The subcommand: `skep exec-tasks`. Nobody types it.
pub const SUBCOMMAND: &str = "exec-tasks";

/// Bytes of one order: the largest command with its arguments and environment, and to spare.
pub(super) const ORDER_BYTES_MAX: usize = 4 << 20;
/// Bytes of the length before it; the output's writing end comes with them.
pub(super) const LENGTH_BYTES: usize = 4;
/// Bytes of a later moment until which a command is good, in milliseconds by [`since_boot`], after a length of its own and
/// with nothing beside it.
pub(super) const MOMENT_BYTES: usize = 8;
/// How long a command may go on at most after that moment: a machine that wakes looks this soon.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// Exit status if the program can't be started, as shells have it.
const NOT_STARTED: u8 = 127;
/// Files that a command has open at once, unless it asks for more: what programs expect that look at each number.
const FILES_OPEN: u64 = 1 << 10;
/// The most that it may ask for.
const FILES_OPEN_MAX: u64 = 64 << 10;
/// How far one file may outgrow a command's folder: the next look at the folder ends the command and says why, and no disk
/// writes more until then.
const FILE_BYTES_BEYOND: u64 = 1 << 30;
/// How many times its memory a process may reserve: many programs reserve far more than they use. Beyond, it is refused
/// memory, and needn't be ended.
const RESERVED_TIMES: u64 = 4;
/// The least that a process may reserve.
const RESERVED_BYTES_MIN: u64 = 1 << 30;
/// Threads and processes of this user beside those that the machine has when a command starts, in multiples of a command's
/// processes. The system counts by user, and not root's.
const THREADS_TIMES: u64 = 8;
/// What is added to the number of the signal that ended a process, as shells do.
const SIGNALLED: i32 = 128;

/// How the output's writing end is taken: closed when the command is executed, which has copies of its own.
#[cfg(target_os = "linux")]
const TAKEN: RecvFlags = RecvFlags::CMSG_CLOEXEC;
/// Elsewhere there is no such flag, and the command holds its output once more.
#[cfg(not(target_os = "linux"))]
const TAKEN: RecvFlags = RecvFlags::empty();

/// What a keeper is to run. Bytes, as names of files and variables need not be text.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub mark: String,
    /// The program and its arguments.
    pub line: Vec<Vec<u8>>,
    /// Its whole environment.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
    pub dir: Vec<u8>,
    /// What it has to stay behind.
    pub fence: Fence,
    /// What it may take.
    pub limits: Limits,
    /// Until when it is good, in milliseconds by [`since_boot`]; `u64::MAX` is for ever.
    pub until_ms: u64,
}

/// What comes from the node.
enum Word {
    /// Run this, and write there.
    Order(Box<Order>, OwnedFd),
    /// What runs is good until then.
    Good(u64),
}

/// What runs now, and whether it may.
struct State {
    family: Option<Family>,
    /// Nothing may run any more: the node is gone, or what ran was no longer good.
    gone: bool,
    /// Until when it is good, in milliseconds.
    until_ms: u64,
}

/// Runs one command after the other, until the node closes the socket. To be called before anything else is set up: no
/// runtime, no log.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(2);
    if arguments.next().is_some_and(|word| word == probe::TRY) {
        return probe::try_all(arguments);
    }
    let adopts = adopt();
    hold_back();
    let state = Arc::new(Mutex::new(State { family: None, gone: false, until_ms: u64::MAX }));
    let orders = watch(state.clone());
    while let Ok((order, output)) = orders.recv() {
        let status = keep(&order, output, &state, adopts);
        if lock(&state).gone {
            // Without a word: whether it ended by itself, this process can't tell.
            break;
        }
        if rustix::io::write(rustix::stdio::stdin(), &[status]).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a command to its end. Nothing of it is left then.
fn keep(order: &Order, output: OwnedFd, state: &Mutex<State>, adopts: bool) -> u8 {
    let mut output = File::from(output);
    // The command's own output is the only place where its reader looks.
    let mut say = |text: &str| drop(writeln!(output, "skep: {text}"));
    let Ok(mark) = order.mark.parse::<Mark>() else {
        say("this subcommand is Skep's own: it is told what to run by a node");
        return NOT_STARTED;
    };
    if !adopts {
        say("this machine doesn't let processes be adopted: what the command leaves is looked for");
    }
    let text = |bytes: &Vec<u8>| OsString::from_vec(bytes.clone());
    let mut line = order.line.iter().map(text);
    let program = line.next().unwrap_or_default();
    // Where it lies is looked for here: to have the system look for it in another environment than this process's takes a
    // copy of this process, which costs more than many commands.
    let path = order.env.get(&b"PATH"[..]).map(text);
    // What is relative is so to the command's folder.
    let plain = |path: &OsString| std::env::split_paths(path).all(|dir| dir.is_absolute());
    let found = path.filter(|path| !program.as_bytes().contains(&b'/') && plain(path)).and_then(|path| {
        std::env::split_paths(&path)
            .map(|dir| dir.join(&program))
            .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
    });
    let mut command = Command::new(found.as_deref().unwrap_or(Path::new(&program)));
    command
        .arg0(&program)
        .args(line)
        .stdin(Stdio::null())
        .process_group(0)
        .current_dir(PathBuf::from(text(&order.dir)));
    command.env_clear().envs(order.env.iter().map(|(name, value)| (text(name), text(value))));
    // It may have stood still between the order and here.
    if lock(state).ends() {
        return NOT_STARTED;
    }
    let spawned = output.try_clone().and_then(|errors| {
        command.stdout(output.try_clone()?).stderr(errors);
        let _limited = Limited::to(&order.limits);
        fence::behind(&order.fence, || command.spawn())
    });
    // It holds copies of the pipe's writing end; without them the pipe ends with the command.
    drop(command);
    let child = match spawned {
        Ok(child) => child.id().cast_signed(),
        Err(e) => {
            let _ = writeln!(output, "skep: {}: {e}", program.display());
            return NOT_STARTED;
        }
    };
    drop(output);
    let family = Family::of_keeper(mark, std::process::id());
    if lock(state).runs(Some(family)) {
        family.signal(Signal::KILL);
    }
    let status = reap(|pid| pid == child);
    // Its orphans are this process's children. Most commands leave none, and to look for their processes means to read
    // about every process of the machine. One that dies after the signal is followed by the next round, one that forked
    // by then too.
    while !adopts || left() {
        family.signal(Signal::KILL);
        if reap(|_| true).is_none() {
            break;
        }
    }
    lock(state).runs(None);
    status.and_then(code).unwrap_or(u8::MAX)
}

/// The limits that every command of this keeper has. They can't be put up between the command's birth and its first
/// instruction, so they are this process's own; all of it fits.
fn hold_back() {
    let lower = |resource, soft: u64, hard: u64| {
        let now = getrlimit(resource);
        let hard = now.maximum.map_or(hard, |now| now.min(hard));
        let _ = setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) });
    };
    // Memory of commands is nobody's to read from a disk.
    lower(Resource::Core, 0, 0);
    lower(Resource::Nofile, FILES_OPEN, FILES_OPEN_MAX);
    // If the machine runs out of memory, a command ends first, never the node. Inherited like the rest.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// The limits of one command while it is started; dropped, this process is free of them. Soft ones, so that they can be
/// lifted again: what a command lifts itself, the looks at it find.
struct Limited(Vec<(Resource, Rlimit)>);

impl Limited {
    fn to(limits: &Limits) -> Limited {
        let reserved = limits.memory_bytes.saturating_mul(RESERVED_TIMES).max(RESERVED_BYTES_MIN);
        let threads = threads().map(|now| now + THREADS_TIMES * u64::from(limits.processes));
        let wanted = [
            (Resource::Fsize, Some(limits.disk_bytes.saturating_add(FILE_BYTES_BEYOND))),
            (Resource::Data, Some(reserved)),
            (Resource::Nproc, threads),
        ];
        let mut before = Vec::new();
        for (resource, most) in wanted.into_iter().filter_map(|(resource, most)| Some((resource, most?))) {
            let now = getrlimit(resource);
            let current = now.current.map_or(most, |current| current.min(most));
            if setrlimit(resource, Rlimit { current: Some(current), ..now }).is_ok() {
                before.push((resource, now));
            }
        }
        Limited(before)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for (resource, before) in self.0.drain(..) {
            let _ = setrlimit(resource, before);
        }
    }
}

/// Threads of the whole machine: `running/all` in proc_loadavg(5).
fn threads() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

impl State {
    /// Whether it must end at once.
    fn runs(&mut self, family: Option<Family>) -> bool {
        self.family = family;
        self.ends()
    }

    /// Whether nothing may run any more: the node is gone, or says no longer that it counts.
    fn ends(&mut self) -> bool {
        self.gone |= self.until_ms < u64::MAX && self.left_ms() == 0;
        self.gone
    }

    /// For how long what runs is good.
    fn left_ms(&self) -> u64 {
        self.until_ms.saturating_sub(u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes orders off the socket, and kills what runs when the node is gone. The thread ends with this process.
#[expect(
    clippy::disallowed_methods,
    reason = "a small program without a runtime; the thread blocks on the socket alone"
)]
fn watch(state: Arc<Mutex<State>>) -> mpsc::Receiver<(Order, OwnedFd)> {
    let (sender, orders) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        while good(&state) {
            match receive() {
                Some(Word::Order(order, output)) => {
                    lock(&state).until_ms = order.until_ms;
                    if sender.send((*order, output)).is_err() {
                        return;
                    }
                }
                // One that comes when its command is over changes nothing: the next order says its own.
                Some(Word::Good(until_ms)) => lock(&state).until_ms = until_ms,
                None => break,
            }
        }
        let mut state = lock(&state);
        state.gone = true;
        state.family.map(|family| family.signal(Signal::KILL));
    });
    orders
}

/// Waits for the node's next word. `false` if what runs is no longer good.
fn good(state: &Mutex<State>) -> bool {
    loop {
        let left = {
            let state = lock(state);
            (state.family.is_some() && state.until_ms < u64::MAX).then(|| state.left_ms())
        };
        if left == Some(0) {
            return false;
        }
        let wait = left.map_or(LOOK_PERIOD, |left| LOOK_PERIOD.min(Duration::from_millis(left)));
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        // Nothing to watch for: until something comes.
        let wait = (lock(state).until_ms < u64::MAX).then_some(&wait);
        match poll(&mut [PollFd::new(&rustix::stdio::stdin(), PollFlags::IN)], wait) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            _ => return true,
        }
    }
}

/// One word; `None` when the node is gone, or isn't one.
fn receive() -> Option<Word> {
    let mut length = [0; LENGTH_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let first = loop {
        let into = &mut [IoSliceMut::new(&mut length)];
        match recvmsg(rustix::stdio::stdin(), into, &mut ancillary, TAKEN) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(message) if message.bytes > 0 => break message.bytes,
            Ok(_) | Err(_) => return None,
        }
    };
    let output = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    read(&mut length[first..])?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= ORDER_BYTES_MAX)?;
    let mut word = vec![0; length];
    read(&mut word)?;
    match output {
        Some(output) => Some(Word::Order(wire::decode(&word, ORDER_BYTES_MAX).ok()?, output)),
        None => Some(Word::Good(u64::from_le_bytes(<[u8; MOMENT_BYTES]>::try_from(word).ok()?))),
    }
}

fn read(mut into: &mut [u8]) -> Option<()> {
    while !into.is_empty() {
        match rustix::io::read(rustix::stdio::stdin().as_fd(), &mut *into) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(read @ 1..) => into = &mut into[read..],
            Ok(_) | Err(_) => return None,
        }
    }
    Some(())
}

/// From now on orphans of the command are this process's children, where there is such a thing.
fn adopt() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok();
    #[cfg(not(target_os = "linux"))]
    false
}

/// Waits for children, born here or adopted, until one that `wanted`. `None` when there are none left.
fn reap(wanted: impl Fn(i32) -> bool) -> Option<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if wanted(Pid::as_raw_nonzero(pid).get()) => return Some(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Whether this process has children: of a command whose orphans it adopts, all that is left.
fn left() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return false,
            Ok(None) | Err(_) => return true,
        }
    }
}

fn code(status: WaitStatus) -> Option<u8> {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|s| SIGNALLED + s))?;
    u8::try_from(code).ok()
}
