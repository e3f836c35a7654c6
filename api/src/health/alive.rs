//! `/health`: whether this node answers, for whoever asks: no token, and nothing told that needs one.

use crate::{Problem, Reply, tag::Tag, when::rfc3339};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{Context, node, runtime::defaults::ASK_TIMEOUT};

/// Endpoints of the sign of life.
#[derive(Clone)]
pub struct Alive(pub Context);

#[OpenApi(tag = "Tag::Health")]
impl Alive {
    /// Say whether this node answers
    #[oai(path = "/health", method = "get", operation_id = "health_alive")]
    async fn get(&self) -> Reply<Json<Life>> {
        let node = self.0.directory.here::<node::Message>(node::NAME);
        let dead = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unhealthy", "this node does not work");
        node.ask(ASK_TIMEOUT, node::Message::Summary).await.map_err(dead)?;
        Ok(Json(Life {
            status: "healthy".into(),
            ok: true,
            version: env!("CARGO_PKG_VERSION").into(),
            timestamp: rfc3339(self.0.env.now_ms()),
        }))
    }
}

/// A sign of life.
#[derive(Debug, Object)]
pub struct Life {
    /// `healthy`.
    pub status: String,
    /// True.
    pub ok: bool,
    /// Skep's version: no secret, the documentation tells it too.
    pub version: String,
    /// When it answered.
    pub timestamp: String,
}
