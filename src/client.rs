//! The command line's way to a node: its documented HTTP API, found by `node.json` and its token.
//!
//! Nothing here that another client couldn't do: what the command line shows, every client can have.

use crate::home::{Home, Note};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// How long an ordinary request may take: the node asks its peers with deadlines of its own.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an answer of a model may take: it may be fetched and loaded first (the API waits 300 s for that), and then
/// it writes on a slow machine.
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long a file may take: the largest, over a slow network, and a copy of it to another machine.
const FILE_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
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

    /// PUT, as JSON.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// POST of what a model has to answer, as JSON.
    pub(crate) async fn complete(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.json_within(COMPLETION_TIMEOUT, self.request(Method::POST, path).json(body)).await
    }

    /// DELETE, as JSON.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Error> {
        self.json(self.request(Method::DELETE, path)).await
    }

    /// POST of so many bytes as they come, answered in JSON.
    pub(crate) async fn upload(
        &self,
        path: &str,
        pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
        length: u64,
    ) -> Result<Value, Error> {
        let request = self.request(Method::POST, path).header("content-type", "application/octet-stream");
        let request = request.header("content-length", length).body(reqwest::Body::wrap_stream(pieces));
        self.json_within(FILE_TIMEOUT, request).await
    }

    /// GET of bytes, as they come.
    pub(crate) async fn download(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Unpin + use<>, Error> {
        let at = self.note.api.clone();
        let response = self.send(self.request(Method::GET, path).timeout(FILE_TIMEOUT)).await?;
        Ok(Box::pin(response.bytes_stream().map_err(move |e| Error::Silent(at.clone(), e.to_string()))))
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
        self.json_within(REQUEST_TIMEOUT, request).await
    }

    async fn json_within(&self, time: Duration, request: RequestBuilder) -> Result<Value, Error> {
        let response = self.send(request.timeout(time)).await?;
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

/// A node for tests that knows its answers by heart.
#[cfg(test)]
pub(crate) mod canned {
    use super::*;
    use crate::runtime::{Env, Tasks};
    use tempfile::TempDir;
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{TcpListener, TcpStream},
    };

    /// It answers until it is dropped.
    pub(crate) struct Node {
        pub(crate) client: Client,
        _folder: TempDir,
        _tasks: Tasks,
    }

    /// A node that answers each path, whatever the method, with its text: events if it looks like them, else JSON;
    /// an empty one is no content. Other paths are not found.
    pub(crate) async fn node(answers: &[(&str, &str)]) -> Node {
        crate::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let (home, tasks) = (Home::at(folder.path()), Tasks::default());
        home.token(&Env::machine()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let note = Note {
            node_id: crate::runtime::NodeId::from_bytes([1; 32]),
            name: "canned".into(),
            pid: std::process::id(),
            api: listener.local_addr().unwrap().to_string(),
            quic: String::new(),
            token_path: home.token_path(),
            guests: None,
        };
        home.announce(&note).unwrap();
        let answers: Vec<(String, String)> = answers.iter().map(|(p, a)| (p.to_string(), a.to_string())).collect();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that went away is no failure of the node.
                let _ = answer(stream, &answers).await;
            }
        });
        Node { client: Client::of(&home).unwrap(), _folder: folder, _tasks: tasks }
    }

    async fn answer(stream: TcpStream, answers: &[(String, String)]) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        stream.read_line(&mut head).await?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(told) = line.to_lowercase().strip_prefix("content-length:") {
                length = told.trim().parse().unwrap();
            }
        }
        stream.read_exact(&mut vec![0; length]).await?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let (status, text) = match answers.iter().find(|(known, _)| known == path) {
            Some((_, text)) if text.is_empty() => ("204 No Content", ""),
            Some((_, text)) => ("200 OK", text.as_str()),
            None => ("404 Not Found", "{}"),
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
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
