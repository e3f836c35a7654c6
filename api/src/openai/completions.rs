//! `/v1/chat/completions`: an answer at once, or as it is made.

use super::{
    answer::{Choice, Completion, CompletionChunk, Delta, Event, Piece, Said, Tokens, word},
    request::NewCompletion,
};
use crate::{
    Problem, Reply,
    caller::Caller,
    completion::{self, Running},
    input::Input,
    limits::KEEP_ALIVE,
    tag::Tag,
};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use poem::web::sse;
use poem_openapi::{
    ApiResponse, OpenApi, ResponseContent,
    payload::{EventStream, Json},
    types::ToJSON,
};
use skep_actors::{
    Context,
    pipeline::{Chunk, GenerateError},
};

/// Endpoints of the completions.
#[derive(Clone)]
pub struct Completions(pub Context);

#[OpenApi(prefix_path = "/v1/chat/completions", tag = "Tag::OpenAi")]
impl Completions {
    /// Complete a chat
    #[oai(path = "/", method = "post", operation_id = "completions_create")]
    async fn create(&self, _caller: Caller, body: Input<NewCompletion>) -> Reply<Answer> {
        let (streamed, usage) = (body.0.stream.unwrap_or(false), body.0.include_usage());
        let running = completion::begin(&self.0, body.0.wanted(&self.0)?).await?;
        let frame = Frame::new(&running, self.0.env.now_ms());
        Ok(Answer::Made(if streamed {
            Content::Streamed(frame.events(running.chunks, usage))
        } else {
            Content::Whole(Json(frame.whole(running.chunks).await?))
        }))
    }
}

/// An answer.
#[derive(ApiResponse)]
pub enum Answer {
    /// The answer, whole or as it is made
    #[oai(status = 200)]
    Made(Content),
}

/// Whole, or as it is made.
#[derive(ResponseContent)]
pub enum Content {
    /// Whole.
    Whole(Json<Completion>),
    /// As it is made; the last event is `[DONE]`.
    Streamed(EventStream<BoxStream<'static, Option<Event>>>),
}

/// What every piece of one answer says.
#[derive(Clone)]
struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    fn new(running: &Running, now_ms: u64) -> Frame {
        let id = format!("chatcmpl-{}", running.id.simple());
        Frame { id, created: now_ms / 1000, model: running.model.clone() }
    }

    async fn whole(self, mut chunks: BoxStream<'static, Chunk>) -> Reply<Completion> {
        let mut content = String::new();
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Chunk::Text(text) => content.push_str(&text),
                Chunk::Failed { error, .. } => return Err(error.into()),
                Chunk::End { reason, prompt_tokens, completion_tokens } => {
                    let message = Said { role: "assistant".into(), content };
                    return Ok(Completion {
                        id: self.id,
                        object: "chat.completion".into(),
                        created: self.created,
                        model: self.model,
                        choices: vec![Choice { index: 0, message, finish_reason: word(reason).into() }],
                        usage: Tokens::new(prompt_tokens, completion_tokens),
                    });
                }
            }
        }
        Err(GenerateError::Ended.into())
    }

    fn events(self, chunks: BoxStream<'static, Chunk>, usage: bool) -> EventStream<BoxStream<'static, Option<Event>>> {
        let first = self.piece(Delta { role: Some("assistant".into()), content: Some(String::new()) }, None);
        let pieces = chunks.flat_map(move |chunk| stream::iter(self.told(chunk, usage)));
        // `None` is the mark that ends the stream.
        let all = stream::iter([first]).chain(pieces).map(Some).chain(stream::iter([None]));
        EventStream::new(all.boxed()).keep_alive(KEEP_ALIVE).to_event(|event| match event {
            Some(event) => sse::Event::message(event.to_json_string()),
            None => sse::Event::message("[DONE]"),
        })
    }

    fn told(&self, chunk: Chunk, usage: bool) -> Vec<Event> {
        match chunk {
            Chunk::Text(text) => vec![self.piece(Delta { role: None, content: Some(text) }, None)],
            Chunk::Failed { error, .. } => vec![Event::Failed(Problem::from(error).into())],
            Chunk::End { reason, prompt_tokens, completion_tokens } => {
                let last = self.piece(Delta::default(), Some(word(reason).into()));
                let tokens = Tokens::new(prompt_tokens, completion_tokens);
                let told = usage.then(|| Event::Chunk(self.chunk(Vec::new(), Some(tokens))));
                [last].into_iter().chain(told).collect()
            }
        }
    }

    fn piece(&self, delta: Delta, finish_reason: Option<String>) -> Event {
        Event::Chunk(self.chunk(vec![Piece { index: 0, delta, finish_reason }], None))
    }

    fn chunk(&self, choices: Vec<Piece>, usage: Option<Tokens>) -> CompletionChunk {
        CompletionChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".into(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }
}
