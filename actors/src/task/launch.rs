//! Starts a command's first process: clean environment, folder of its own, one pipe for all output.

use super::{
    family::Family,
    keeper::Order,
    kept::{First, Keepers},
    mark::{MARK, Mark},
};
use crate::scheduler::{Part, Spec};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
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
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A command that was started.
pub(super) struct Launched {
    /// Its first process.
    pub first: First,
    /// All that it and its children write.
    pub output: pipe::Receiver,
    /// All that it starts.
    pub family: Family,
}

/// Starts `spec` in `scratch`, which is made if it isn't there. With `exe`, a keeper stands between.
pub(super) async fn launch(
    mark: Mark,
    spec: &Spec,
    scratch: &Path,
    (exe, keepers): (Option<&Path>, &Keepers),
) -> io::Result<Launched> {
    fs::create_dir_all(scratch)?;
    let dir = scratch.join(spec.dir.as_deref().unwrap_or(""));
    if !dir.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("dir: {} is no folder on this node", dir.display()),
        ));
    }
    let line: Vec<&str> = match spec.args.is_empty() {
        true => vec!["/bin/sh", "-c", &spec.command],
        false => std::iter::once(spec.command.as_str()).chain(spec.args.iter().map(String::as_str)).collect(),
    };
    let mut env: BTreeMap<OsString, OsString> = BTreeMap::from([
        ("PATH".into(), std::env::var_os("PATH").unwrap_or_else(|| PATH.into())),
        ("HOME".into(), scratch.into()),
        ("LANG".into(), "C.UTF-8".into()),
    ]);
    env.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
    env.insert(MARK.into(), mark.to_string().into());
    if let Some(Part { goal, index, count }) = spec.course.part {
        for (name, value) in [(GOAL, goal.to_string()), (INDEX, index.to_string()), (COUNT, count.to_string())] {
            env.insert(name.into(), value.into());
        }
    }
    let (reader, writer) = io::pipe()?;
    let first = match exe {
        Some(exe) => {
            let bytes = |text: &OsStr| text.to_owned().into_vec();
            let order = Order {
                mark: mark.to_string(),
                line: line.into_iter().map(|word| word.as_bytes().to_vec()).collect(),
                env: env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
                dir: bytes(dir.as_os_str()),
            };
            First::Kept(keepers.order(exe, &order, writer.into()).await?, None)
        }
        None => {
            let mut command = Command::new(line[0]);
            command.args(&line[1..]).env_clear().envs(&env).current_dir(&dir).process_group(0);
            command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
            let mut command = tokio::process::Command::from(command);
            // The command holds our copies of the pipe's writing end; without them the pipe ends with the process.
            First::Bare(command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", spec.command)))?)
        }
    };
    let family = first.family(mark)?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    Ok(Launched { first, output, family })
}
