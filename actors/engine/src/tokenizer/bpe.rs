//! Byte-level BPE (`tokenizer.ggml.model` = `gpt2`) with the splitting rules of the model families.
//! The merging itself is the `tokenizers` crate's.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{SplitDelimiterBehavior, Tokenizer as Library};

use super::vocabulary::{Class, Vocabulary};
use crate::error::{GgufError, TokenizerError};
use crate::gguf::Gguf;

/// Words of Llama 3: contractions in any case, words, up to three digits, punctuation, line ends, spaces.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Qwen 2: the same with single digits.
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a family cuts text into words before merging.
enum Rule {
    /// The rule of GPT-2.
    Gpt2,
    /// The rule of GPT-2, with every digit alone.
    Gpt2Digits,
    /// A pattern of its own.
    Pattern(&'static str),
}

/// A byte-level BPE encoder.
pub(super) struct Bpe(Library);

impl Bpe {
    /// Builds the encoder; control tokens stay out, so that no text can reach them.
    pub(super) fn new(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        const MERGES: &str = "tokenizer.ggml.merges";
        let name = gguf.text("tokenizer.ggml.pre")?.unwrap_or("default");
        let (rule, composed, whole_words) = family(name)?;
        let merges = gguf.texts(MERGES)?.ok_or_else(|| GgufError::MissingKey(MERGES.to_owned()))?;

        let words = || vocabulary.of_class(|class| class == Class::Text);
        let known: HashMap<&str, u32> = words().collect();
        let mut kept = Vec::with_capacity(merges.len());
        for merge in merges.iter() {
            let (left, right) = merge
                .split_once(' ')
                .ok_or_else(|| TokenizerError::Vocabulary(format!("merge {merge:?} is not a pair")))?;
            // A merge to something that is no token can never be seen in the result; the library
            // panics on it.
            let product = format!("{left}{right}");
            if [left, right, &product].iter().all(|text| known.contains_key(text)) {
                kept.push((left.to_owned(), right.to_owned()));
            }
        }
        let texts = words().map(|(text, token)| (text.to_owned(), token));
        let model = BPE::builder()
            .vocab_and_merges(texts.collect::<Vocab>(), kept)
            .ignore_merges(whole_words)
            .build()
            .map_err(|error| TokenizerError::Vocabulary(error.to_string()))?;
        let mut library = Library::new(model);
        library.with_pre_tokenizer(Some(pre_tokenizer(&rule)?));
        if composed {
            library.with_normalizer(Some(NFC)).map_err(|error| TokenizerError::Encode(error.to_string()))?;
        }
        Ok(Self(library))
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, into: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let encoding = self.0.encode_fast(text, false).map_err(|error| TokenizerError::Encode(error.to_string()))?;
        into.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// The family's rule, whether it composes characters first, and whether a word that is a token
/// skips merging. Names as converters write them.
fn family(name: &str) -> Result<(Rule, bool, bool), TokenizerError> {
    Ok(match name {
        "default" | "gpt-2" | "gpt2" | "phi-2" | "olmo" => (Rule::Gpt2, false, false),
        "smollm" | "starcoder" | "refact" | "codeshell" | "command-r" => (Rule::Gpt2Digits, false, false),
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" | "lfm2" => (Rule::Pattern(LLAMA_3), false, true),
        "qwen2" | "deepseek-r1-qwen" => (Rule::Pattern(QWEN_2), true, false),
        other => return Err(TokenizerError::PreTokenizer(other.to_owned())),
    })
}

fn pre_tokenizer(rule: &Rule) -> Result<PreTokenizerWrapper, TokenizerError> {
    let bytes = |split| ByteLevel::new(false, false, split).into();
    let steps = match rule {
        Rule::Gpt2 => vec![bytes(true)],
        Rule::Gpt2Digits => vec![Digits::new(true).into(), bytes(true)],
        Rule::Pattern(pattern) => {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| TokenizerError::Encode(error.to_string()))?;
            vec![split.into(), bytes(false)]
        }
    };
    Ok(Sequence::new(steps).into())
}
