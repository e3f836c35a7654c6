//! The invite's line: `skep1` and base32 of the inviter's key, where it is, a one-time secret, a checksum.
//!
//! The key in it is what makes the first connection safe: whoever answers must hold it before a byte is said.

use super::code::Code;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{Encoding, Specification};
use skep_runtime::NodeId;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::LazyLock,
};

/// What every line starts with; the digit is the version of the rest.
const PREFIX: &str = "skep1";
/// Addresses in a line: a machine has a few interfaces, and the line is to fit two terminal rows.
pub const ADDRESSES_MAX: usize = 4;
/// Longest line in characters: prefix, key, four IPv6 addresses, secret, checksum.
pub const LINE_CHARS_MAX: usize = 256;
const CHECKSUM_BYTES: usize = 4;

static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut s = Specification::new();
    s.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    s.encoding().expect("the alphabet is valid")
});

/// What an invite's line says. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// Who invites.
    pub inviter: NodeId,
    /// Where it may be reached, at most [`ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// The one-time secret.
    pub secret: [u8; 16],
}

impl Line {
    /// The line as text.
    pub fn text(&self) -> String {
        let mut bytes = self.inviter.as_bytes().to_vec();
        bytes.extend_from_slice(&self.secret);
        for address in self.addresses.iter().take(ADDRESSES_MAX) {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        format!("{PREFIX}{}", BASE32.encode(&bytes))
    }

    /// What a line says; blanks, line breaks and capitals don't matter. `None` if a part is missing or changed.
    pub fn parse(text: &str) -> Option<Line> {
        // The length is checked first: the decoder allocates by it.
        if text.len() > 2 * LINE_CHARS_MAX {
            return None;
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect();
        let bytes = BASE32.decode(text.strip_prefix(PREFIX)?.as_bytes()).ok()?;
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
        if checksum(body) != sum {
            return None;
        }
        let (inviter, body) = body.split_first_chunk::<32>()?;
        let (secret, mut rest) = body.split_first_chunk::<16>()?;
        let mut addresses = Vec::new();
        while !rest.is_empty() && addresses.len() < ADDRESSES_MAX {
            addresses.push(address(&mut rest)?);
        }
        rest.is_empty().then(|| Line { inviter: NodeId::from_bytes(*inviter), addresses, secret: *secret })
    }

    /// Names the invite at its door without telling its secret.
    pub fn tag(secret: &[u8; 16]) -> [u8; 8] {
        let mut named = b"skep invite tag".to_vec();
        named.extend_from_slice(secret);
        digest(&SHA256, &named).as_ref()[..8].try_into().expect("SHA-256 has more than 8 bytes")
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("inviter", &self.inviter)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What `skep join` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invitation {
    /// The whole line.
    Line(Line),
    /// `CODE@HOST:PORT`.
    Code(Code, String),
}

impl Invitation {
    /// What the text is; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Invitation> {
        if let Some((code, host)) = text.trim().split_once('@') {
            let host = host.trim();
            let plausible = host.len() <= LINE_CHARS_MAX && host.contains(':') && !host.contains(char::is_whitespace);
            return plausible.then_some(()).and(Code::parse(code)).map(|code| Invitation::Code(code, host.to_owned()));
        }
        Line::parse(text).map(Invitation::Line)
    }
}

fn address(bytes: &mut &[u8]) -> Option<SocketAddr> {
    let (&kind, rest) = bytes.split_first()?;
    let (ip, rest): (IpAddr, &[u8]) = match kind {
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Ipv4Addr::from(*ip).into(), rest))?,
        6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Ipv6Addr::from(*ip).into(), rest))?,
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    *bytes = rest;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Finds a slip of the hand or of the clipboard; it protects nothing.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    digest(&SHA256, body).as_ref()[..CHECKSUM_BYTES].try_into().expect("SHA-256 is longer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line() -> Line {
        Line {
            inviter: NodeId::from_bytes([7; 32]),
            addresses: vec!["192.168.1.20:4893".parse().unwrap(), "[fd00::1]:9".parse().unwrap()],
            secret: [9; 16],
        }
    }

    #[test]
    fn a_line_reads_back_even_when_a_mail_program_broke_it() {
        let text = line().text();
        assert!(text.len() <= LINE_CHARS_MAX && text.starts_with("skep1"));
        assert_eq!(Line::parse(&text), Some(line()));
        let broken = format!("  {}\r\n {} ", &text[..40], text[40..].to_uppercase());
        assert_eq!(Line::parse(&broken), Some(line()));
    }

    #[test]
    fn one_changed_or_missing_character_is_noticed() {
        let text = line().text();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(Line::parse(&String::from_utf8(changed).unwrap()), None, "{at}");
            assert_eq!(Line::parse(&text[..at]), None, "{at}");
        }
    }

    #[test]
    fn a_code_at_an_address_is_told_from_a_line() {
        assert!(
            matches!(Invitation::parse(" abc234@desk.local:4893 "), Some(Invitation::Code(_, host)) if host == "desk.local:4893")
        );
        assert!(matches!(Invitation::parse(&line().text()), Some(Invitation::Line(_))));
        for text in ["", "@", "ABC234@", "ABC234@desk", "ABC@desk:1", "skep1", "https://example.com"] {
            assert_eq!(Invitation::parse(text), None, "{text}");
        }
    }

    #[test]
    fn its_debug_form_shows_no_secret() {
        let shown = format!("{:?}", line());
        assert!(!shown.contains("secret: [9") && !shown.contains("9, 9"));
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_an_invite_or_refused(text in "\\PC{0,300}", tail in "[a-z2-7]{0,300}") {
            let _ = Invitation::parse(&text);
            let _ = Line::parse(&format!("skep1{tail}"));
        }
    }
}
