//! A file over HTTP, in pieces if it must: what a cut connection left is kept and gone on from.
//!
//! Nothing is believed: a length is checked against the free disk before a byte is written, and bytes beyond it are
//! refused. Going on needs a validator (a strong ETag, or a date) of the file that was begun, kept beside the part.

use super::{
    messages::{ModelError, PullEvent},
    part::Claim,
    shelf::disk,
    source::{is_loopback, is_near},
};
use crate::digest;
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt,
    sync::watch,
    time::{sleep, timeout},
};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a server may be silent.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries in a row that bring nothing new before it is given up.
const TRIES_MAX: u32 = 5;
/// The pause before the second try; it doubles with each further one that brings nothing.
const TRY_PAUSE: Duration = Duration::from_millis(500);
/// Redirections that are followed: a hub needs two.
const REDIRECTS_MAX: usize = 5;
/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 1 << 20;

/// What is to be fetched.
pub(super) struct Download<'a> {
    pub(super) url: Url,
    /// Where it collects.
    pub(super) part: &'a Path,
    /// The disk that it may take.
    pub(super) claim: &'a Claim,
    /// Where progress goes.
    pub(super) progress: &'a watch::Sender<PullEvent>,
}

/// Fetches the whole file to its part.
pub(super) async fn fetch(download: &Download<'_>) -> Result<(), ModelError> {
    let client = client(follow())?;
    let (mut tries, mut last) = (0, String::new());
    while tries < TRIES_MAX {
        if tries > 0 {
            sleep(TRY_PAUSE * 2_u32.pow(tries - 1)).await;
        }
        let begun = length(download.part).await;
        match attempt(&client, download).await {
            Ok(()) => {
                let _ = tokio::fs::remove_file(validator_path(download.part)).await;
                return Ok(());
            }
            Err(Attempt::Failed(error)) => return Err(error),
            Err(Attempt::Cut(reason)) => last = reason,
        }
        tries = if length(download.part).await > begun { 1 } else { tries + 1 };
    }
    Err(ModelError::Fetch(format!("{last}; what came so far is kept: pull again to go on")))
}

/// The SHA-256 that a hub publishes for a file, if it does: Hugging Face's `x-linked-etag` on the file's own
/// address, which a followed redirection would hide. A hub that doesn't answer is no hub that publishes none.
pub(super) async fn published_digest(url: &Url) -> Result<Option<String>, ModelError> {
    let client = client(redirect::Policy::none())?;
    let unknown = |why: String| ModelError::Fetch(format!("{} does not tell the file's checksum: {why}", host(url)));
    let answer = timeout(SILENCE_TIMEOUT, client.head(url.clone()).send()).await;
    let answer = answer.map_err(|_| unknown("it is silent".into()))?.map_err(|e| unknown(reason(&e)))?;
    if answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS {
        return Err(unknown(format!("it answers {}", answer.status())));
    }
    let names = [header::HeaderName::from_static("x-linked-etag"), header::ETAG];
    let tag = names.iter().find_map(|name| text(&answer, name)).unwrap_or_default();
    let tag = tag.trim_matches('"').to_ascii_lowercase();
    Ok(digest::is_sha256(&tag).then_some(tag))
}

/// How one attempt ended.
enum Attempt {
    /// Another one may bring the rest.
    Cut(String),
    /// None would.
    Failed(ModelError),
}

impl From<std::io::Error> for Attempt {
    fn from(error: std::io::Error) -> Attempt {
        Attempt::Failed(disk(&error))
    }
}

