//! One signed statement about who is a member. Whether it counts is the roster's business, not its own.

use crate::identity::{Identity, Signature};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use skep_runtime::{NodeId, wire};
use std::fmt;

/// Separates these signatures from all others that a node's key makes.
const CONTEXT: &str = "skep roster record 1";
/// Characters of a member's name: it is shown in tables and on one line of a log.
pub(super) const NAME_CHARS_MAX: usize = 64;

/// Statements that an eviction or a departure lets stand: all that one key may sign ([`super::core`]), 9 KiB.
pub(super) const STANDS_MAX: usize = ADMISSIONS_BY_ONE_MAX + OTHERS_BY_ONE_MAX + 1;
/// Admissions that one key may sign. A swarm of hundreds has many doors; a key that wants more fills the roster.
pub(super) const ADMISSIONS_BY_ONE_MAX: usize = 256;
/// Evictions and departures that one key may sign.
pub(super) const OTHERS_BY_ONE_MAX: usize = 32;

/// A record's id: the SHA-256 of what was signed. The signature is no part of it, as one statement can be
/// signed in more than one way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(pub [u8; 32]);

/// The first half of a record's id: enough to tell the records of a roster apart. Whoever made two with one mark, at
/// some 2^64 hashes, would have hidden a statement of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark([u8; 16]);

impl RecordId {
    /// What stands for it in a comparison.
    pub(super) fn mark(&self) -> Mark {
        Mark(std::array::from_fn(|at| self.0[at]))
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..4]))
    }
}

/// A swarm: the id of the record that founded it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SwarmId(pub [u8; 32]);

impl SwarmId {
    /// What a founding record, which can't know its own id, names as its swarm.
    pub(super) const NONE: SwarmId = SwarmId([0; 32]);
}

impl fmt::Debug for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0[..4]))
    }
}

/// What a record states. Times are milliseconds since 1970 and for people: no rule depends on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// The signer founds a swarm of one.
    Founding {
        /// The name that the founder gives itself.
        name: String,
        /// When.
        at_ms: u64,
        /// Tells two foundings by one key in one millisecond apart.
        nonce: [u8; 8],
    },
    /// The signer admits a member.
    Admission {
        /// Whom.
        member: NodeId,
        /// The name that the member gave itself.
        name: String,
        /// Above the term of the member's last departure, if it ever left.
        term: u32,
        /// When.
        at_ms: u64,
    },
    /// The signer takes a member off for good. Its key never comes back.
    Eviction {
        /// Whom.
        member: NodeId,
        /// When.
        at_ms: u64,
        /// The member's own statements that the signer knew: all others are void, whatever time they claim.
        stands: Vec<RecordId>,
    },
    /// The signer left of its own accord and may be admitted again, by another.
    Departure {
        /// The term that ended.
        term: u32,
        /// When.
        at_ms: u64,
        /// Its own statements until then: all others are void until it is admitted again.
        stands: Vec<RecordId>,
    },
}

/// A statement with its signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which swarm it is about; [`SwarmId::NONE`] in a founding record.
    pub(super) swarm: SwarmId,
    /// Who signed it.
    pub(super) by: NodeId,
    /// What it states.
    pub(super) statement: Statement,
    signature: Signature,
}

impl Record {
    /// Signs `statement` about `swarm`.
    pub(super) fn sign(identity: &Identity, swarm: SwarmId, statement: Statement) -> Record {
        let by = identity.id();
        let signature = identity.sign(CONTEXT, &wire::encode(&(swarm, by, &statement)));
        Record { swarm, by, statement, signature }
    }

    /// Who signed it, if the signature holds.
    pub fn by(&self) -> NodeId {
        self.by
    }

    /// What it states.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Its length on the wire and on the disk.
    pub(super) fn bytes(&self) -> usize {
        wire::encode(self).len()
    }

    /// When, by its signer's clock.
    pub(super) fn at_ms(&self) -> u64 {
        match &self.statement {
            Statement::Founding { at_ms, .. }
            | Statement::Admission { at_ms, .. }
            | Statement::Eviction { at_ms, .. }
            | Statement::Departure { at_ms, .. } => *at_ms,
        }
    }

    /// Its id.
    pub fn id(&self) -> RecordId {
        let hash = digest(&SHA256, &self.signed());
        RecordId(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Whether the signer signed it and its parts are within their limits.
    pub(super) fn sound(&self) -> bool {
        let within = match &self.statement {
            Statement::Founding { name, .. } | Statement::Admission { name, .. } => tidy_name(name) == *name,
            Statement::Eviction { stands, .. } | Statement::Departure { stands, .. } => stands.len() <= STANDS_MAX,
        };
        within && self.signature.verify(&self.by, CONTEXT, &self.signed()).is_ok()
    }

    fn signed(&self) -> Vec<u8> {
        wire::encode(&(self.swarm, self.by, &self.statement))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?}", self.statement, self.by)
    }
}

/// A name as it may stand in a table or a log line: no control characters, no blanks around it, at most
/// [`NAME_CHARS_MAX`] characters, `node` if nothing is left.
pub fn tidy_name(name: &str) -> String {
    let name = tidy(name, NAME_CHARS_MAX);
    if name.is_empty() { "node".to_owned() } else { name }
}

/// Another machine's text as it may stand on one line of a log or a terminal, at most so many characters of it.
pub fn tidy(text: &str, chars_max: usize) -> String {
    let text: String = text.trim().chars().filter(|c| !c.is_control() && !invisible(*c)).take(chars_max).collect();
    text.trim().to_owned()
}

/// Characters that change how their neighbours are shown: a name with them can pose as another.
fn invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_write_to_a_terminal() {
        assert_eq!(tidy_name("  \u{1b}[31mred\u{7}\n "), "[31mred");
        assert_eq!(tidy_name("a\u{202e}b"), "ab");
        assert_eq!(tidy_name("\u{1b}"), "node");
        let long = tidy_name(&"x".repeat(1000));
        assert_eq!(long.len(), NAME_CHARS_MAX);
        assert_eq!(tidy_name(&long), long);
    }
}
