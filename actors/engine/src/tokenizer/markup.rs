//! Cuts a text at the tokens that are whole texts: control tokens in trusted text only.

use std::collections::BTreeMap;

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
    /// By first character, longest text first.
    tokens: BTreeMap<char, Vec<(Box<str>, u32)>>,
}

impl Splitter {
    /// Knows the given tokens. Texts of one character are left out: they can't be told from plain text.
    pub(crate) fn new<'t>(tokens: impl Iterator<Item = (&'t str, u32)>) -> Self {
        let mut by_first: BTreeMap<char, Vec<(Box<str>, u32)>> = BTreeMap::new();
        for (text, token) in tokens {
            if let Some(first) = text.chars().next().filter(|first| text.len() > first.len_utf8()) {
                by_first.entry(first).or_default().push((text.into(), token));
            }
        }
        for list in by_first.values_mut() {
            list.sort_by_key(|(text, token)| (usize::MAX - text.len(), *token));
        }
        Self { tokens: by_first }
    }

    /// Cuts `text` at every token.
    pub(crate) fn split<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let (mut start, mut at) = (0, 0);
        while let Some(first) = text[at..].chars().next() {
            let known = self.tokens.get(&first).map_or(&[][..], Vec::as_slice);
            match known.iter().find(|(token, _)| text[at..].starts_with(&**token)) {
                Some((found, token)) => {
                    pieces.extend((start < at).then(|| Piece::Text(&text[start..at])));
                    pieces.push(Piece::Token(*token));
                    at += found.len();
                    start = at;
                }
                None => at += first.len_utf8(),
            }
        }
        pieces.extend((start < at).then(|| Piece::Text(&text[start..])));
        pieces
    }

    /// Every character that one of the tokens starts with, or ends with.
    pub(crate) fn edges(&self) -> (Vec<char>, Vec<char>) {
        let firsts = self.tokens.keys().copied().collect();
        let texts = self.tokens.values().flatten();
        let mut lasts: Vec<char> = texts.filter_map(|(text, _)| text.chars().next_back()).collect();
        lasts.sort_unstable();
        lasts.dedup();
        (firsts, lasts)
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
}
