//! SentencePiece vocabularies as llama files carry them (`tokenizer.ggml.model` = `llama`): the
//! best-scored neighbours are joined until none is left, and what remains unknown becomes bytes.
//! The order of joining is llama.cpp's `llm_tokenizer_spm`.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::vocabulary::{Class, Vocabulary};
use crate::error::{GgufError, TokenizerError};
use crate::gguf::Gguf;

/// The character that stands for a space.
pub(super) const SPACE: char = '▁';

/// A SentencePiece encoder.
pub(super) struct Spm {
    tokens: HashMap<Box<str>, (u32, f32)>,
    /// Token of each byte, or of the unknown.
    bytes: Vec<u32>,
    /// Whether a space is put in front of a text.
    pub(super) leading_space: bool,
}

/// A stretch of text that is one symbol for now; a list through which neighbours are found.
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could be joined.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length when it was found; another length means that one of them has changed since.
    bytes: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Spm {
    /// Builds the encoder; control and byte tokens stay out of what text is looked up in.
    pub(super) fn new(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        const SCORES: &str = "tokenizer.ggml.scores";
        let scores = gguf.scalars(SCORES)?.ok_or_else(|| GgufError::MissingKey(SCORES.to_owned()))?;
        if scores.len() != vocabulary.texts.len() {
            return Err(TokenizerError::Vocabulary("there are not as many scores as tokens".to_owned()));
        }
        let scores: Vec<f32> = scores.scalars().map(|score| score.as_f64().unwrap_or(0.0) as f32).collect();
        let texts = vocabulary.of_class(|class| class == Class::Text);
        let tokens = texts.map(|(text, token)| (text.into(), (token, scores[token as usize]))).collect();
        let named: HashMap<&str, u32> = vocabulary.of_class(|class| class == Class::Byte).collect();
        let unknown = gguf.number("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
        let unknown = u32::try_from(unknown).ok().filter(|&token| token < vocabulary.len()).unwrap_or(0);
        let byte = |byte: u8| named.get(format!("<0x{byte:02X}>").as_str()).copied().unwrap_or(unknown);
        Ok(Self {
            tokens,
            bytes: (0..=255).map(byte).collect(),
            leading_space: gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        })
    }

    /// Appends the tokens of `text`; `opening` says that it is the first of its kind in the prompt.
    pub(super) fn encode(&self, text: &str, opening: bool, into: &mut Vec<u32>) {
        let mut spaced = String::with_capacity(text.len() + 8);
        if self.leading_space && opening {
            spaced.push(SPACE);
        }
        spaced.extend(text.chars().map(|character| if character == ' ' { SPACE } else { character }));
        for symbol in self.join(&spaced) {
            match self.tokens.get(symbol) {
                Some((token, _)) => into.push(*token),
                None => into.extend(symbol.bytes().map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }

    fn join<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let count = text.chars().count();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start,
                end: start + character.len_utf8(),
                previous: index.checked_sub(1),
                next: (index + 1 < count).then_some(index + 1),
            })
            .collect();
        let mut pairs = BinaryHeap::new();
        for right in 1..symbols.len() {
            pairs.extend(self.pair(text, &symbols, right - 1, right));
        }
        while let Some(Pair { left, right, bytes, .. }) = pairs.pop() {
            let (start, end) = (symbols[left].start, symbols[right].end);
            // One of them was joined with another neighbour meanwhile.
            if symbols[left].next != Some(right) || symbols[left].end != symbols[right].start || end - start != bytes {
                continue;
            }
            symbols[left].end = end;
            symbols[left].next = symbols[right].next;
            symbols[right].start = end;
            if let Some(next) = symbols[left].next {
                symbols[next].previous = Some(left);
                pairs.extend(self.pair(text, &symbols, left, next));
            }
            if let Some(previous) = symbols[left].previous {
                pairs.extend(self.pair(text, &symbols, previous, left));
            }
        }
        let mut joined = Vec::new();
        let mut at = (!symbols.is_empty()).then_some(0);
        while let Some(index) = at {
            joined.push(&text[symbols[index].start..symbols[index].end]);
            at = symbols[index].next;
        }
        joined
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let span = symbols[left].start..symbols[right].end;
        let bytes = span.len();
        self.tokens.get(&text[span]).map(|&(_, score)| Pair { score, left, right, bytes })
    }
}
