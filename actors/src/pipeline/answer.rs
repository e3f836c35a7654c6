//! One answer's tokens to text: whole characters, no stop text, and the end when it comes.
//!
//! Without I/O. Every token that the model chose is counted, the one that ends the answer too: each was computed.

use super::{Lexicon, messages::Finish};
use skep_engine::{Detokenizer, StopFilter};

/// An answer in the making.
pub(super) struct Answer {
    detokenizer: Detokenizer,
    filter: StopFilter,
    tokens: u64,
    tokens_max: u64,
}

/// What a token did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The answer goes on; text may be empty.
    More(String),
    /// It has ended with this text.
    End(String, Finish),
}

impl Answer {
    /// At most `tokens_max` tokens, ended by any text that `filter` watches for.
    pub(super) fn new(filter: StopFilter, tokens_max: u64) -> Answer {
        Answer { detokenizer: Detokenizer::new(), filter, tokens: 0, tokens_max }
    }

    /// Tokens so far.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Takes the next token.
    pub(super) fn push(&mut self, lexicon: &Lexicon, token: u32) -> Next {
        self.tokens += 1;
        if lexicon.tokenizer.ends_answer(token) {
            return self.end(Finish::Stop, String::new());
        }
        let text = self.detokenizer.push(&lexicon.tokenizer, token);
        let passed = self.filter.push(&text);
        if passed.stopped_by.is_some() {
            return Next::End(passed.text, Finish::Stop);
        }
        if self.tokens >= self.tokens_max { self.end(Finish::Length, passed.text) } else { Next::More(passed.text) }
    }

    /// Ends it: what was held back comes out, unless it completes a stop text.
    fn end(&mut self, reason: Finish, mut text: String) -> Next {
        let rest = self.detokenizer.finish();
        let passed = self.filter.push(&rest);
        text.push_str(&passed.text);
        if passed.stopped_by.is_some() {
            return Next::End(text, Finish::Stop);
        }
        text.push_str(&self.filter.finish());
        Next::End(text, reason)
    }
}
