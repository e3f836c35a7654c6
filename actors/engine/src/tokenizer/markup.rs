//! Cuts a text at the tokens that are whole texts: control tokens in trusted text only.

use crate::defaults::SPECIAL_TOKEN_BYTES_MAX;

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Markup {
    /// A user, a tool, a web page: nothing in it is control.
    Plain,
    /// The model's own template or a caller that may steer the model: control tokens are recognised.
    Trusted,
}

/// A piece of a cut text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// Text without any of the tokens.
    Text(&'t str),
    /// One of the tokens.
    Token(u32),
}

/// Finds tokens in text, the longest at each place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Splitter {
    /// In the order of their bytes, each once: what begins alike stands together.
    tokens: Vec<(Box<str>, u32)>,
}

impl Splitter {
    /// Knows the given tokens. Texts of one character are left out: they can't be told from plain text. So are texts
    /// longer than [`SPECIAL_TOKEN_BYTES_MAX`], which only a hostile file has.
    pub(crate) fn new<'t>(tokens: impl Iterator<Item = (&'t str, u32)>) -> Self {
        let several = |text: &str| text.chars().nth(1).is_some() && text.len() <= SPECIAL_TOKEN_BYTES_MAX;
        let tokens = tokens.filter(|(text, _)| several(text));
        let mut tokens: Vec<(Box<str>, u32)> = tokens.map(|(text, token)| (text.into(), token)).collect();
        tokens.sort();
        tokens.dedup_by(|next, first| next.0 == first.0);
        Self { tokens }
    }

    /// Cuts `text` at every token.
    pub(crate) fn split<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let (mut start, mut at) = (0, 0);
        while let Some(first) = text[at..].chars().next() {
            match self.longest(&text.as_bytes()[at..]) {
                Some((length, token)) => {
                    pieces.extend((start < at).then(|| Piece::Text(&text[start..at])));
                    pieces.push(Piece::Token(token));
                    at += length;
                    start = at;
                }
                None => at += first.len_utf8(),
            }
        }
        pieces.extend((start < at).then(|| Piece::Text(&text[start..])));
        pieces
    }

    /// The longest token that `text` begins with. Narrows those that can be down byte by byte, so that a place in a
    /// text costs what it matches, however many tokens begin alike.
    fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let (mut known, mut longest) = (&self.tokens[..], None);
        for (at, &byte) in text.iter().enumerate() {
            let here = |token: &(Box<str>, u32)| token.0.as_bytes().get(at).copied();
            known = &known[known.partition_point(|token| here(token) < Some(byte))..];
            known = &known[..known.partition_point(|token| here(token) == Some(byte))];
            // The shortest of those that are left stands first.
            let Some((first, token)) = known.first() else { break };
            if first.len() == at + 1 {
                longest = Some((first.len(), *token));
            }
        }
        longest
    }

    /// Every character that one of the tokens starts with, or ends with.
    pub(crate) fn edges(&self) -> (Vec<char>, Vec<char>) {
        let sorted = |characters: Vec<char>| {
            let mut characters = characters;
            characters.sort_unstable();
            characters.dedup();
            characters
        };
        let texts = || self.tokens.iter().map(|(text, _)| text);
        let firsts = texts().filter_map(|text| text.chars().next()).collect();
        let lasts = texts().filter_map(|text| text.chars().next_back()).collect();
        (sorted(firsts), sorted(lasts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_token_wins_and_text_between_is_kept() {
        let splitter = Splitter::new([("<a>", 1), ("<a>>", 2), ("b", 3)].into_iter());
        let pieces = splitter.split("x<a>><a>é<a");
        assert_eq!(pieces, [Piece::Text("x"), Piece::Token(2), Piece::Token(1), Piece::Text("é<a")]);
        assert_eq!(splitter.split(""), []);
    }

    #[test]
    fn many_tokens_that_begin_alike_cost_no_more_than_one() {
        let texts: Vec<String> = (0..200_000).map(|n| format!("<{n:06}>")).collect();
        let splitter = Splitter::new(texts.iter().map(String::as_str).zip(0..));
        // With a look at each token for each character, this takes hours.
        assert_eq!(splitter.split(&"<".repeat(1 << 20)).len(), 1);
        assert_eq!(splitter.split("a<000007>"), [Piece::Text("a"), Piece::Token(7)]);
    }
}
