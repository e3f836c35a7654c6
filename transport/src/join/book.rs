//! The open invites of one node: what is valid until when, how many tries are left, who used it.

use super::{
    code::{Code, SLOTS},
    invite::Line,
};
use crate::roster::SwarmId;
use skep_runtime::{NodeId, swarm::Error};
use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

/// Invites that may be open on one node at once: each has a first character of its own in its code.
pub const INVITES_MAX: usize = SLOTS;
/// Guesses at one code by everyone together, after which the code is dead; the line, which nobody can guess, is not.
pub const TRIES_MAX: usize = 12;
/// Of these, by one machine: four have to conspire to kill a code.
pub const TRIES_PER_MACHINE_MAX: u8 = 3;

/// One open invite.
#[derive(Debug, Clone)]
struct Entry {
    secret: Hidden,
    code: Code,
    expires_ms: u64,
    /// Who has guessed at the code, once for each guess.
    tries: Vec<NodeId>,
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

/// The invites that this node gave out into one swarm. Times are milliseconds since 1970, given by the caller.
#[derive(Debug, Clone)]
pub struct Book {
    valid_ms: u64,
    swarm: Option<SwarmId>,
    entries: VecDeque<Entry>,
}

impl Book {
    /// No invites; those to come are valid for `valid`.
    pub fn new(valid: Duration) -> Book {
        Book { valid_ms: valid.as_millis() as u64, swarm: None, entries: VecDeque::new() }
    }

    /// The node is in this swarm now: invites into another one are void.
    pub fn of(&mut self, swarm: SwarmId) -> &mut Book {
        if self.swarm.replace(swarm) != Some(swarm) {
            self.entries.clear();
        }
        self
    }

    /// The first characters that a new code can't have. When there would be no other, the oldest invite that was used
    /// gives way: it is kept only for a machine that missed its welcome.
    pub fn taken(&mut self, now_ms: u64) -> BTreeSet<u8> {
        self.entries.retain(|e| e.expires_ms > now_ms);
        if self.entries.len() >= INVITES_MAX
            && let Some(used) = self.entries.iter().position(|e| e.used_by.is_some())
        {
            self.entries.remove(used);
        }
        self.entries.iter().map(|e| e.code.slot()).collect()
    }

    /// Opens an invite, whose code starts with a character that is not [`Book::taken`], and says when it expires.
    pub fn open(&mut self, secret: [u8; 16], code: Code, now_ms: u64) -> u64 {
        let expires_ms = now_ms + self.valid_ms;
        let secret = Hidden(secret);
        self.entries.push_back(Entry { secret, code, expires_ms, tries: Vec::new(), used_by: None });
        expires_ms
    }

    /// Whether the invite of this secret still lets a machine in. There is no such question by code: that could be
    /// guessed.
    pub fn lets_in(&self, secret: &[u8; 16], now_ms: u64) -> bool {
        let entry = self.entries.iter().find(|e| Line::tag(&e.secret.0) == Line::tag(secret));
        entry.is_some_and(|e| e.expires_ms > now_ms && e.used_by.is_none())
    }

    /// The secret of the invite with this tag, if `who` may still use it.
    pub(super) fn secret(&self, tag: &[u8; 8], who: &NodeId, now_ms: u64) -> Result<[u8; 16], Error> {
        let entry = self.entries.iter().find(|e| Line::tag(&e.secret.0) == *tag);
        entry.filter(|e| e.usable(who, now_ms)).map(|e| e.secret.0).ok_or(Error::Spent)
    }

    /// The code of the invite in this slot, if `who` may still guess at it.
    pub(super) fn code(&self, slot: u8, who: &NodeId, now_ms: u64) -> Result<Code, Error> {
        let usable = |e: &&Entry| e.code.slot() == slot && e.usable(who, now_ms) && e.tries_left(who) > 0;
        self.entries.iter().find(usable).map(|e| e.code.clone()).ok_or(Error::Spent)
    }

    /// `who` is about to be shown whether its guess was right, which costs a try before anything is proven: who
    /// vanishes after a wrong guess has used it up as well. Gives the tries that remain to it.
    pub(super) fn guessed(&mut self, slot: u8, who: NodeId) -> u8 {
        let Some(entry) = self.entries.iter_mut().find(|e| e.code.slot() == slot) else { return 0 };
        entry.tries.push(who);
        entry.tries_left(&who)
    }

