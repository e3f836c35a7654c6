//! Everything that a command started and that is still alive, and how to signal all of it.
//!
//! On Linux: the descendants of its root process, its process group, and whoever carries its [`Mark`] in the environment.
//! A root is known by its number and the time of its start: once it was waited for, the number may be another's. Under a keeper the kernel hands orphans to the keeper, so not even a
//! process that left group, session and environment gets away. Elsewhere: the process group.

use super::mark::{MARK, Mark};
use rustix::process::{Pid, Signal, getpgrp, kill_process, kill_process_group};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a process's environment that are searched for the mark.
const ENVIRONMENT_BYTES_MAX: u64 = 256 << 10;

/// The processes of one command.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    mark: Mark,
    root: Option<Root>,
    kept: bool,
}

/// The first process of a family.
#[derive(Debug, Clone, Copy)]
struct Root {
    pid: i32,
    /// `None` if it had ended before anyone could look.
    started: Option<u64>,
}

/// A living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    /// In ticks since the machine started.
    started: u64,
}

impl Family {
    /// The command whose first process is `root`, the leader of its own group.
    pub fn of_leader(mark: Mark, root: u32) -> Family {
        Family { mark, root: Some(Root::of(root)), kept: false }
    }

    /// The command under the keeper `root`, which is no part of it.
    pub fn of_keeper(mark: Mark, root: u32) -> Family {
        Family { mark, root: Some(Root::of(root)), kept: true }
    }

    /// Whatever carries the mark: for what an earlier process of this node may have left.
    pub fn of_mark(mark: Mark) -> Family {
        Family { mark, root: None, kept: false }
    }

    /// The ids of its processes. Under a keeper its descendants alone are looked at: all of it, and few files are read.
    pub(super) fn members(&self) -> Vec<i32> {
        #[cfg(target_os = "linux")]
        if let Some(root) = self.root.filter(|_| self.kept)
            && let Some(members) = descendants(root.pid)
        {
            return members;
        }
        self.processes().iter().map(|process| process.pid).collect()
    }

    /// Signals all of it, group by group, so that nobody is missed who forks meanwhile. `false` if nothing is left.
    pub fn signal(&self, signal: Signal) -> bool {
        let processes = self.processes();
        if signal == Signal::TERM {
            // Asks those that can answer. Whoever only holds others together would end, and they with it, unasked.
            for process in processes.iter().filter(|process| !holds(process.pid)) {
                let _ = Pid::from_raw(process.pid).map(|pid| kill_process(pid, signal));
            }
            return !processes.is_empty();
        }
        // Never the group of this program or of the keeper: a process may have moved into it.
        let ours: BTreeSet<i32> =
            [Some(getpgrp().as_raw_nonzero().get()), self.root.filter(|_| self.kept).map(|root| root.pid)]
                .into_iter()
                .flatten()
                .collect();
        let groups: BTreeSet<i32> = processes.iter().map(|p| p.group).filter(|g| *g > 1 && !ours.contains(g)).collect();
        // Errors say that it is gone already, or not ours to signal.
        for group in groups.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
        let alone = processes.iter().filter(|p| p.group <= 1 || ours.contains(&p.group));
        for pid in alone.filter_map(|p| Pid::from_raw(p.pid)) {
            let _ = kill_process(pid, signal);
        }
        !processes.is_empty()
    }

    /// Whether nothing of it is left.
    pub fn is_gone(&self) -> bool {
        self.processes().is_empty()
    }

