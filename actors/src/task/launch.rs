//! Starts a command's first process: clean environment, folders of its own, a fence around it, one pipe for all output.

use super::{
    family::Family,
    fence::{Fence, Found, Level, Limits, bubblewrap, walls, walls::Walls},
    keeper::Order,
    kept::First,
    mark::{MARK, Mark},
    scratch::Scratch,
};
use crate::{
    Context,
    scheduler::{Part, Spec},
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};
use tokio::net::unix::pipe;

/// Of a command that is part of a goal: which goal, and which of how many of its step it is.
const GOAL: &str = "SKEP_GOAL";
const INDEX: &str = "SKEP_INDEX";
const COUNT: &str = "SKEP_COUNT";

/// Where programs are looked for if the node itself has no `PATH`.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A command that was started.
pub(super) struct Launched {
    /// Its first process.
    pub first: First,
    /// All that it and its children write.
    pub output: pipe::Receiver,
    /// All that it starts.
    pub family: Family,
    /// What it may take.
    pub limits: Limits,
}

/// Starts `spec` in `scratch`, behind a fence of exactly this level, good until then (`keeper::Order`). If the node has a
/// program for it, a keeper stands between; without one there is no fence.
///
/// # Errors
/// It was not started: a folder isn't there or isn't the command's to reach, there is no such program, or the fence could
/// not be built.
pub(super) async fn launch(
    mark: Mark,
    spec: &Spec,
    scratch: &Scratch,
    (level, until_ms): (Level, u64),
    (context, found): (&Context, &Found),
) -> io::Result<Launched> {
    let Scratch { home, work, temporary, .. } = scratch;
    let dir = walls::working(spec, work, home)?;
    let walls = match level {
        Level::None => None,
        Level::Landlock | Level::Bubblewrap => Some(Walls::around(spec, &dir, &scratch.folders(), home)?),
    };
    let limits = Limits::of(spec, found.memory_bytes, free(work));
    let mut line: Vec<OsString> = match spec.args.is_empty() {
        true => vec!["/bin/sh".into(), "-c".into(), (&spec.command).into()],
        false => std::iter::once(&spec.command).chain(&spec.args).map(Into::into).collect(),
    };
    let mut env: BTreeMap<OsString, OsString> = BTreeMap::from([
        ("PATH".into(), search(walls.as_ref())),
        ("HOME".into(), work.into()),
        ("TMPDIR".into(), temporary.into()),
        ("LANG".into(), "C.UTF-8".into()),
    ]);
    env.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
    env.insert(MARK.into(), mark.to_string().into());
    if let Some(Part { goal, index, count }) = spec.course.part {
        for (name, value) in [(GOAL, goal.to_string()), (INDEX, index.to_string()), (COUNT, count.to_string())] {
            env.insert(name.into(), value.into());
        }
    }
    let fence = match walls {
        None => Fence::None,
        Some(walls) if level == Level::Bubblewrap => {
            let bwrap = found.bwrap.as_ref().ok_or_else(|| io::Error::other("bubblewrap is not installed"))?;
            line = bubblewrap::line(bwrap, &walls, &dir, temporary, &line);
            Fence::Bubblewrap { network: walls.network }
        }
        Some(walls) => Fence::Landlock(walls),
    };
    let (reader, writer) = io::pipe()?;
    let first = match &context.exe {
        Some(exe) => {
            let bytes = OsString::into_vec;
            let order = Order {
                mark: mark.to_string(),
                line: line.into_iter().map(bytes).collect(),
                env: env.into_iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
                dir: bytes(dir.into()),
                fence,
                limits,
                until_ms,
            };
            First::Kept(context.keepers.order(exe, &order, writer.into()).await?, None)
        }
        None if level > Level::None => return Err(io::Error::other("this program has no helper that could fence it")),
        None => {
            let mut command = Command::new(&line[0]);
            command.args(&line[1..]).env_clear().envs(&env).current_dir(&dir).process_group(0);
            command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
            let mut command = tokio::process::Command::from(command);
            // The command holds our copies of the pipe's writing end; without them the pipe ends with the process.
            First::Bare(command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", spec.command)))?)
        }
    };
    let family = first.family(mark)?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    Ok(Launched { first, output, family, limits })
}

/// Where programs are looked for: as the node does, but for what a fenced command can't reach. A folder of programs in
/// somebody's home would only hide those of the system.
fn search(walls: Option<&Walls>) -> OsString {
    let all = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let Some(walls) = walls else { return all };
    let within = std::env::split_paths(&all).filter(|dir| walls.reach(dir)).collect::<Vec<_>>();
    let within = std::env::join_paths(within).unwrap_or_default();
    if within.is_empty() { PATH.into() } else { within }
}

/// Bytes free on the disk of a folder. 0 if the system doesn't tell.
pub(super) fn free(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
