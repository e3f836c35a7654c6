//! The bounds of what may be asked for. Everything behind this file trusts a [`Spec`] that passed it.

use super::{
    course::{AFTER_MAX, DEADLINE_S_MAX, RETRIES_MAX},
    demand::{ANY, CONDITIONS_MAX, Condition, TOLERATES_MAX},
    messages::{ScheduleError, Spec},
    wish::{GROUP_BYTES_MAX, PREFERS_MAX},
};
use crate::node::labels;
use sha2::{Digest, Sha256};
use std::fmt::Display;
use uuid::Uuid;

/// Bytes of the command line, and of all arguments together: half of what Linux gives one argument.
const COMMAND_BYTES_MAX: usize = 64 << 10;
/// Arguments of a program.
const ARGS_MAX: usize = 1024;
/// Variables added to the environment.
const ENV_MAX: usize = 256;
/// Bytes of all variables together.
const ENV_BYTES_MAX: usize = 64 << 10;
/// Bytes of a path, Linux' own bound.
const PATH_BYTES_MAX: usize = 4096;
/// Files and folders that are named beside `dir`: more is another machine's worth.
const FILES_MAX: usize = 16;
/// Bytes of a node's key, prefix or name: 63 characters of four bytes, and room for the key's 64.
const NODE_BYTES_MAX: usize = 252;
/// Bytes of a model's name.
const MODEL_BYTES_MAX: usize = 256;
/// Bytes of a key that tells submissions apart: two UUIDs and some words.
const KEY_BYTES_MAX: usize = 128;
/// Seconds of the longest time limit: 30 days. Longer is a service, and 0 (never) is for that.
const TIMEOUT_S_MAX: u64 = 30 * 24 * 3600;
/// Variables that tell a task's processes from others; a command must not speak for another one.
pub(crate) const RESERVED_PREFIX: &str = "SKEP_";

/// Whether every field is within its bounds.
///
/// # Errors
/// [`ScheduleError::Invalid`] with the first field that isn't.
pub fn check(spec: &Spec) -> Result<(), ScheduleError> {
    let bytes = spec.command.len();
    if spec.command.trim().is_empty() {
        return bad("command", "is empty: give a command line, or a program and `args`");
    }
    if bytes > COMMAND_BYTES_MAX {
        return bad("command", format!("has {bytes} bytes; at most {COMMAND_BYTES_MAX}"));
    }
    no_nul("command", &spec.command)?;
    if spec.args.len() > ARGS_MAX {
        return bad("args", format!("has {} entries; at most {ARGS_MAX}", spec.args.len()));
    }
    let bytes: usize = spec.args.iter().map(String::len).sum();
    if bytes > COMMAND_BYTES_MAX {
        return bad("args", format!("has {bytes} bytes in all; at most {COMMAND_BYTES_MAX}"));
    }
    spec.args.iter().try_for_each(|arg| no_nul("args", arg))?;
    environment(spec)?;
    for (field, text, max) in [
        ("dir", &spec.dir, PATH_BYTES_MAX),
        ("node", &spec.node, NODE_BYTES_MAX),
        ("preferred_node", &spec.preferred_node, NODE_BYTES_MAX),
        ("idempotency_key", &spec.idempotency_key, KEY_BYTES_MAX),
        ("model", &spec.demand.model, MODEL_BYTES_MAX),
        ("apart", &spec.wish.apart, GROUP_BYTES_MAX),
    ] {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > max {
            return bad(field, format!("must have 1 to {max} bytes, or be left out"));
        }
        no_nul(field, text)?;
    }
    conditions("labels", &spec.demand.labels, CONDITIONS_MAX)?;
    conditions("prefers", &spec.wish.prefers, PREFERS_MAX)?;
    tolerates(spec)?;
    course(spec)?;
    spec.files.check(spec.dir.as_deref())?;
    files("readable", &spec.readable)?;
    files("writable", &spec.writable)?;
    if spec.timeout_s > TIMEOUT_S_MAX {
        return bad("timeout_s", format!("is {}; at most {TIMEOUT_S_MAX} (30 days), or 0 for never", spec.timeout_s));
    }
    Ok(())
}

/// The id of the task that a key names, the same on every node: a UUID of version 8 from the key's SHA-256.
pub(crate) fn named_by(key: &str) -> Uuid {
    let hash = Sha256::new().chain_update("skep task key\0").chain_update(key).finalize();
    uuid::Builder::from_custom_bytes(std::array::from_fn(|at| hash[at])).into_uuid()
}

fn environment(spec: &Spec) -> Result<(), ScheduleError> {
    if spec.env.len() > ENV_MAX {
        return bad("env", format!("has {} variables; at most {ENV_MAX}", spec.env.len()));
    }
    let bytes: usize = spec.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if bytes > ENV_BYTES_MAX {
        return bad("env", format!("has {bytes} bytes in all; at most {ENV_BYTES_MAX}"));
    }
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains('=') {
            return bad("env", format!("{name:?} is no name of a variable"));
        }
        if name.starts_with(RESERVED_PREFIX) {
            return bad("env", format!("{name}: names that begin with {RESERVED_PREFIX} are Skep's own"));
        }
        no_nul("env", name)?;
        no_nul("env", value)?;
    }
    Ok(())
}

/// They may come from another node, so not through the parser that knows their bounds.
fn conditions(field: &str, conditions: &[Condition], max: usize) -> Result<(), ScheduleError> {
    if conditions.len() > max {
        return bad(field, format!("has {} conditions; at most {max}", conditions.len()));
    }
    for condition in conditions {
        let (key, value) = match condition {
            Condition::Has(key) | Condition::Lacks(key) => (key, None),
            Condition::Is(key, value) | Condition::IsNot(key, value) => (key, Some(value)),
        };
        let sound = labels::check_key(key).and_then(|()| value.map_or(Ok(()), |value| labels::check_value(value)));
        sound.or_else(|why| bad(field, why))?;
    }
    Ok(())
}

