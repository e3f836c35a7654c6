//! The chat template of a file, run with the names that Hugging Face's renderer gives templates.
//!
//! Templates come from strangers: fuel bounds their time, a depth their recursion, a limit what
//! they may write; they see nothing but the conversation.

use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, context};

use super::guard::{Guard, Prompt};
use super::message::Message;
use super::methods;
use crate::defaults::{
    CHAT_MESSAGES_MAX, ENCODE_BYTES_MAX, PROMPT_BYTES_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_FUEL_INSTRUCTIONS,
};
use crate::error::ChatError;
use crate::gguf::Gguf;
use crate::tokenizer::{Splitter, Vocabulary};

/// The template's name inside the renderer; shows in its errors.
const NAME: &str = "chat";

/// ChatML, for files without a template.
const CHAT_ML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A model's chat template, parsed.
pub struct ChatTemplate {
    environment: Environment<'static>,
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
        let mut environment = environment();
        environment.add_template_owned(NAME, source.unwrap_or(CHAT_ML).to_owned()).map_err(|error| damaged(&error))?;
        Ok(Self {
            environment,
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
        let marked: Vec<Value> = messages
            .iter()
            .map(|message| {
                context! { role => message.role.name(), content => self.guard.mark(&message.content) }
            })
            .collect();
        let refused = |error: Error| ChatError::Render(error.to_string());
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let mut output = Limited { bytes: Vec::new() };
        let names = context! {
            messages => marked,
            add_generation_prompt => true,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        template.render_captured_to(names, &mut output).map_err(refused)?;
        String::from_utf8(output.bytes).map(Prompt::new).map_err(|error| ChatError::Render(error.to_string()))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").finish_non_exhaustive()
    }
}

/// A renderer set up as templates expect it: as Hugging Face's `apply_chat_template` does.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(TEMPLATE_FUEL_INSTRUCTIONS));
    environment.set_recursion_limit(TEMPLATE_DEPTH_MAX);
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", |why: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, why))
    });
    environment.add_filter("tojson", to_json);
    environment
}

/// JSON as Python writes it for a model: not escaped for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let text = match indent {
        Some(_) => serde_json::to_string_pretty(&value),
        None => serde_json::to_string(&value),
    };
    text.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// Collects what a template writes, up to [`PROMPT_BYTES_MAX`].
struct Limited {
    bytes: Vec<u8>,
}

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > PROMPT_BYTES_MAX {
            return Err(std::io::Error::other("the template wrote too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
