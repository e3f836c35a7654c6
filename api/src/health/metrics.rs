//! `/api/metrics` and `/metrics`: every counter and gauge, as a JSON map and as OpenMetrics text.

use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{
    OpenApi,
    payload::{Json, PlainText, Response},
};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{Handle, defaults::ASK_TIMEOUT},
};
use std::collections::BTreeMap;

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Endpoints of the metrics.
#[derive(Clone)]
pub struct Metrics(pub Context);

#[OpenApi(tag = "Tag::Health")]
impl Metrics {
    /// List every metric
    #[oai(path = "/api/metrics", method = "get", operation_id = "metrics_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<BTreeMap<String, i64>>> {
        Ok(Json(self.node().ask(ASK_TIMEOUT, Message::Metrics).await?))
    }

    /// Show every metric to Prometheus
    #[oai(path = "/metrics", method = "get", operation_id = "metrics_text")]
    async fn text(&self, _caller: Caller) -> Reply<Response<PlainText<String>>> {
        let text = self.node().ask(ASK_TIMEOUT, Message::MetricsText).await?;
        Ok(Response::new(PlainText(text)).header("content-type", OPEN_METRICS))
    }

    fn node(&self) -> Handle<Message> {
        self.0.directory.here(node::NAME)
    }
}
