//! Who may come in: every request passes here before any route is looked at, so that a new endpoint is closed
//! unless it is named below.

use crate::{Config, Problem, Token, caller::Caller, origin::Hosts, session::Sessions};
use poem::{
    Request,
    http::{StatusCode, header},
};

/// What needs no token, because it tells nothing that a stranger may not know: whether somebody is here, the
/// documentation, pages without data, and two pages whose last segment is the caller's own secret.
const OPEN: [&str; 6] = ["/", "/health", "/openapi.json", "/docs", "/docs/", "/docs/oauth-receiver.html"];
const OPEN_BELOW: [&str; 3] = ["/join/", "/login/", "/ui/"];

/// What a secret would be called in a URL, where logs, histories and other sites' `Referer` keep it.
const SECRETS: [&str; 7] = ["token", "access_token", "auth_token", "api_key", "apikey", "bearer", "authorization"];
/// The other header that the documented APIs send the token in.
const API_KEY: &str = "x-api-key";
/// The one path that takes a ticket.
const SOCKET: &str = "/ws";
/// A ticket's name there.
const TICKET: &str = "ticket";

/// The guard of one server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Guard {
    hosts: Hosts,
    token: Token,
    sessions: Sessions,
}

impl Guard {
    pub(crate) fn new(config: &Config, sessions: Sessions) -> Guard {
        Guard { hosts: Hosts::new(config.bind.ip(), &config.allowed_hosts), token: config.token.clone(), sessions }
    }

    /// The request, marked with its [`Caller`] if it has shown who it is; or why it may not pass.
    pub(crate) fn admit(&self, mut request: Request) -> Result<Request, Problem> {
        // HTTP/2 puts the host into the target, HTTP/1.1 into a header.
        let host = request.header(header::HOST).or_else(|| request.uri().authority().map(|a| a.as_str()));
        self.hosts.check(host, request.header(header::ORIGIN))?;
        let asked = query(&request);
        if let Some((name, _)) = asked.iter().find(|(name, _)| SECRETS.contains(&name.to_ascii_lowercase().as_str())) {
            return Err(secret_in_url(name));
        }
        let ticket = asked.iter().find(|(name, _)| name == TICKET && request.uri().path() == SOCKET);
        let redeemed = || self.sessions.redeem(&ticket?.1, request.header(header::COOKIE));
        let caller = self.caller(&request).or_else(redeemed);
        if let Some(caller) = caller {
            request.set_data(caller);
        } else if !is_open(request.uri().path()) {
            let text = "this needs the node's token (`skep token`) as `authorization: Bearer ...`";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", text));
        }
        Ok(request)
    }

    /// Who asks, if a header shows it.
    fn caller(&self, request: &Request) -> Option<Caller> {
        let bearer = request.header(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        match bearer {
            Some((scheme, token)) => {
                (scheme.eq_ignore_ascii_case("bearer") && self.token.is(token.trim())).then_some(Caller::OWNER)
            }
            // Documented beside the bearer.
            None if request.headers().contains_key(API_KEY) => {
                request.header(API_KEY).filter(|token| self.token.is(token.trim())).map(|_| Caller::OWNER)
            }
            None => {
                // A cookie speaks for our own pages only: to browsers, other ports of this machine are the same site.
                let ours = request.header("sec-fetch-site").is_none_or(|from| ["same-origin", "none"].contains(&from));
                // A socket's answers are not kept from a page by its browser, so that the page must have said that it is ours.
                let told = request.header(header::ORIGIN).is_some() || !request.headers().contains_key(header::UPGRADE);
                let cookies = request.header(header::COOKIE).filter(|_| ours && told);
                cookies.and_then(|cookies| self.sessions.caller(cookies))
            }
        }
    }
}

/// What stands behind the `?`.
fn query(request: &Request) -> Vec<(String, String)> {
    // Whatever stands there is a list of pairs; a piece that is none has no value.
    request.params().unwrap_or_default()
}

fn secret_in_url(name: &str) -> Problem {
    let text = format!(
        "`{name}` has no place in a URL, which logs and histories keep: send the token as `authorization: Bearer ...`, \
         and take this one as known to whoever reads those"
    );
    Problem::new(StatusCode::BAD_REQUEST, "secret_in_url", text)
}

/// Whether a path needs no token.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || OPEN_BELOW.iter().any(|prefix| path.starts_with(prefix))
}
