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
        if self.knows(&request) {
            request.set_data(Caller);
        } else if !is_open(request.uri().path()) {
            let text = "this needs the node's token (`skep token`) as `authorization: Bearer ...`";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "invalid_api_key", text));
        }
        Ok(request)
    }

    fn knows(&self, request: &Request) -> bool {
        let bearer = request.header(header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        match bearer {
            Some((scheme, token)) => scheme.eq_ignore_ascii_case("bearer") && self.token.is(token.trim()),
            // A cookie speaks for our own pages only: to browsers, other ports of this machine are the same site.
            None => {
                let ours = request.header("sec-fetch-site").is_none_or(|from| ["same-origin", "none"].contains(&from));
                ours && request.header(header::COOKIE).is_some_and(|cookies| self.sessions.holds(cookies))
            }
        }
    }
}

/// Whether a path needs no token.
pub(crate) fn is_open(path: &str) -> bool {
    OPEN.contains(&path) || OPEN_BELOW.iter().any(|prefix| path.starts_with(prefix))
}
