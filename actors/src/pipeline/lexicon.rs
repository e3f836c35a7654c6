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
        let rendered = match self.template.render(&messages) {
            // Families such as Mistral's and Gemma's know only users and assistants, in turn.
            Err(ChatError::Render(reason)) => match folded(&messages) {
                folded if folded == messages => Err(ChatError::Render(reason)),
                folded => self.template.render(&folded),
            },
            rendered => rendered,
        };
        let prompt = rendered.map_err(|e| match e {
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

/// The conversation for a template that refuses some roles: what the system and tools say, the user says; and who
/// speaks twice says it in one turn.
fn folded(messages: &[Message]) -> Vec<Message> {
    let mut folded: Vec<Message> = Vec::new();
    for message in messages {
        let role = if message.role == Role::Assistant { Role::Assistant } else { Role::User };
        match folded.last_mut().filter(|last| last.role == role) {
            Some(last) => {
                last.content.push_str("\n\n");
                last.content.push_str(&message.content);
            }
            None => folded.push(Message::new(role, message.content.as_str())),
        }
    }
    folded
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_folds_to_users_and_assistants_in_turn() {
        let say = |role, text: &str| Message::new(role, text);
        let turns = [
            say(Role::System, "s"),
            say(Role::User, "u"),
            say(Role::Assistant, "a"),
            say(Role::Tool, "t"),
            say(Role::User, "v"),
        ];
        let want = [say(Role::User, "s\n\nu"), say(Role::Assistant, "a"), say(Role::User, "t\n\nv")];
        assert_eq!(folded(&turns), want);
        assert_eq!(folded(&want), want);
    }
}
