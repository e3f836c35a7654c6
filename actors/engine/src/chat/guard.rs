//! Keeps what people wrote from becoming control tokens, through any template.
//!
//! In message contents a mark is put behind every character that a control token starts with, and
//! in front of every character that one ends with. So no control token matches inside a content,
//! nor across its edges, whatever the template puts beside it, trims or cuts. The tokenizer cuts the
//! rendered prompt at control tokens first and drops the marks from the text between, so that
//! the model sees the content as it was written.

use std::borrow::Cow;

use crate::tokenizer::Splitter;

/// The mark: a character that Unicode keeps for a program's own use and never for text.
const MARK: char = '\u{fdd0}';

/// A rendered conversation, with marks in what people wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt(String);

impl Prompt {
    pub(super) fn new(marked: String) -> Self {
        Self(marked)
    }

    /// The prompt as a person would read it.
    pub fn text(&self) -> String {
        Self::unmark(&self.0).into_owned()
    }

    /// The prompt with its marks.
    pub(crate) fn marked(&self) -> &str {
        &self.0
    }

    /// `text` without marks.
    pub(crate) fn unmark(text: &str) -> Cow<'_, str> {
        if text.contains(MARK) { text.replace(MARK, "").into() } else { text.into() }
    }
}

/// Marks message contents.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    firsts: Vec<char>,
    lasts: Vec<char>,
}

impl Guard {
    /// Guards against the tokens of `controls`.
    pub(super) fn new(controls: &Splitter) -> Self {
        let (firsts, lasts) = controls.edges();
        Self { firsts, lasts }
    }

    /// `content` with marks; marks that it brought become U+FFFD. Dropping them would join what stood around them.
    pub(super) fn mark(&self, content: &str) -> String {
        let mut marked = String::with_capacity(content.len() + content.len() / 8);
        for character in
            content.chars().map(|character| if character == MARK { char::REPLACEMENT_CHARACTER } else { character })
        {
            if self.lasts.binary_search(&character).is_ok() {
                marked.push(MARK);
            }
            marked.push(character);
            if self.firsts.binary_search(&character).is_ok() {
                marked.push(MARK);
            }
        }
        marked
    }
}