    #[cfg(target_os = "linux")]
    fn processes(&self) -> Vec<Process> {
        let all = alive();
        let me = std::process::id().cast_signed();
        let mark = format!("{MARK}={}", self.mark);
        let mut family: BTreeSet<i32> = BTreeSet::new();
        if let Some(root) = self.root.filter(|root| !root.is_another(&all)).map(|root| root.pid) {
            family.insert(root);
            // Parents may have higher ids than their children: until nothing is added.
            loop {
                let children = all.values().filter(|p| family.contains(&p.parent) && !family.contains(&p.pid));
                let children: Vec<i32> = children.map(|p| p.pid).collect();
                if children.is_empty() {
                    break;
                }
                family.extend(children);
            }
            family.extend(all.values().filter(|p| !self.kept && p.group == root).map(|p| p.pid));
        }
        family.extend(all.keys().filter(|pid| carries(**pid, mark.as_bytes())));
        if self.kept {
            self.root.map(|root| family.remove(&root.pid));
        }
        family.remove(&me);
        family.iter().filter_map(|pid| all.get(pid)).copied().collect()
    }

    #[cfg(not(target_os = "linux"))]
    fn processes(&self) -> Vec<Process> {
        let group = self.root.and_then(|root| Pid::from_raw(root.pid));
        let alive = group.filter(|group| rustix::process::test_kill_process_group(*group).is_ok());
        let leader = |group: Pid| group.as_raw_nonzero().get();
        alive.map(|group| Process { pid: leader(group), parent: 0, group: leader(group) }).into_iter().collect()
    }
}

impl Root {
    fn of(pid: u32) -> Root {
        let pid = pid.cast_signed();
        #[cfg(target_os = "linux")]
        let started = stat(pid).map(|process| process.started);
        #[cfg(not(target_os = "linux"))]
        let started = None;
        Root { pid, started }
    }

    /// Whether its number is another process's now. A number that nobody has may still be its group's.
    #[cfg(target_os = "linux")]
    fn is_another(&self, all: &BTreeMap<i32, Process>) -> bool {
        all.get(&self.pid).is_some_and(|now| Some(now.started) != self.started)
    }
}

/// Whether a process is one of those that keep a fence around others.
fn holds(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == super::fence::BUBBLEWRAP)
}

/// The descendants of a process; `None` if the kernel doesn't list children. Who is born or adopted meanwhile may be missed.
#[cfg(target_os = "linux")]
fn descendants(root: i32) -> Option<Vec<i32>> {
    if !std::path::Path::new("/proc/thread-self/children").exists() {
        return None;
    }
    let mut members = Vec::new();
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            // A thread that ended meanwhile has none.
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            waiting.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        if pid != root {
            members.push(pid);
        }
    }
    Some(members)
}

/// Every process that isn't a zombie, by id. One that ends while we look is left out.
#[cfg(target_os = "linux")]
fn alive() -> BTreeMap<i32, Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

#[cfg(target_os = "linux")]
fn stat(pid: i32) -> Option<Process> {
    parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state parent group ... start`, the start being the 22nd; the name may hold anything, parentheses too (proc_pid_stat(5)).
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let process = Process { pid, parent, group, started: fields.nth(16)?.parse().ok()? };
    (!matches!(state, "Z" | "X")).then_some(process)
}

/// Whether the process was started with this variable. Another user's environment can't be read, and isn't ours.
#[cfg(target_os = "linux")]
fn carries(pid: i32, mark: &[u8]) -> bool {
    use std::io::Read;
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    let mut environment = Vec::new();
    let read = file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment);
    read.is_ok() && environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_fool_it() {
        let stat = "7 (a) Z 1 (b) S 3 5 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 991 1000";
        assert_eq!(parse(7, stat), Some(Process { pid: 7, parent: 3, group: 5, started: 991 }));
        assert_eq!(parse(7, "7 (sh) Z 3 5"), None);
        assert_eq!(parse(7, "garbage"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_has_the_number_of_a_root_that_is_gone_is_left_alone() {
        let mark = Mark { node: skep_runtime::NodeId::from_bytes([1; 32]), task: uuid::Uuid::nil(), attempt: 1 };
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut family = Family::of_leader(mark, child.id());
        assert!(!family.is_gone());
        // The same number, of a process that started earlier.
        family.root = family.root.map(|root| Root { started: root.started.map(|at| at - 1), ..root });
        assert!(family.is_gone() && !family.signal(Signal::KILL));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
