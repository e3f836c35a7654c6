//! Landlock: the files that the calling thread, and all that it starts, may open from now on.
//!
//! What landlock can't see (sockets other than TCP, debugging, mounts) is refused by `calls`. What neither sees: a command
//! may still change modes, times and owners of files that this user owns, wherever they lie.

use super::walls::{Place, Walls};
use ::landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::{
    fmt::Display,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
};

/// Without this much (Linux 6.2) whatever may not be written could still be emptied.
const LEAST: ABI = ABI::V3;
/// As much as the kernel knows, of what this program knows.
const MOST: ABI = ABI::V10;

/// Restricts the calling thread.
pub(super) fn restrict(walls: &Walls) -> Result<(), String> {
    let mut files = AccessFs::from_all(MOST);
    if walls.network {
        files.remove(AccessFs::ResolveUnix);
    }
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))
        .map_err(said)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)
        .and_then(|rules| rules.scope(Scope::from_all(MOST)))
        .map_err(said)?;
    let rules = match walls.network {
        true => rules,
        false => rules.handle_access(AccessNet::from_all(MOST)).map_err(said)?,
    };
    let read = AccessFs::from_read(LEAST);
    // Nodes of devices are nobody's to make.
    let change = files & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let mut rules = rules.create().map_err(said)?;
    for (places, access) in
        [(&walls.own, change), (&walls.write, change), (&walls.read, read), (&walls.devices, device)]
    {
        for place in places {
            rules = allow(rules, walls, place, access)?;
        }
    }
    let status = rules.restrict_self().map_err(said)?;
    match status.no_new_privs && status.ruleset != RulesetStatus::NotEnforced {
        true => Ok(()),
        false => Err("the kernel does not enforce landlock".into()),
    }
}

fn allow(
    rules: RulesetCreated,
    walls: &Walls,
    place: &Place,
    access: ::landlock::BitFlags<AccessFs>,
) -> Result<RulesetCreated, String> {
    // What isn't there any more needs no rule.
    let Ok(open) = PathFd::new(place.path()) else { return Ok(rules) };
    // The rule is about what was opened, not about its name: between the look at the name and here a link may have taken
    // its place.
    let real = opened(&open)?;
    let home = walls.home.path();
    if (real.starts_with(&home) || home.starts_with(&real)) && !walls.own.contains(&(&*real).into()) {
        return Err(format!("{} leads into the node's own folder", place.path().display()));
    }
    let folder = rustix::fs::fstat(&open)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory);
    let access = if folder { access } else { access & AccessFs::from_file(MOST) };
    rules.add_rule(PathBeneath::new(open, access)).map_err(said)
}

fn opened(open: &PathFd) -> Result<PathBuf, String> {
    std::fs::read_link(format!("/proc/self/fd/{}", open.as_fd().as_raw_fd())).map_err(said)
}

fn said(e: impl Display) -> String {
    e.to_string()
}