async fn attempt(client: &Client, download: &Download<'_>) -> Result<(), Attempt> {
    let Download { url, part, claim, progress } = download;
    let known = tokio::fs::read_to_string(validator_path(part)).await.ok();
    let begun = if known.is_some() { length(part).await } else { 0 };
    let mut request = client.get(url.clone());
    if let Some(validator) = known.filter(|_| begun > 0) {
        request = request.header(header::RANGE, format!("bytes={begun}-")).header(header::IF_RANGE, validator);
    }
    let sent = timeout(SILENCE_TIMEOUT, request.send()).await.map_err(|_| silent(url))?;
    let mut answer = sent.map_err(|e| Attempt::Cut(format!("{}: {}", host(url), reason(&e))))?;
    let from = match answer.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if starts_at(&answer, begun) => begun,
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Attempt::Cut(format!("{} answers {status}", host(url))));
        }
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            let _ = tokio::fs::remove_file(validator_path(part)).await;
            return Err(Attempt::Cut(format!("{} can't go on where it was cut", host(url))));
        }
        status => {
            let hint = match status.as_u16() {
                401 | 403 => ": the file needs a login; download it yourself and give its path",
                404 => ": check the owner, the repository and the file's name",
                _ => "",
            };
            return Err(Attempt::Failed(ModelError::Fetch(format!("{} answers {status}{hint}", host(url)))));
        }
    };
    let total = answer.content_length().map(|rest| from.saturating_add(rest));
    claim.need(total.unwrap_or(0).saturating_sub(from)).map_err(Attempt::Failed)?;
    let mut file = open(part, from, &answer).await?;
    let (mut done, mut reported) = (from, from);
    loop {
        let piece = timeout(SILENCE_TIMEOUT, answer.chunk()).await.map_err(|_| silent(url));
        let piece =
            match piece.and_then(|piece| piece.map_err(|e| Attempt::Cut(format!("{}: {}", host(url), reason(&e))))) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(cut) => {
                    // What came is kept for the next attempt.
                    file.flush().await?;
                    return Err(cut);
                }
            };
        done += piece.len() as u64;
        if total.is_some_and(|total| done > total) {
            return Err(Attempt::Failed(ModelError::Fetch(format!("{} sends more than it said", host(url)))));
        }
        claim.write(piece.len() as u64).map_err(Attempt::Failed)?;
        file.write_all(&piece).await?;
        if done - reported >= REPORT_BYTES {
            reported = done;
            progress.send_replace(PullEvent::Bytes { done, total: total.unwrap_or(0) });
        }
    }
    file.flush().await?;
    progress.send_replace(PullEvent::Bytes { done, total: total.unwrap_or(0) });
    match total {
        Some(total) if done < total => Err(Attempt::Cut(format!("{} sent {done} of {total} bytes", host(url)))),
        _ => Ok(()),
    }
}

/// The part, ready for bytes from `from`, with what identifies the file beside it.
async fn open(part: &Path, from: u64, answer: &Response) -> std::io::Result<File> {
    if from == 0 {
        let strong = text(answer, &header::ETAG).filter(|tag| !tag.starts_with("W/"));
        match strong.or_else(|| text(answer, &header::LAST_MODIFIED)) {
            Some(validator) => tokio::fs::write(validator_path(part), validator).await?,
            None => drop(tokio::fs::remove_file(validator_path(part)).await),
        }
    }
    OpenOptions::new().create(true).write(true).truncate(from == 0).append(from > 0).open(part).await
}

/// A client with the process's crypto provider, or the same one as the links between nodes.
fn client(redirects: redirect::Policy) -> Result<Client, ModelError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Someone else may have been quicker: then there is one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirects).user_agent("skep");
    client.build().map_err(|e| ModelError::Fetch(format!("this machine's TLS is not usable: {}", reason(&e))))
}

/// Follows within https, and within this machine, but never from one down to the other, nor from outside to what only
/// this machine reaches.
fn follow() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error("too many redirections");
        }
        let local = attempt.previous().iter().all(is_loopback) && is_loopback(attempt.url());
        let outside = attempt.previous().iter().any(|url| !is_near(url));
        if outside && is_near(attempt.url()) {
            attempt.error("a redirection from outside to a machine nearby")
        } else if attempt.url().scheme() == "https" || local {
            attempt.follow()
        } else {
            attempt.error("a redirection to an open connection")
        }
    })
}

fn starts_at(answer: &Response, begun: u64) -> bool {
    let range = text(answer, &header::CONTENT_RANGE);
    begun > 0 && range.is_some_and(|range| range.starts_with(&format!("bytes {begun}-")))
}

fn text(answer: &Response, name: &header::HeaderName) -> Option<String> {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}

fn silent(url: &Url) -> Attempt {
    Attempt::Cut(format!("{} was silent for {} s", host(url), SILENCE_TIMEOUT.as_secs()))
}

/// The innermost cause: the outer ones repeat the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn validator_path(part: &Path) -> PathBuf {
    part.with_extension("part-of")
}

async fn length(part: &Path) -> u64 {
    tokio::fs::metadata(part).await.map_or(0, |data| data.len())
}
