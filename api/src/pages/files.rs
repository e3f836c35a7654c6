//! The dashboard's files, inside the binary.

use crate::Problem;
use poem::{Endpoint, IntoResponse, Request, Response, endpoint::make_sync, http::header};

#[derive(rust_embed::RustEmbed)]
#[folder = "src/ui"]
struct Ui;

/// Scripts and styles of our own, data from here, nothing from anywhere else.
pub(crate) const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// One file's text.
pub(crate) fn text(name: &str) -> Option<String> {
    let file = Ui::get(name)?;
    String::from_utf8(file.data.into_owned()).ok()
}

/// `/ui/:name`: what the page loads.
pub(crate) fn file() -> impl Endpoint<Output = Response> {
    make_sync(|request: Request| {
        let name = request.raw_path_param("name").unwrap_or_default();
        let kind = match name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        };
        match text(name) {
            Some(text) => {
                Response::builder().content_type(kind).header(header::CONTENT_SECURITY_POLICY, POLICY).body(text)
            }
            None => Problem::not_found("the dashboard has no such file").into_response(),
        }
    })
}
