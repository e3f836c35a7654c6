//! The vocabulary as the file states it: texts, their classes, and which tokens open and end a text.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{GgufError, TokenizerError};
use crate::gguf::{Gguf, Texts, Value};

/// What kind of token an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A piece of text.
    Text,
    /// A token that steers the model; it has no text of its own.
    Control,
    /// A token with a text that steers the model all the same, such as `<think>`: shown when the
    /// model gives it, never made from plain text.
    Markup,
    /// A whole text that is always one token.
    Whole,
    /// One byte (`<0x41>`).
    Byte,
}

/// Texts that end an answer where they are control tokens: the names in use, for files that name only one end.
const ENDINGS: [&str; 12] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|eot|>",
    "<|return|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<EOT>",
    "</s>",
];

/// A vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Vocabulary {
    /// Texts by id.
    pub(crate) texts: Texts,
    /// Classes by id; as many as texts.
    pub(crate) classes: Vec<Class>,
    /// The token that opens a text, if the file wants one in front.
    pub(crate) opening: Option<u32>,
    /// The token that the file calls end of sequence.
    pub(crate) eos: Option<u32>,
    /// The token that the file calls beginning of sequence, wanted in front or not.
    pub(crate) bos: Option<u32>,
    /// Tokens that end an answer.
    pub(crate) endings: BTreeSet<u32>,
}

impl Vocabulary {
    /// Reads a vocabulary; every id in it is in range.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, TokenizerError> {
        const TEXTS: &str = "tokenizer.ggml.tokens";
        let texts = gguf.texts(TEXTS)?.ok_or_else(|| GgufError::MissingKey(TEXTS.to_owned()))?.clone();
        let mut vocabulary = Self {
            classes: classes(gguf, &texts)?,
            bos: id(gguf, &texts, "bos_token_id")?,
            eos: id(gguf, &texts, "eos_token_id")?,
            opening: None,
            endings: BTreeSet::new(),
            texts,
        };
        let spm = gguf.text("tokenizer.ggml.model")? == Some("llama");
        let llama3 = gguf.text("tokenizer.ggml.pre")?.is_some_and(|pre| matches!(pre, "llama-bpe" | "llama3"));
        if gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(spm || llama3) {
            vocabulary.opening = vocabulary.bos;
        }
        let named = ["eot_token_id", "eom_token_id"].map(|key| id(gguf, &vocabulary.texts, key));
        for ending in named {
            vocabulary.endings.extend(ending?);
        }
        vocabulary.endings.extend(vocabulary.eos);
        // What opens or ends a text is control, whatever class the converter gave it.
        for &token in vocabulary.endings.iter().chain(&vocabulary.bos) {
            vocabulary.classes[token as usize] = Class::Control;
        }
        let by_name = vocabulary.controls().filter(|(text, _)| ENDINGS.contains(text)).map(|(_, token)| token);
        let by_name: Vec<u32> = by_name.collect();
        vocabulary.endings.extend(by_name);
        Ok(vocabulary)
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> u32 {
        self.classes.len() as u32
    }

    /// The class of `token`; `None` if it is not in the vocabulary.
    pub(crate) fn class(&self, token: u32) -> Option<Class> {
        self.classes.get(token as usize).copied()
    }

    /// Text and id of the tokens that only trusted text may make: control and markup.
    pub(crate) fn controls(&self) -> impl Iterator<Item = (&str, u32)> {
        self.of_class(|class| matches!(class, Class::Control | Class::Markup))
    }

    /// Text and id of the tokens of the classes that `wanted` picks.
    pub(crate) fn of_class(&self, wanted: impl Fn(Class) -> bool) -> impl Iterator<Item = (&str, u32)> {
        let tokens = self.texts.iter().zip(&self.classes).zip(0..);
        tokens.filter(move |((_, class), _)| wanted(**class)).map(|((text, _), token)| (text, token))
    }
}

fn classes(gguf: &Gguf, texts: &Texts) -> Result<Vec<Class>, TokenizerError> {
    const TYPES: &str = "tokenizer.ggml.token_type";
    let Some(types) = gguf.scalars(TYPES)? else {
        return Ok(vec![Class::Text; texts.len()]);
    };
    if types.len() != texts.len() {
        return Err(TokenizerError::Vocabulary(format!("{} tokens but {} types", texts.len(), types.len())));
    }
    let class = |(kind, text): (Value, &str)| match kind.as_u64() {
        Some(2 | 3) => Class::Control,
        Some(4) if is_markup(text) => Class::Markup,
        Some(4) => Class::Whole,
        Some(6) => Class::Byte,
        _ => Class::Text,
    };
    Ok(types.scalars().zip(texts.iter()).map(class).collect())
}

/// Converters give `<tool_call>` and runs of spaces the same class; only the former steers the model.
fn is_markup(text: &str) -> bool {
    let pairs = BTreeMap::from([('<', '>'), ('[', ']'), ('{', '}')]);
    let ends = text.chars().next().zip(text.chars().next_back());
    ends.is_some_and(|(first, last)| pairs.get(&first) == Some(&last))
}

fn id(gguf: &Gguf, texts: &Texts, key: &str) -> Result<Option<u32>, TokenizerError> {
    match gguf.number(&format!("tokenizer.ggml.{key}"))? {
        Some(number) if number < texts.len() as u64 => Ok(Some(number as u32)),
        // Some converters write 2^32 - 1 for "none".
        Some(number) if number == u64::from(u32::MAX) => Ok(None),
        Some(number) => Err(TokenizerError::Vocabulary(format!("{key} is {number}, which is no token"))),
        None => Ok(None),
    }
}
