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

/// Documented names, beside those of the metrics that say it.
const DOCUMENTED: [(&str, &str); 5] = [
    ("fabric_tasks_submitted_total", "tasks_submitted"),
    ("fabric_tasks_completed_total", "tasks_completed"),
    ("fabric_tasks_failed_total", "tasks_failed"),
    ("fabric_tasks_running", "tasks_running"),
    ("fabric_uptime_seconds", "node_uptime_seconds"),
];

/// Endpoints of the metrics.
#[derive(Clone)]
pub struct Metrics(pub Context);

#[OpenApi(tag = "Tag::Health")]
impl Metrics {
    /// List every metric
    ///
    /// Each under its name, some under their documented ones as well.
    #[oai(path = "/api/metrics", method = "get", operation_id = "metrics_list")]
    async fn list(&self, _caller: Caller) -> Reply<Json<BTreeMap<String, i64>>> {
        let mut metrics = self.node().ask(ASK_TIMEOUT, Message::Metrics).await?;
        for (documented, ours) in DOCUMENTED {
            // What was never counted is none.
            metrics.insert(documented.into(), metrics.get(ours).copied().unwrap_or_default());
        }
        Ok(Json(metrics))
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
