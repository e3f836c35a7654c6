//! Starts a command's first process: clean environment, folder of its own, one pipe for all output.

use super::{
    family::Family,
    keeper,
    mark::{MARK, Mark},
};
use crate::scheduler::Spec;
use std::{
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};
use tokio::{
    net::unix::pipe,
    process::{Child, ChildStdin},
};

/// Where programs are looked for if the node itself has no `PATH`.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A command's first process.
pub(super) struct Launched {
    /// The keeper, or the command itself.
    pub child: Child,
    /// All that it and its children write.
    pub output: pipe::Receiver,
    /// All that it starts.
    pub family: Family,
    /// The keeper's sign that this node lives.
    pub _alive: Option<ChildStdin>,
}

/// Starts `spec` in `scratch`, which is made if it isn't there. With `exe`, a keeper stands between.
pub(super) fn launch(mark: Mark, spec: &Spec, scratch: &Path, exe: Option<&Path>) -> io::Result<Launched> {
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
    let (reader, writer) = io::pipe()?;
    let mut command = match exe {
        Some(exe) => {
            let mut keeper = Command::new(exe);
            keeper.arg(keeper::SUBCOMMAND).args(&line).stdin(Stdio::piped());
            keeper
        }
        None => {
            let mut direct = Command::new(line[0]);
            direct.args(&line[1..]).stdin(Stdio::null());
            direct
        }
    };
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()))
        .env("HOME", scratch)
        .env("LANG", "C.UTF-8")
        .envs(&spec.env)
        .env(MARK, mark.to_string())
        .current_dir(&dir)
        .process_group(0)
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut command = tokio::process::Command::from(command);
    let mut child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", spec.command)))?;
    // It holds our copies of the pipe's writing end; without them the pipe ends with the command.
    drop(command);
    let pid = child.id().ok_or_else(|| io::Error::other("the process ended before it had begun"))?;
    let family = if exe.is_some() { Family::of_keeper(mark, pid) } else { Family::of_leader(mark, pid) };
    let alive = child.stdin.take();
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    Ok(Launched { child, output, family, _alive: alive })
}
