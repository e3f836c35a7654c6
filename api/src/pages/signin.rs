//! `/api/session` and `/login/:link`: a browser comes in by a link that works once.

use crate::{
    Problem, Reply,
    caller::{By, Caller},
    limits::LINK_TIMEOUT,
    session::Sessions,
    tag::Tag,
};
use poem::http::StatusCode;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json};

/// Endpoints of signing in.
#[derive(Clone)]
pub struct SignIn {
    sessions: Sessions,
}

impl SignIn {
    pub(crate) fn new(sessions: Sessions) -> SignIn {
        SignIn { sessions }
    }
}

#[OpenApi(tag = "Tag::Session")]
impl SignIn {
    /// Make a link for a browser
    ///
    /// It works once, within two minutes. The answer is a secret. Only who has the token makes one: a browser that is
    /// signed in can't sign itself in for longer.
    #[oai(path = "/api/session", method = "post", operation_id = "session_create")]
    async fn create(&self, caller: Caller) -> Reply<Json<Link>> {
        if caller.by != By::Token {
            let text = "only the token makes links for browsers: run `skep open`";
            return Err(Problem::new(StatusCode::FORBIDDEN, "token_needed", text));
        }
        let path = format!("/login/{}", self.sessions.link());
        Ok(Json(Link { path, expires_in_s: LINK_TIMEOUT.as_secs() }))
    }

    /// Sign a browser in
    #[oai(path = "/login/:link", method = "get", operation_id = "session_enter")]
    async fn enter(&self, link: Path<String>) -> Reply<Entered> {
        let spent =
            || Problem::new(StatusCode::GONE, "link_spent", "this link was used or is too old: run `skep open` again");
        let cookie = self.sessions.enter(&link.0).ok_or_else(spent)?;
        Ok(Entered::In("/".into(), cookie))
    }
}

/// A link for a browser.
#[derive(Object)]
#[oai(rename = "SessionLink")]
pub struct Link {
    /// Its path on this server.
    pub path: String,
    /// Seconds within which it works.
    pub expires_in_s: u64,
}

/// The browser is in.
#[derive(ApiResponse)]
pub enum Entered {
    /// Go on to the dashboard, with a cookie
    #[oai(status = 303)]
    In(
        /// Where to
        #[oai(header = "location")]
        String,
        /// What to show from now on
        #[oai(header = "set-cookie")]
        String,
    ),
}
