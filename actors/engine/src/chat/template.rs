//! The chat template of a file, run with the names that Hugging Face's renderer gives templates.
//!
//! Templates come from strangers. `interpret` bounds what they do; here is bounded what the parser is given, since it
//! and the tree that it builds recurse along operators and branches. They see nothing but the conversation.

use std::collections::BTreeMap;

use minijinja::machinery::{Token, WhitespaceConfig, ast::Stmt, parse, tokenize};

use super::guard::{Guard, Prompt};
use super::interpret::Interpreter;
use super::message::Message;
use super::value::{Failure, Fuel, Value};
use crate::defaults::{
    CHAT_MESSAGES_MAX, ENCODE_BYTES_MAX, TEMPLATE_BRANCHES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_TAG_TOKENS_MAX,
};
use crate::error::ChatError;
use crate::gguf::Gguf;
use crate::tokenizer::{Splitter, Vocabulary};

/// The template's name inside the renderer; shows in its errors.
const NAME: &str = "chat";

/// ChatML, for files without a template.
const CHAT_ML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model's chat template, known to parse.
pub struct ChatTemplate {
    source: String,
    guard: Guard,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Parses a file's template, or takes ChatML when it has none.
    pub(crate) fn from_gguf(gguf: &Gguf) -> Result<Self, ChatError> {
        let damaged = |error: &dyn std::fmt::Display| ChatError::Template(error.to_string());
        let source = gguf.text("tokenizer.chat_template").map_err(|error| damaged(&error))?;
        let vocabulary = Vocabulary::read(gguf).map_err(|error| damaged(&error))?;
        let text = |token: Option<u32>| {
            token.and_then(|token| vocabulary.texts.get(token as usize)).unwrap_or_default().to_owned()
        };
        let source = source.unwrap_or(CHAT_ML).to_owned();
        parsed(&source).map_err(ChatError::Template)?;
        Ok(Self {
            source,
            guard: Guard::new(&Splitter::new(vocabulary.controls())),
            bos: text(vocabulary.bos),
            eos: text(vocabulary.eos),
        })
    }

    /// Renders a conversation, up to where the assistant is to speak.
    ///
    /// Contents are limited to [`ENCODE_BYTES_MAX`] in sum, messages to [`CHAT_MESSAGES_MAX`].
    pub fn render(&self, messages: &[Message]) -> Result<Prompt, ChatError> {
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        for (what, found, max) in
            [("messages", messages.len(), CHAT_MESSAGES_MAX), ("bytes of text", bytes, ENCODE_BYTES_MAX)]
        {
            if found > max {
                return Err(ChatError::TooLong { what, found, max });
            }
        }
        let template = parsed(&self.source).map_err(ChatError::Template)?;
        let mut fuel = Fuel::new();
        let names = self.names(messages, &mut fuel).map_err(ChatError::Render)?;
        Interpreter::new(fuel, names).render(&template).map(Prompt::new).map_err(ChatError::Render)
    }

    /// What a template finds.
    fn names<'t>(&self, messages: &[Message], fuel: &mut Fuel) -> Result<BTreeMap<&'t str, Value<'t>>, Failure> {
        let mut marked = Vec::with_capacity(messages.len());
        for message in messages {
            let content = self.guard.mark(&message.content);
            let entries = [("role", Value::text(message.role.name())), ("content", Value::Text(content.into()))];
            marked.push(fuel.map(entries.into_iter().map(|(name, value)| (name.into(), value)).collect())?);
        }
        Ok(BTreeMap::from([
            ("messages", fuel.list(marked)?),
            ("add_generation_prompt", Value::Bool(true)),
            ("bos_token", Value::text(&self.bos)),
            ("eos_token", Value::text(&self.eos)),
        ]))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

/// The template's tree: tags trim the line that they stand on, as in Hugging Face's `apply_chat_template`.
fn parsed(source: &str) -> Result<Stmt<'_>, Failure> {
    let whitespace = || WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    if source.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("it has {} bytes, {TEMPLATE_BYTES_MAX} is the most", source.len()));
    }
    let (mut tag_tokens, mut branches) = (0, 0);
    for token in tokenize(source, false, Default::default(), whitespace()) {
        match token.map_err(|error| error.to_string())?.0 {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => tag_tokens = 0,
            Token::Ident("elif") => branches += 1,
            _ => tag_tokens += 1,
        }
        if tag_tokens > TEMPLATE_TAG_TOKENS_MAX || branches > TEMPLATE_BRANCHES_MAX {
            return Err("a tag of it is too long, or it has too many branches".to_owned());
        }
    }
    parse(source, NAME, Default::default(), whitespace()).map_err(|error| error.to_string())
}
