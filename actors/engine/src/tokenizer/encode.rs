//! The tokenizer: cuts text at whole-text tokens, encodes what lies between, and looks tokens up.

use super::alphabet;
use super::bpe::Bpe;
use super::markup::{Markup, Piece, Splitter};
use super::spm::{self, Spm};
use super::stream::Detokenizer;
use super::vocabulary::{Class, Vocabulary};
use crate::chat::Prompt;
use crate::defaults::ENCODE_BYTES_MAX;
use crate::error::TokenizerError;
use crate::gguf::Gguf;

/// A model's tokenizer. Shared freely between threads.
pub struct Tokenizer {
    encoder: Encoder,
    vocabulary: Vocabulary,
    /// Tokens that every text is cut at.
    whole: Splitter,
    /// Those and the control tokens, for trusted text.
    trusted: Splitter,
}

enum Encoder {
    Bpe(Box<Bpe>),
    Spm(Spm),
}

impl Tokenizer {
    /// Builds a tokenizer from a file's metadata.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::read(gguf)?;
        let encoder = match gguf.text("tokenizer.ggml.model")?.unwrap_or("gpt2") {
            "gpt2" => Encoder::Bpe(Box::new(Bpe::new(gguf, &vocabulary)?)),
            "llama" => Encoder::Spm(Spm::new(gguf, &vocabulary)?),
            other => return Err(TokenizerError::Model(other.to_owned())),
        };
        let whole = Splitter::new(vocabulary.of_class(|class| class == Class::Whole));
        let special = |class| matches!(class, Class::Whole | Class::Control | Class::Markup);
        let trusted = Splitter::new(vocabulary.of_class(special));
        Ok(Self { encoder, vocabulary, whole, trusted })
    }

    /// The tokens of `text`, without an opening token.
    pub fn encode(&self, text: &str, markup: Markup) -> Result<Vec<u32>, TokenizerError> {
        check_length(text, ENCODE_BYTES_MAX)?;
        let splitter = match markup {
            Markup::Plain => &self.whole,
            Markup::Trusted => &self.trusted,
        };
        self.encode_pieces(splitter.split(text), |text| text.into())
    }

    /// The tokens of a text that the model is to continue: an opening token if the model wants one,
    /// then the text as plain text.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens: Vec<u32> = self.vocabulary.opening.into_iter().collect();
        tokens.extend(self.encode(text, Markup::Plain)?);
        Ok(tokens)
    }

    /// The tokens of a rendered chat: the template's own text is trusted, the messages are plain.
    /// Opens with the opening token once, whether the template writes it or not.
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TokenizerError> {
        check_length(prompt.marked(), crate::defaults::PROMPT_BYTES_MAX)?;
        let mut tokens = self.encode_pieces(self.trusted.split(prompt.marked()), Prompt::unmark)?;
        if let Some(opening) = self.vocabulary.opening
            && tokens.first() != Some(&opening)
        {
            tokens.insert(0, opening);
        }
        Ok(tokens)
    }

    /// The text of `tokens`; control tokens have none, broken UTF-8 becomes U+FFFD.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut stream = Detokenizer::new();
        let mut text: String = tokens.iter().map(|&token| stream.push(self, token)).collect();
        text.push_str(&stream.finish());
        match &self.encoder {
            Encoder::Spm(spm) if spm.leading_space => match text.strip_prefix(' ') {
                Some(rest) => rest.to_owned(),
                None => text,
            },
            _ => text,
        }
    }

    /// Whether `token` ends an answer.
    pub fn ends_answer(&self, token: u32) -> bool {
        self.vocabulary.endings.contains(&token)
    }

    /// Tokens that end an answer, in order.
    pub fn endings(&self) -> impl Iterator<Item = u32> {
        self.vocabulary.endings.iter().copied()
    }

    /// The token that opens a text, if the model wants one.
    pub fn opening(&self) -> Option<u32> {
        self.vocabulary.opening
    }

    /// Number of token ids; the model may have logits for a few more, which stand for nothing.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary.len()
    }

    /// Whether `token` steers the model instead of being text.
    pub fn is_control(&self, token: u32) -> bool {
        matches!(self.vocabulary.class(token), Some(Class::Control | Class::Markup))
    }

    /// The id of the token that is written `text` in the vocabulary, control tokens included.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.vocabulary.of_class(|_| true).find(|(known, _)| *known == text).map(|(_, token)| token)
    }

    /// The bytes that `token` adds to a text: none for control tokens and unknown ids, perhaps a
    /// part of a character for others.
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        let text = self.vocabulary.texts.get(token as usize).unwrap_or_default();
        match (self.vocabulary.class(token), &self.encoder) {
            (None | Some(Class::Control), _) => Vec::new(),
            (Some(Class::Markup | Class::Whole), _) => text.into(),
            (Some(Class::Byte), _) => {
                let digits = text.get(3..5).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                digits.into_iter().collect()
            }
            (Some(Class::Text), Encoder::Bpe(_)) => alphabet::bytes(text),
            (Some(Class::Text), Encoder::Spm(_)) => text.replace(spm::SPACE, " ").into_bytes(),
        }
    }

    fn encode_pieces<'t>(
        &self,
        pieces: Vec<Piece<'t>>,
        clean: impl Fn(&'t str) -> std::borrow::Cow<'t, str>,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = Vec::new();
        let mut opening = true;
        for piece in pieces {
            match (piece, &self.encoder) {
                (Piece::Token(token), _) => tokens.push(token),
                (Piece::Text(text), Encoder::Bpe(bpe)) => bpe.encode(&clean(text), &mut tokens)?,
                (Piece::Text(text), Encoder::Spm(spm)) => {
                    spm.encode(&clean(text), opening, &mut tokens);
                    opening = false;
                }
            }
        }
        Ok(tokens)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary", &self.vocabulary()).finish_non_exhaustive()
    }
}

fn check_length(text: &str, max: usize) -> Result<(), TokenizerError> {
    if text.len() <= max { Ok(()) } else { Err(TokenizerError::TooLong { bytes: text.len(), max }) }
}
