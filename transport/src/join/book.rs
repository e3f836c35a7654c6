//! The open invites of one node: what is valid until when, how many tries are left, who used it.

use super::{code::Code, invite::Line};
use skep_runtime::{NodeId, swarm::Error};
use std::{collections::VecDeque, time::Duration};

/// Invites that may be open on one node at once. Each has a first character of its own in its code.
pub const INVITES_MAX: usize = 8;
/// Wrong codes after which an invite dies, line and all: someone is guessing.
pub const TRIES_MAX: u8 = 3;
/// Wrong proofs of the swarm key in a minute after which the door stays shut for the rest of it.
const KEY_FAILURES_MAX: usize = 10;
const KEY_WINDOW_MS: u64 = 60_000;

/// One open invite.
#[derive(Debug, Clone)]
struct Entry {
    secret: Hidden,
    code: Code,
    expires_ms: u64,
    tries_left: u8,
    /// The key that it admitted: the same machine may ask again, when the welcome was lost on its way.
    used_by: Option<NodeId>,
}

#[derive(Clone, PartialEq, Eq)]
struct Hidden([u8; 16]);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

/// The invites that this node gave out. Times are milliseconds since 1970, given by the caller.
#[derive(Debug, Clone)]
pub struct Book {
    valid_ms: u64,
    entries: VecDeque<Entry>,
    key_failures: VecDeque<u64>,
}

impl Book {
    /// No invites; those to come are valid for `valid`.
    pub fn new(valid: Duration) -> Book {
        Book { valid_ms: valid.as_millis() as u64, entries: VecDeque::new(), key_failures: VecDeque::new() }
    }

    /// Opens an invite and says when it expires, or `None` if the code's first character is taken: draw another.
    /// The oldest gives way when there are [`INVITES_MAX`].
    pub fn open(&mut self, secret: [u8; 16], code: Code, now_ms: u64) -> Option<u64> {
        self.entries.retain(|e| e.expires_ms > now_ms);
        if self.entries.iter().any(|e| e.code.slot() == code.slot()) {
            return None;
        }
        if self.entries.len() >= INVITES_MAX {
            self.entries.pop_front();
        }
        let expires_ms = now_ms + self.valid_ms;
        self.entries.push_back(Entry {
            secret: Hidden(secret),
            code,
            expires_ms,
            tries_left: TRIES_MAX,
            used_by: None,
        });
        Some(expires_ms)
    }

    /// Whether the invite of this secret still lets a machine in. There is no such question by code: that could be
    /// guessed.
    pub fn lets_in(&self, secret: &[u8; 16], now_ms: u64) -> bool {
        let entry = self.entries.iter().find(|e| Line::tag(&e.secret.0) == Line::tag(secret));
        entry.is_some_and(|e| e.expires_ms > now_ms && e.tries_left > 0 && e.used_by.is_none())
    }

    /// The secret of the invite with this tag, if `who` may still use it.
    pub(super) fn secret(&self, tag: &[u8; 8], who: &NodeId, now_ms: u64) -> Result<[u8; 16], Error> {
        let entry = self.entries.iter().find(|e| Line::tag(&e.secret.0) == *tag);
        entry
            .filter(|e| e.usable(who, now_ms) && (e.tries_left > 0 || e.used_by.is_some()))
            .map(|e| e.secret.0)
            .ok_or(Error::Spent)
    }

    /// The code of the invite in this slot, if `who` may still use it. Costs a try, before anything is proven:
    /// who vanishes after a wrong guess has used it up as well.
    pub(super) fn code(&mut self, slot: u8, who: &NodeId, now_ms: u64) -> Result<(Code, u8), Error> {
        let usable = |e: &&mut Entry| e.code.slot() == slot && e.usable(who, now_ms) && e.tries_left > 0;
        let entry = self.entries.iter_mut().find(usable).ok_or(Error::Spent)?;
        entry.tries_left -= 1;
        Ok((entry.code.clone(), entry.tries_left))
    }

