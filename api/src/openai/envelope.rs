//! OpenAI's shape of an error, with our fields beside it: `{"error": {message, type, param, code}, "detail": ...}`.
//!
//! OpenAI's clients read the object, everybody else's the problem; only `error` can't be both.

use crate::Problem;
use poem::{Response, http::StatusCode};
use poem_openapi::types::ToJSON;
use serde_json::{Value, json};

/// Whether this path answers in OpenAI's shapes.
pub(crate) fn speaks(path: &str) -> bool {
    path.starts_with("/v1/")
}

/// The same response, in OpenAI's shape if it is a problem.
pub(crate) fn wrap(mut response: Response) -> Response {
    if let Some(problem) = response.data::<Problem>().cloned() {
        let mut body = problem.body().to_json().unwrap_or_default();
        body["error"] = error(&problem);
        response.set_body(body.to_string());
    }
    response
}

/// OpenAI's object.
pub(crate) fn error(problem: &Problem) -> Value {
    let kind = match problem.status() {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::PAYMENT_REQUIRED => "insufficient_quota",
        StatusCode::NOT_FOUND => "not_found_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    json!({"message": problem.detail(), "type": kind, "param": problem.field(), "code": problem.code()})
}
