//! A model's words: its tokenizer and chat template, shared by all requests.

use super::{GenerateError, Turn};
use skep_engine::{ChatError, ChatTemplate, Message, Model, Role, Tokenizer, TokenizerError};
use std::path::Path;

/// Turns of a conversation to tokens, tokens to text.
pub(crate) struct Lexicon {
    pub(super) tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Lexicon {
    /// Reads both from the model's file. Blocks for a second with a large vocabulary.
    pub(crate) fn open(path: &Path) -> Result<Lexicon, GenerateError> {
        let broken = |e: &dyn std::fmt::Display| GenerateError::Engine(e.to_string());
        let model = Model::open(path).map_err(|e| broken(&e))?;
        let tokenizer = model.tokenizer().map_err(|e| broken(&e))?;
        let template = model.chat_template().map_err(|e| broken(&e))?;
        Ok(Lexicon { tokenizer, template })
    }

    /// The prompt of a conversation. Blocks: a long one takes a while.
    pub(super) fn prompt(&self, turns: &[Turn]) -> Result<Vec<u32>, GenerateError> {
        if turns.is_empty() {
            return Err(invalid("turns", "a conversation has at least one turn"));
        }
        let messages: Vec<Message> = turns.iter().enumerate().map(message).collect::<Result<_, _>>()?;
        let prompt = self.template.render(&messages).map_err(|e| match e {
            ChatError::Template(_) => GenerateError::Engine(e.to_string()),
            _ => invalid("turns", &e.to_string()),
        })?;
        let tokens = self.tokenizer.encode_prompt(&prompt).map_err(|e| match e {
            TokenizerError::TooLong { .. } => invalid("turns", &e.to_string()),
            _ => GenerateError::Engine(e.to_string()),
        })?;
        if tokens.is_empty() { Err(invalid("turns", "the conversation is empty")) } else { Ok(tokens) }
    }
}

fn message((i, turn): (usize, &Turn)) -> Result<Message, GenerateError> {
    let role = match turn.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return Err(invalid(&format!("turns[{i}].role"), "one of system, user, assistant, tool")),
    };
    Ok(Message::new(role, turn.content.clone()))
}

pub(super) fn invalid(field: &str, reason: &str) -> GenerateError {
    GenerateError::Invalid { field: field.to_owned(), reason: reason.to_owned() }
}
