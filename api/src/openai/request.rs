//! A chat completion, as OpenAI's clients ask for it. Fields that are not named here are ignored, as they expect.

use super::{sampling::Choice, text_or::TextOr};
use crate::{Problem, completion::Wanted, limits::COMPLETION_TOKENS};
use poem_openapi::Object;
use skep_actors::{Context, pipeline::Turn};

/// A chat completion to make.
#[derive(Debug, Object)]
pub struct NewCompletion {
    /// The model's name; `auto` is the node's default.
    pub model: String,
    /// The conversation so far.
    #[oai(validator(min_items = 1, max_items = 1024))]
    pub messages: Vec<Message>,
    /// Send the answer as it is made, as server-sent events.
    pub stream: Option<bool>,
    /// What a stream shall tell besides.
    pub stream_options: Option<StreamOptions>,
    /// Tokens of the answer at most; 1024 if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "1048576")))]
    pub max_tokens: Option<u32>,
    /// The newer name of `max_tokens`.
    #[oai(validator(minimum(value = "1"), maximum(value = "1048576")))]
    pub max_completion_tokens: Option<u32>,
    /// From 0, always the likeliest word, to 2; 0.7 if absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "2")))]
    pub temperature: Option<f32>,
    /// Only among the likeliest words that together reach it.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    pub top_p: Option<f32>,
    /// Equal seeds give equal answers.
    pub seed: Option<i64>,
    /// Texts that end the answer, at most 8.
    pub stop: Option<TextOr<Vec<String>>>,
    /// How many answers: 1.
    #[oai(validator(minimum(value = "1"), maximum(value = "1")))]
    pub n: Option<u32>,
    /// The thread whose budget this spends, a UUID; the node's own if absent. Not OpenAI's: send it as `extra_body`.
    pub thread_id: Option<String>,
}

/// One turn of a conversation.
#[derive(Debug, Object)]
#[oai(rename = "CompletionMessage")]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text, or its parts.
    pub content: Option<TextOr<Vec<Part>>>,
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(rename = "CompletionPart")]
pub struct Part {
    /// `text`: these models see no pictures and hear no sound.
    #[oai(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: Option<String>,
}

/// What a stream shall tell besides.
#[derive(Debug, Object)]
pub struct StreamOptions {
    /// One more event before the end, with the tokens used.
    pub include_usage: Option<bool>,
}

impl NewCompletion {
    /// Whether a stream ends with the tokens used.
    pub(crate) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    pub(crate) fn wanted(self, context: &Context) -> Result<Wanted, Problem> {
        let turns = self.messages.into_iter().enumerate().map(|(i, message)| turn(i, message));
        let thread = self.thread_id.map(|t| t.parse().map_err(|_| Problem::invalid("thread_id", "must be a UUID")));
        let choice = Choice { temperature: self.temperature, top_p: self.top_p, seed: self.seed };
        Ok(Wanted {
            model: Some(self.model).filter(|model| model != "auto" && !model.is_empty()),
            turns: turns.collect::<Result<_, _>>()?,
            max_tokens: self.max_completion_tokens.or(self.max_tokens).unwrap_or(COMPLETION_TOKENS),
            sampling: choice.sampling(&context.env),
            stop: match self.stop {
                None => Vec::new(),
                Some(TextOr::Text(text)) => vec![text],
                Some(TextOr::Other(texts)) => texts,
            },
            thread: thread.transpose()?,
            agent: "openai",
        })
    }
}

fn turn(i: usize, message: Message) -> Result<Turn, Problem> {
    let text = |part: Part| match (part.kind.as_str(), part.text) {
        ("text", Some(text)) => Ok(text),
        _ => Err(Problem::invalid(format!("messages[{i}].content"), "only parts of type text can be read")),
    };
    let content = match message.content {
        None => String::new(),
        Some(TextOr::Text(text)) => text,
        Some(TextOr::Other(parts)) => parts.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.concat(),
    };
    let role = match message.role.as_str() {
        // OpenAI's newer name for the same role.
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        _ => {
            return Err(Problem::invalid(
                format!("messages[{i}].role"),
                "must be one of system, user, assistant, tool",
            ));
        }
    };
    Ok(Turn { role: role.into(), content })
}