fn tolerates(spec: &Spec) -> Result<(), ScheduleError> {
    let names = &spec.demand.tolerates;
    if names.len() > TOLERATES_MAX {
        return bad("tolerates", format!("has {} names; at most {TOLERATES_MAX}", names.len()));
    }
    let mut named = names.iter().filter(|name| *name != ANY);
    named.try_for_each(|name| labels::check_key(name)).or_else(|why| bad("tolerates", why))
}

fn course(spec: &Spec) -> Result<(), ScheduleError> {
    let course = &spec.course;
    if course.after.len() > AFTER_MAX {
        return bad("after", format!("has {} tasks; at most {AFTER_MAX}", course.after.len()));
    }
    if course.retries > RETRIES_MAX {
        return bad("retries", format!("is {}; at most {RETRIES_MAX}", course.retries));
    }
    if let Some(gang) = course.gang {
        let count = gang.count as usize;
        if !(1..=AFTER_MAX).contains(&count) {
            return bad("gang", format!("has {count} tasks; 1 to {AFTER_MAX}"));
        }
        if course.once {
            return bad(
                "gang",
                "can't be combined with at_most_once: what may run only once can't be recalled for others",
            );
        }
        if course.preempts {
            return bad(
                "gang",
                "can't be combined with preempts: nothing makes way for a gang; give it a higher class",
            );
        }
    }
    if course.deadline_s > DEADLINE_S_MAX {
        return bad(
            "deadline_s",
            format!("is {}; at most {DEADLINE_S_MAX} (90 days), or 0 for none", course.deadline_s),
        );
    }
    Ok(())
}

/// Relative ones would depend on where the node was started.
fn files(field: &str, paths: &[String]) -> Result<(), ScheduleError> {
    if paths.len() > FILES_MAX {
        return bad(field, format!("has {} entries; at most {FILES_MAX}", paths.len()));
    }
    for path in paths {
        if path.len() > PATH_BYTES_MAX || !path.starts_with('/') {
            return bad(field, format!("each entry is an absolute path of at most {PATH_BYTES_MAX} bytes"));
        }
        no_nul(field, path)?;
    }
    Ok(())
}

/// The system's calls end a text at a NUL: what follows would silently be lost.
fn no_nul(field: &str, text: &str) -> Result<(), ScheduleError> {
    if text.contains('\0') { bad(field, "holds a NUL byte") } else { Ok(()) }
}

pub(super) fn bad<T>(field: &str, reason: impl Display) -> Result<T, ScheduleError> {
    Err(ScheduleError::Invalid { field: field.into(), reason: reason.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::{core::spec, course::Gang};

    fn check_field(field: &str, change: impl FnOnce(&mut Spec)) {
        let mut spec = spec("true");
        change(&mut spec);
        match check(&spec) {
            Err(ScheduleError::Invalid { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }

    #[test]
    fn an_error_names_the_field() {
        check_field("command", |s| s.command = " ".into());
        check_field("command", |s| s.command = "x".repeat(COMMAND_BYTES_MAX + 1));
        check_field("command", |s| s.command = "a\0b".into());
        check_field("args", |s| s.args = vec![String::new(); ARGS_MAX + 1]);
        check_field("env", |s| drop(s.env.insert("A=B".into(), String::new())));
        check_field("env", |s| drop(s.env.insert("SKEP_TASK".into(), "x".into())));
        check_field("env", |s| drop(s.env.insert("A".into(), "x\0".into())));
        check_field("dir", |s| s.dir = Some(String::new()));
        check_field("node", |s| s.node = Some("x".repeat(253)));
        check_field("idempotency_key", |s| s.idempotency_key = Some("k".repeat(129)));
        check_field("model", |s| s.demand.model = Some(String::new()));
        check_field("labels", |s| s.demand.labels = vec![Condition::Has("a b".into())]);
        check_field("labels", |s| s.demand.labels = vec![Condition::Is("a".into(), "v".repeat(256))]);
        check_field("labels", |s| s.demand.labels = vec![Condition::Has("a".into()); CONDITIONS_MAX + 1]);
        check_field("prefers", |s| s.wish.prefers = vec![Condition::Has("a".into()); PREFERS_MAX + 1]);
        check_field("apart", |s| s.wish.apart = Some("g".repeat(GROUP_BYTES_MAX + 1)));
        check_field("tolerates", |s| s.demand.tolerates = vec!["a b".into()]);
        check_field("after", |s| s.course.after = vec![Uuid::nil(); AFTER_MAX + 1]);
        check_field("retries", |s| s.course.retries = RETRIES_MAX + 1);
        check_field("deadline_s", |s| s.course.deadline_s = DEADLINE_S_MAX + 1);
        check_field("outputs", |s| s.files.outputs = vec!["/etc/passwd".into()]);
        let gang = |count| Some(Gang { id: Uuid::nil(), count });
        check_field("gang", |s| s.course.gang = gang(AFTER_MAX as u32 + 1));
        check_field("gang", |s| (s.course.gang, s.course.once) = (gang(2), true));
        check_field("gang", |s| (s.course.gang, s.course.preempts) = (gang(2), true));
        check_field("readable", |s| s.readable = vec!["tmp".into()]);
        check_field("writable", |s| s.writable = vec!["/tmp\0x".into()]);
        check_field("writable", |s| s.writable = vec!["/tmp".into(); FILES_MAX + 1]);
        check_field("timeout_s", |s| s.timeout_s = TIMEOUT_S_MAX + 1);
        assert_eq!(check(&spec("true")), Ok(()));
    }
}
