//! The one shape of every error: RFC 9457, `application/problem+json`, with the fields that clients of the
//! documented APIs read (`detail` there, `error` elsewhere: the same text).
//!
//! Which error of an actor is which status: `refusal`. OpenAI's envelope: `openai::envelope`.

use poem::{
    IntoResponse, Response,
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    error::{ContentTypeError, ParseParamError, ParsePathError},
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{ToJSON, Type},
};
use std::fmt;

/// A failure on its way out.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    field: Option<String>,
}

/// A failure, as the caller sees it (RFC 9457).
#[derive(Debug, Object)]
#[oai(rename = "Problem", skip_serializing_if_is_none)]
pub struct Body {
    /// Always `about:blank`: the status and `code` say what kind it is.
    #[oai(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for people.
    pub detail: String,
    /// The same text, under the name that other clients read.
    pub error: String,
    /// One word for programs.
    pub code: String,
    /// The field of the request that is at fault, if it is one.
    pub field: Option<String>,
}

impl Problem {
    /// A failure with this status, a word for programs, and a text for people.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, code, detail: detail.into(), field: None }
    }

    /// The request can't be understood.
    pub fn bad(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    /// One field of the request is at fault.
    pub fn invalid(field: impl Into<String>, reason: impl fmt::Display) -> Problem {
        let field = field.into();
        let detail = format!("{field}: {reason}");
        Problem { field: Some(field), ..Problem::new(StatusCode::BAD_REQUEST, "invalid_field", detail) }
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The same problem, said to be that of a part of the request.
    pub fn of(self, part: &str) -> Problem {
        Problem { detail: format!("{part}: {}", self.detail), ..self }
    }

    /// The same problem, said to lie in `field`.
    pub fn in_field(self, field: impl Into<String>) -> Problem {
        Problem { field: Some(field.into()), ..self }
    }

    /// The same problem, with an actor's name of a field replaced by the request's. What lies below the field stays
    /// below it.
    pub fn renamed(self, actors: &str, requests: &str) -> Problem {
        let Some(old) = self.field.clone() else { return self };
        // `str`'s own method by its name: poem-openapi's `Type` has an `is_empty` for `&str`, which is in front of it.
        let is_whole = |rest: &str| str::is_empty(rest) || rest.starts_with(['.', '[']);
        let Some(below) = old.strip_prefix(actors).filter(|rest| is_whole(rest)) else { return self };
        let field = format!("{requests}{below}");
        let said = self.detail.strip_prefix(old.as_str()).filter(|said| said.starts_with(": "));
        let detail = said.map_or_else(|| self.detail.clone(), |said| format!("{field}{said}"));
        Problem { field: Some(field), detail, ..self }
    }

    /// The same problem, which lies within `outer`.
    pub fn below(self, outer: &str) -> Problem {
        match self.field.clone() {
            None => self.in_field(outer),
            Some(field) => self.renamed(&field, &format!("{outer}.{field}")),
        }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its word for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// Its text for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The field at fault.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What the caller sees.
    pub fn body(&self) -> Body {
        Body {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            error: self.detail.clone(),
            code: self.code.into(),
            field: self.field.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        self.clone().into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.body().to_json_string();
        let mut response = Response::builder().status(self.status).content_type("application/problem+json").body(body);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        // The problem itself travels along, so that a route with another error shape can say it in its own words.
        response.set_data(self);
        response
    }
}

impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let one = |status: Option<u16>, range: Option<&str>, description| MetaResponse {
            description,
            status,
            status_range: range.map(Into::into),
            content: vec![MetaMediaType { content_type: "application/problem+json", schema: Body::schema_ref() }],
            headers: vec![],
        };
        let responses = vec![
            one(Some(401), None, "No token, or not this node's"),
            one(None, Some("4XX"), "The request is at fault"),
            one(None, Some("5XX"), "This node or the swarm is at fault"),
        ];
        MetaResponses { responses }
    }

    fn register(registry: &mut Registry) {
        Body::register(registry);
    }
}

/// What poem refuses by itself, in our shape.
pub(crate) fn from_poem(error: poem::Error) -> Response {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.clone().into_response();
    }
    if error.is_from_response() {
        return error.into_response();
    }
    let status = error.status();
    let problem = if let Some(e) = error.downcast_ref::<ParseParamError>() {
        Problem::invalid(e.name, &e.reason)
    } else if let Some(e) = error.downcast_ref::<ParsePathError>() {
        Problem::bad(format!("the path: {}", e.reason))
    } else if error.is::<NotFoundError>() {
        Problem::not_found("there is no such path: /docs lists them all")
    } else if error.is::<MethodNotAllowedError>() {
        Problem::new(status, "method_not_allowed", "this path has no such method: /docs lists them all")
    } else if error.is::<ContentTypeError>() {
        Problem::new(status, "unsupported_media_type", "send the body as content-type: application/json")
    } else {
        Problem::new(status, if status.is_server_error() { "internal" } else { "bad_request" }, error.to_string())
    };
    problem.into_response()
}

/// What a panic in a handler becomes: its message is in the log, not in the answer.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a bug of ours: the node's log says more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_names_carry_the_same_text_and_the_field_is_named() {
        let response = Problem::invalid("goal", "must not be empty").into_response();
        assert_eq!(response.content_type(), Some("application/problem+json"));
        let body: serde_json::Value = response.into_body().into_json().await.unwrap();
        assert_eq!(body["detail"], "goal: must not be empty");
        assert_eq!(body["error"], body["detail"]);
        assert_eq!((&body["field"], &body["status"]), (&"goal".into(), &400.into()));
        assert_eq!((&body["type"], &body["title"]), (&"about:blank".into(), &"Bad Request".into()));
    }

    #[test]
    fn a_field_is_told_by_the_requests_name_with_all_that_lies_below() {
        let check = |field: &str, expected: &str| {
            let problem = Problem::invalid(field, "is odd").renamed("turns", "messages");
            assert_eq!((problem.field(), problem.detail()), (Some(expected), format!("{expected}: is odd").as_str()));
        };
        check("turns", "messages");
        check("turns[2].role", "messages[2].role");
        check("turnstile", "turnstile");
    }

    #[test]
    fn a_401_says_how_to_come_in() {
        let response = Problem::new(StatusCode::UNAUTHORIZED, "no_token", "no").into_response();
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    }
}