    /// Marks the invite as used by `who`, who has proven to know it. Fails if someone else was first.
    pub(super) fn spend(&mut self, which: &Which, who: NodeId, now_ms: u64) -> Result<(), Error> {
        let entry = self.entries.iter_mut().find(|e| match which {
            Which::Line(tag) => Line::tag(&e.secret.0) == *tag,
            Which::Code(slot) => e.code.slot() == *slot,
        });
        let entry = entry.filter(|e| e.usable(&who, now_ms)).ok_or(Error::Spent)?;
        entry.used_by = Some(who);
        // It did not guess.
        entry.tries.retain(|tried| *tried != who);
        Ok(())
    }
}

impl Entry {
    fn usable(&self, who: &NodeId, now_ms: u64) -> bool {
        self.expires_ms > now_ms && self.used_by.is_none_or(|used| used == *who)
    }

    fn tries_left(&self, who: &NodeId) -> u8 {
        let own = self.tries.iter().filter(|tried| *tried == who).count();
        let left =
            (TRIES_MAX.saturating_sub(self.tries.len())).min(usize::from(TRIES_PER_MACHINE_MAX).saturating_sub(own));
        left as u8
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
        book.open([5; 16], Code::parse("ABC234").unwrap(), 0);
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
        let (book, tag, slot) = book();
        assert!(book.secret(&tag, &A, 599_999).is_ok());
        assert_eq!(book.secret(&tag, &A, 600_000), Err(Error::Spent));
        assert_eq!(book.code(slot, &A, 600_000), Err(Error::Spent));
    }

    #[test]
    fn three_guesses_are_all_that_a_machine_has_and_another_still_comes_in() {
        let (mut book, tag, slot) = book();
        for left in [2, 1, 0] {
            assert!(book.code(slot, &A, 1).is_ok());
            assert_eq!(book.guessed(slot, A), left);
        }
        assert_eq!(book.code(slot, &A, 1), Err(Error::Spent));
        assert!(book.code(slot, &B, 1).is_ok());
        assert!(book.secret(&tag, &A, 1).is_ok(), "nobody guesses a line");
    }

    #[test]
    fn a_code_dies_of_guesses_by_however_many_and_its_line_lives_on() {
        let (mut book, tag, slot) = book();
        let guesses = (10..).map(|n| NodeId::from_bytes([n; 32])).take_while(|who| {
            let may = book.code(slot, who, 1).is_ok();
            book.guessed(slot, *who);
            may
        });
        assert_eq!(guesses.count(), TRIES_MAX);
        assert_eq!(book.code(slot, &B, 1), Err(Error::Spent));
        assert!(book.secret(&tag, &B, 1).is_ok());
    }

    #[test]
    fn thirty_are_open_at_once_and_none_of_them_gives_way_before_it_was_used() {
        let mut book = Book::new(Duration::from_secs(600));
        let random = |n| [n; super::super::code::CODE_CHARS];
        for n in 0..INVITES_MAX as u8 {
            let taken = book.taken(1);
            book.open([n; 16], Code::from_random(random(n.into()), &taken).unwrap(), 1);
        }
        assert!((0..INVITES_MAX as u8).all(|n| book.secret(&Line::tag(&[n; 16]), &A, 2).is_ok()));
        let taken = book.taken(2);
        assert_eq!(Code::from_random(random(0), &taken), None);
        book.spend(&Which::Line(Line::tag(&[7; 16])), A, 2).unwrap();
        let taken = book.taken(2);
        assert!(Code::from_random(random(0), &taken).is_some());
    }

    #[test]
    fn an_invite_into_one_swarm_admits_nobody_to_the_next() {
        let (mut book, tag, _) = book();
        let (home, office) = (SwarmId([1; 32]), SwarmId([2; 32]));
        book.of(home).open([6; 16], Code::parse("BBC234").unwrap(), 0);
        assert!(book.of(home).secret(&Line::tag(&[6; 16]), &A, 1).is_ok());
        assert_eq!(book.of(office).secret(&Line::tag(&[6; 16]), &A, 1), Err(Error::Spent));
        assert_eq!(book.of(home).secret(&tag, &A, 1), Err(Error::Spent));
    }
}
