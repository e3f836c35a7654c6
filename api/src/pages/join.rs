//! `/join/:token`: a page for the other machine, with the commands that let it in.
//!
//! It needs no token of ours: it shows what stands in its own address, and whoever has that, has the invite. Short
//! codes have no page: whoever could ask here whether one works could guess.

use crate::{Problem, Reply, limits::INVITE_CHARS_MAX, tag::Tag};
use poem::http::StatusCode;
use poem_openapi::{
    OpenApi,
    param::Path,
    payload::{Html, Response},
};
use skep_actors::{
    Context, node,
    runtime::{Wire, defaults::ASK_TIMEOUT},
};

/// Endpoints of the page.
#[derive(Clone)]
pub struct Join(pub Context);

#[OpenApi(prefix_path = "/join", tag = "Tag::Onboarding")]
impl Join {
    /// Show how to join
    #[oai(path = "/:token", method = "get", operation_id = "join_page")]
    async fn page(&self, token: Path<String>) -> Reply<Response<Html<String>>> {
        // An invite is printable and of one piece: anything else is not ours, and must not reach a shell.
        let plain = |c: char| c.is_ascii_alphanumeric() || ".:@_-+=~[],".contains(c);
        if token.0.is_empty() || token.0.len() > INVITE_CHARS_MAX || !token.0.chars().all(plain) {
            return Err(Problem::not_found("this is not an invite: copy the whole address that `skep invite` printed"));
        }
        let node = self.0.directory.here::<node::Message>(node::NAME);
        let line = token.0.clone();
        if !node.ask(ASK_TIMEOUT, |port| node::Message::Opens(Wire(line), port)).await? {
            let text = "this invite is expired or was used already: ask for a new one with `skep invite`";
            return Err(Problem::new(StatusCode::GONE, "invite_spent", text));
        }
        // The page's address is a secret: no page that is opened from here may see it.
        let page = Response::new(Html(PAGE.replace("{invite}", &token.0)));
        Ok(page.header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"))
    }
}

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Join a swarm</title>
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
  pre { background: #8882; padding: 1rem; border-radius: .5rem; white-space: pre-wrap; word-break: break-all; }
  :root { color-scheme: light dark; }
</style>
<h1>Join a swarm</h1>
<p>Run this on the machine that shall join. The invite works once, within ten minutes.</p>
<pre>skep join {invite}</pre>
<p>If Skep is not running there yet, start it first:</p>
<pre>skep up</pre>
<p>The machine knows whom it talks to before it says anything; nothing on this page needs to be kept.</p>
</html>
"#;
