//! What happened in a world, as two digests and, if wanted, as text: equal seeds have to give equal traces.
//!
//! One line a datagram (virtual time, from, to, length, fate, when each copy arrives), a line for each thing that a scenario did or found, and
//! every line of the nodes' own logs (from `log`).

use crate::clock;
use std::{
    collections::VecDeque,
    fmt,
    io::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Lines without datagrams that are kept for whoever asks what happened before a failure.
const LAST_LINES_MAX: usize = 40;

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives once.
    Arrives,
    /// It arrives twice.
    Twice,
    /// The link lost it.
    Lost,
    /// There is no way from here to there now.
    Cut,
    /// It is longer than the link carries.
    TooLong,
}

/// The running digests of a world.
pub struct Trace {
    lines: Fnv,
    contents: Fnv,
    text: Option<Box<dyn Write + Send>>,
    sums: Sums,
    last: VecDeque<String>,
}

/// A whole run in numbers. Equal for equal seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Digest of all lines, datagrams in a form shorter than their text.
    pub lines: u64,
    /// Digest of the datagrams' contents.
    pub contents: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of them, those that did not arrive.
    pub lost: u64,
}

impl Trace {
    /// A trace that is also written to `text`.
    pub fn new(text: Option<Box<dyn Write + Send>>) -> Trace {
        let (lines, contents) = (Fnv::default(), Fnv::default());
        Trace { lines, contents, text, sums: Sums::default(), last: VecDeque::new() }
    }

    /// A datagram was sent. Its copies arrive after these delays.
    pub fn datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], fate: Fate, delays: &[Duration]) {
        self.contents.add(bytes);
        self.sums.datagrams += 1;
        self.sums.bytes += bytes.len() as u64;
        self.sums.lost += u64::from(!matches!(fate, Fate::Arrives | Fate::Twice));
        // Millions of them: as text only if somebody reads it.
        self.lines.add(&clock::now().as_nanos().to_le_bytes());
        for at in [from, to] {
            match at.ip() {
                IpAddr::V4(ip) => self.lines.add(&ip.octets()),
                IpAddr::V6(ip) => self.lines.add(&ip.octets()),
            }
            self.lines.add(&at.port().to_le_bytes());
        }
        self.lines.add(&(bytes.len() as u32).to_le_bytes());
        self.lines.add(&[fate as u8]);
        for delay in delays {
            self.lines.add(&(delay.as_nanos() as u64).to_le_bytes());
        }
        if self.text.is_some() {
            self.write(&timed(format_args!("{from} > {to} {} {fate:?} {delays:?}", bytes.len())));
        }
    }

    /// A datagram arrived where nobody listens any more.
    pub fn unheard(&mut self, from: SocketAddr, to: SocketAddr, bytes: usize) {
        self.sums.lost += 1;
        self.line(format_args!("{from} > {to} {bytes} Unheard"));
    }

    /// A scenario did or found something, or a node logged it.
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = self.line(what);
        if self.last.len() >= LAST_LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The last lines, datagrams left out.
    pub fn last(&self) -> String {
        self.last.iter().map(String::as_str).collect()
    }

    /// The numbers so far.
    pub fn sums(&self) -> Sums {
        Sums { lines: self.lines.value(), contents: self.contents.value(), ..self.sums }
    }

    fn line(&mut self, what: fmt::Arguments<'_>) -> String {
        let line = timed(what);
        self.lines.add(line.as_bytes());
        self.write(&line);
        line
    }

    fn write(&mut self, line: &str) {
        if let Some(text) = &mut self.text {
            // Whoever reads it may have seen enough: a closed pipe ends the text, not the run.
            if text.write_all(line.as_bytes()).is_err() {
                self.text = None;
            }
        }
    }
}

fn timed(what: fmt::Arguments<'_>) -> String {
    format!("{:12.6} {what}\n", clock::now().as_secs_f64())
}

/// FNV-1a, 64 bits: a digest against accidents, not against people.
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
}