    /// Marks the invite as used by `who`, who has proven to know it. Fails if someone else was first.
    pub(super) fn spend(&mut self, which: &Which, who: NodeId, now_ms: u64) -> Result<(), Error> {
        let entry = self.entries.iter_mut().find(|e| match which {
            Which::Line(tag) => Line::tag(&e.secret.0) == *tag,
            Which::Code(slot) => e.code.slot() == *slot,
        });
        let entry = entry.filter(|e| e.usable(&who, now_ms)).ok_or(Error::Spent)?;
        entry.used_by = Some(who);
        Ok(())
    }

    /// Whether the swarm key may be tried now.
    pub(super) fn key_open(&mut self, now_ms: u64) -> Result<(), Error> {
        self.key_failures.retain(|at| at + KEY_WINDOW_MS > now_ms);
        if self.key_failures.len() < KEY_FAILURES_MAX {
            return Ok(());
        }
        Err(Error::Refused("too many wrong swarm keys: try again in a minute".to_owned()))
    }

    /// Notes a wrong proof of the swarm key.
    pub(super) fn key_failed(&mut self, now_ms: u64) {
        if self.key_failures.len() < KEY_FAILURES_MAX {
            self.key_failures.push_back(now_ms);
        }
    }
}

impl Entry {
    fn usable(&self, who: &NodeId, now_ms: u64) -> bool {
        self.expires_ms > now_ms && self.used_by.is_none_or(|used| used == *who)
    }
}

/// One of the book's invites, without its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// By the tag of its secret.
    Line([u8; 8]),
    /// By the first character of its code.
    Code(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId::from_bytes([1; 32]);
    const B: NodeId = NodeId::from_bytes([2; 32]);

    fn book() -> (Book, [u8; 8], u8) {
        let mut book = Book::new(Duration::from_secs(600));
        book.open([5; 16], Code::parse("ABC234").unwrap(), 0).unwrap();
        (book, Line::tag(&[5; 16]), b'A')
    }

    #[test]
    fn an_invite_admits_one_key_which_may_ask_again() {
        let (mut book, tag, _) = book();
        assert!(book.secret(&tag, &A, 1).is_ok());
        book.spend(&Which::Line(tag), A, 1).unwrap();
        assert_eq!(book.secret(&tag, &B, 2), Err(Error::Spent));
        assert_eq!(book.spend(&Which::Line(tag), B, 2), Err(Error::Spent));
        assert!(book.secret(&tag, &A, 2).is_ok());
    }

    #[test]
    fn it_ends_after_ten_minutes_to_the_millisecond() {
        let (mut book, tag, slot) = book();
        assert!(book.secret(&tag, &A, 599_999).is_ok());
        assert_eq!(book.secret(&tag, &A, 600_000), Err(Error::Spent));
        assert_eq!(book.code(slot, &A, 600_000), Err(Error::Spent));
    }

    #[test]
    fn three_guesses_kill_the_line_as_well() {
        let (mut book, tag, slot) = book();
        for left in [2, 1, 0] {
            assert_eq!(book.code(slot, &A, 1).unwrap().1, left);
        }
        assert_eq!(book.code(slot, &A, 1), Err(Error::Spent));
        assert_eq!(book.secret(&tag, &A, 1), Err(Error::Spent));
    }

    #[test]
    fn there_are_never_more_than_eight_and_slots_differ() {
        let (mut book, tag, _) = book();
        assert_eq!(book.open([6; 16], Code::parse("A22222").unwrap(), 1), None);
        for (n, slot) in "BCDEFGHJ".chars().enumerate() {
            assert!(book.open([n as u8 + 10; 16], Code::parse(&format!("{slot}22222")).unwrap(), 1).is_some());
        }
        assert_eq!(book.entries.len(), INVITES_MAX);
        assert_eq!(book.secret(&tag, &A, 1), Err(Error::Spent));
    }

    #[test]
    fn guessing_the_swarm_key_shuts_the_door_for_a_minute() {
        let (mut book, ..) = book();
        (0..10).for_each(|at| book.key_failed(at));
        assert!(book.key_open(10).is_err());
        assert!(book.key_open(KEY_WINDOW_MS + 20).is_ok());
    }
}
