//! `skep chat`: talks to a model through the OpenAI-compatible API, as any client would.

use super::{Here, screen};
use crate::client::Client;
use clap::Args;
use futures::StreamExt;
use serde_json::{Value, json};
use std::{
    io::{BufRead, IsTerminal, Write},
    time::Instant,
};

#[derive(Args)]
pub(crate) struct Chat {
    /// What to say; without it, a conversation on the terminal, or one prompt from standard input.
    prompt: Vec<String>,
    /// The model; the default one if absent.
    #[arg(long, short)]
    model: Option<String>,
    /// The most tokens of an answer.
    #[arg(long, default_value_t = 512)]
    max_tokens: u32,
    /// 0 is always the likeliest word; higher is freer.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Told to the model before everything else.
    #[arg(long)]
    system: Option<String>,
}

impl Chat {
    pub(crate) async fn run(self, here: &Here) -> anyhow::Result<()> {
        let client = here.client()?;
        let mut turns: Vec<Value> = self.system.iter().map(|s| json!({ "role": "system", "content": s })).collect();
        let stdin = std::io::stdin();
        if !self.prompt.is_empty() || !stdin.is_terminal() {
            let prompt = if self.prompt.is_empty() { std::io::read_to_string(stdin)? } else { self.prompt.join(" ") };
            turns.push(json!({ "role": "user", "content": prompt }));
            self.turn(here, &client, &turns).await?;
            return Ok(());
        }
        screen::note!("An empty line or Ctrl-D ends the conversation.");
        loop {
            screen::note!("");
            eprint_prompt();
            let mut line = String::new();
            if stdin.lock().read_line(&mut line)? == 0 || line.trim().is_empty() {
                return Ok(());
            }
            turns.push(json!({ "role": "user", "content": line.trim() }));
            let answer = self.turn(here, &client, &turns).await?;
            turns.push(json!({ "role": "assistant", "content": answer }));
        }
    }

    async fn turn(&self, here: &Here, client: &Client, turns: &[Value]) -> anyhow::Result<String> {
        let body = json!({
            "model": self.model.as_deref().unwrap_or("auto"),
            "messages": turns,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": !here.json,
            "stream_options": { "include_usage": true },
        });
        let loading = screen::waiting("the model answers as soon as it is loaded");
        if here.json {
            let answer = client.complete("/v1/chat/completions", &without_stream(body)).await?;
            loading.finish_and_clear();
            screen::json(&answer);
            return Ok(answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().into());
        }
        let answer = stream(client, &body, |text| {
            loading.finish_and_clear();
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(screen::plain(text).as_bytes()).and_then(|()| out.flush());
        })
        .await;
        loading.finish_and_clear();
        let answer = answer?;
        screen::say!("");
        if std::io::stderr().is_terminal() {
            use owo_colors::OwoColorize;
            let figures = format!("{} tokens, {:.1} tokens/s", answer.tokens, answer.tokens_per_second);
            screen::note!("{}", figures.dimmed());
        }
        Ok(answer.text)
    }
}

/// An answer and its figures.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: u64,
    /// From the first token to the last: what a reader sees.
    pub(crate) tokens_per_second: f64,
}

/// Streams one completion, giving each piece of text to `show`.
pub(crate) async fn stream(client: &Client, body: &Value, show: impl Fn(&str)) -> anyhow::Result<Answer> {
    let mut events = client.watch_post("/v1/chat/completions", body).await?;
    let mut answer = Answer { text: String::new(), tokens: 0, tokens_per_second: 0.0 };
    let mut first = None;
    while let Some(event) = events.next().await {
        let data = event?.data;
        if let Some(why) = data["error"]["message"].as_str().or(data["detail"].as_str()) {
            anyhow::bail!("{}", screen::plain(why));
        }
        if let Some(text) = data["choices"][0]["delta"]["content"].as_str().filter(|t| !t.is_empty()) {
            first.get_or_insert_with(now);
            show(text);
            answer.text.push_str(text);
        }
        if let Some(tokens) = data["usage"]["completion_tokens"].as_u64() {
            answer.tokens = tokens;
        }
    }
    if let Some(first) = first {
        answer.tokens_per_second = answer.tokens.saturating_sub(1) as f64 / first.elapsed().as_secs_f64().max(1e-9);
    }
    Ok(answer)
}

#[expect(clippy::disallowed_methods, reason = "a figure for the person at the terminal; nothing is simulated here")]
fn now() -> Instant {
    Instant::now()
}

fn without_stream(mut body: Value) -> Value {
    body.as_object_mut().expect("it was made as an object").remove("stream_options");
    body
}

#[expect(clippy::print_stderr, reason = "a prompt without a line's end")]
fn eprint_prompt() {
    eprint!("> ");
    let _ = std::io::stderr().flush();
}
