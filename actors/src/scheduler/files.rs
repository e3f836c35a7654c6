//! Files that a command is given and leaves: what they are called in its folder, and by what is in them.
//!
//! Not here: where their content lies and how it travels ([`crate::blob`]), and putting them into the folder and taking them
//! out of it (`task::goods`).

use super::{journal::RECORDS, messages::ScheduleError, spec::bad};
use crate::{digest::Digest, ledger::Ledger};
use serde::{Deserialize, Serialize};
use skep_runtime::store;
use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

/// Files that a command is given: more are an archive's business.
pub const INPUTS_MAX: usize = 64;
/// Names that it may leave something under.
pub const OUTPUTS_MAX: usize = 16;
/// Files that it may leave under them: each is named in its record, which every member has.
pub const ARTEFACTS_MAX: usize = 64;
/// Bytes of a name.
pub const PATH_BYTES_MAX: usize = 255;

/// A command's files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Files {
    /// Those that lie in its folder when it starts.
    pub inputs: Vec<Input>,
    /// Files and folders in it that are kept when it has ended. One that isn't there then makes a command fail that would
    /// have completed.
    pub outputs: Vec<String>,
}

/// A file that a command is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is called, from the command's folder.
    pub path: String,
    /// What is in it.
    pub digest: Digest,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A file that a command left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// What it is called, from the command's folder.
    pub path: String,
    /// What is in it.
    pub digest: Digest,
    /// How much that is.
    pub bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

impl Files {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }

    /// Whether a file of this name is one of those that it may leave.
    pub fn leaves(&self, path: &str) -> bool {
        is_within(path) && self.outputs.iter().any(|output| Path::new(path).starts_with(output))
    }

    /// Bytes that they take of a record.
    pub(super) fn bytes(&self) -> usize {
        let inputs = self.inputs.iter().map(|input| input.path.len() + size_of::<Digest>());
        inputs.chain(self.outputs.iter().map(String::len)).sum()
    }

    /// Whether each has a name within the folder, and none two meanings.
    ///
    /// # Errors
    /// [`ScheduleError::Invalid`] with the field.
    pub(super) fn check(&self, dir: Option<&str>) -> Result<(), ScheduleError> {
        let (inputs, outputs) = (self.inputs.len(), self.outputs.len());
        if inputs > INPUTS_MAX {
            return bad("inputs", format!("has {inputs} files; at most {INPUTS_MAX}: pack them into one"));
        }
        if outputs > OUTPUTS_MAX {
            return bad("outputs", format!("has {outputs} names; at most {OUTPUTS_MAX}: name a folder"));
        }
        if !self.is_empty() && dir.is_some_and(|dir| Path::new(dir).is_absolute()) {
            return bad("dir", "is another folder than the one that inputs and outputs lie in: name one within it");
        }
        let names = self.inputs.iter().map(|input| ("inputs", &input.path));
        for (field, path) in names.chain(self.outputs.iter().map(|path| ("outputs", path))) {
            if !is_within(path) {
                return bad(
                    field,
                    format!(
                        "{path:?} is no path within the task's folder: 1 to {PATH_BYTES_MAX} bytes, relative, without . and .."
                    ),
                );
            }
        }
        let files: BTreeSet<&Path> = self.inputs.iter().map(|input| Path::new(&input.path)).collect();
        if files.len() < inputs {
            return bad("inputs", "names a path twice");
        }
        let folders = files.iter().flat_map(|path| path.ancestors().skip(1));
        match folders.into_iter().find(|folder| files.contains(folder)) {
            Some(both) => bad("inputs", format!("{} would be a file and a folder", both.display())),
            None => Ok(()),
        }
    }
}

/// Whether this names something within a folder, in one way only.
pub(crate) fn is_within(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let plain = parts.all(|part| matches!(part, Component::Normal(_)));
    // Components leave `.`, `//` and a last `/` out.
    let whole = Path::new(path).components().collect::<std::path::PathBuf>();
    plain && !path.is_empty() && path.len() <= PATH_BYTES_MAX && !path.contains('\0') && whole.as_os_str() == path
}

/// What commands need that have not ended, whoever owns them, as far as this node knows. Reads all records.
///
/// # Errors
/// They can't be read.
pub fn needed(ledger: &Ledger) -> Result<BTreeSet<Digest>, store::Error> {
    let mut needed = BTreeSet::new();
    ledger.visit(RECORDS, |record| {
        if !record.value.is_over() {
            needed.extend(record.value.spec.files.inputs.iter().map(|input| input.digest));
        }
    })?;
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lies_within_and_is_written_in_one_way() {
        for good in ["a", "a/b.c", "ä ö", "..a", "a\nb"] {
            assert!(is_within(good), "{good}");
        }
        let long = "x".repeat(PATH_BYTES_MAX + 1);
        for bad in ["", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "a/../b", "../a", "a\0", &long] {
            assert!(!is_within(bad), "{bad:?}");
        }
    }

    #[test]
    fn no_name_means_two_things() {
        let files = |inputs: &[&str]| Files {
            inputs: inputs
                .iter()
                .map(|path| Input { path: (*path).into(), digest: Digest::of(b""), executable: false })
                .collect(),
            outputs: Vec::new(),
        };
        assert_eq!(files(&["a", "b/c", "b/d"]).check(Some("b")), Ok(()));
        for bad in [&["a", "a"][..], &["a", "a/b"], &["a/b/c", "a"], &["../a"]] {
            let wrong = files(bad).check(None);
            assert!(
                matches!(&wrong, Err(ScheduleError::Invalid { field, .. }) if field == "inputs"),
                "{bad:?}: {wrong:?}"
            );
        }
        let left = Files { outputs: vec!["out".into(), "log".into()], ..Files::default() };
        let paths = ["out", "out/a", "log", "output", "out/../a", "a", ".bashrc"];
        assert_eq!(paths.map(|path| left.leaves(path)), [true, true, true, false, false, false, false]);
        assert!(files(&["a"]).check(Some("/tmp")).is_err());
        assert_eq!(Files::default().check(Some("/tmp")), Ok(()));
    }
}
