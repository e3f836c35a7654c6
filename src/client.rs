//! The command line's way to a node: its documented HTTP API, found by `node.json` and its token.
//!
//! Nothing here that another client couldn't do: what the command line shows, every client can have.

use crate::home::{Home, Note};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// How long an ordinary request may take: the node asks its peers with deadlines of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the connection to a node on this machine may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one event of a stream: more is not ours.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// A node's API, seen from outside.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// What the node says about itself.
    pub(crate) note: Note,
    token: String,
}

/// Why a request failed; what a person is told and what the program exits with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No node runs there.
    #[error(transparent)]
    Home(#[from] crate::home::Error),
    /// The node did not answer.
    #[error("the node at {0} doesn't answer: {1}")]
    Silent(String, String),
    /// The node refused, with its own words.
    #[error("{detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's detail.
        detail: String,
    },
    /// The answer is not what the API documents.
    #[error("the node's answer is not understood: {0}. Is it of another version?")]
    Strange(String),
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// The event's name; `message` if it has none.
    pub(crate) name: String,
    /// Its data: JSON, or the text itself if it isn't.
    pub(crate) data: Value,
}

impl Client {
    /// The node that runs in `home`.
    pub(crate) fn of(home: &Home) -> Result<Client, Error> {
        let note = home.note()?;
        let token = home.read_token()?;
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).build();
        let http = http.map_err(|e| Error::Strange(e.to_string()))?;
        Ok(Client { http, note, token })
    }

    /// `http://HOST:PORT` of the API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.note.api)
    }

    /// GET, as JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Error> {
        self.json(self.request(Method::GET, path)).await
    }

    /// POST, as JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// DELETE, as JSON.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.json(self.request(Method::DELETE, path)).await
    }

    /// The events of a stream that a GET opens.
    pub(crate) async fn watch(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Event, Error>> + Unpin + use<>, Error> {
        self.events(self.request(Method::GET, path)).await
    }

    /// The events of a stream that a POST opens.
    pub(crate) async fn watch_post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<impl Stream<Item = Result<Event, Error>> + Unpin + use<>, Error> {
        self.events(self.request(Method::POST, path).json(body)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url())).bearer_auth(&self.token)
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, Error> {
        let response = self.send(request.timeout(REQUEST_TIMEOUT)).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        response.json().await.map_err(|e| Error::Strange(e.to_string()))
    }

    async fn events(
        &self,
        request: RequestBuilder,
    ) -> Result<impl Stream<Item = Result<Event, Error>> + Unpin + use<>, Error> {
        let request = request.header("accept", "text/event-stream");
        let at = self.note.api.clone();
        let bytes = self.send(request).await?.bytes_stream().map_err(move |e| Error::Silent(at.clone(), e.to_string()));
        let state = (Box::pin(bytes), Lines::default());
        Ok(Box::pin(stream::try_unfold(state, |(mut bytes, mut lines)| async move {
            loop {
                if let Some(event) = lines.next()? {
                    return Ok(Some((event, (bytes, lines))));
                }
                match bytes.next().await {
                    Some(chunk) => lines.buffer.extend_from_slice(&chunk?),
                    None => return Ok(None),
                }
            }
        })))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let silent = |e: reqwest::Error| Error::Silent(self.note.api.clone(), e.without_url().to_string());
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body: Value = response.json().await.unwrap_or_default();
        let detail = body["detail"].as_str().or(body["error"]["message"].as_str()).unwrap_or("no reason was given");
        Err(Error::Refused { status: status.as_u16(), detail: detail.into() })
    }
}

/// The parser of `text/event-stream` (WHATWG HTML, section 9.2), as far as a node sends it.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") else {
                if self.buffer.len() > EVENT_BYTES_MAX {
                    return Err(Error::Strange("an event without an end".into()));
                }
                return Ok(None);
            };
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let (mut name, mut data) = (String::from("message"), Vec::new());
            for line in block.lines() {
                match line.split_once(':') {
                    Some(("event", value)) => name = value.trim_start().into(),
                    Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value).to_string()),
                    _ => {} // comments keep the connection alive; ids and retries are not used
                }
            }
            if data.is_empty() {
                continue;
            }
            let data = data.join("\n");
            let data = serde_json::from_str(&data).unwrap_or(Value::String(data));
            return Ok(Some(Event { name, data }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = b": hello\n\nevent: a\ndata: {\"x\":1}\n\ndata: [DONE]\n\n";
        for cut in 0..text.len() {
            let mut lines = Lines::default();
            let mut events = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.buffer.extend_from_slice(part);
                while let Some(event) = lines.next().unwrap() {
                    events.push(event);
                }
            }
            assert_eq!(events.len(), 2);
            assert_eq!((events[0].name.as_str(), &events[0].data["x"]), ("a", &Value::from(1)));
            assert_eq!(events[1].data, Value::from("[DONE]"));
        }
    }
}
