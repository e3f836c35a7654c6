//! Health and numbers over HTTP.

use crate::stage::{HOST, Stage, answer, json};
use serde_json::json;
use skep_actors::{
    Context,
    node::{self, Card, Message, Status, Summary, Verdict},
    runtime::{Load, swarm::Finding},
};

async fn stage(verdict: Verdict) -> Stage {
    let stage = Stage::new().await;
    let context: Context = stage.context().clone();
    let finding = |check: &str, ok| Finding { check: check.into(), ok, detail: format!("{check} was looked at") };
    let checks = vec![(finding("disk", true), 0), (finding("memory", verdict == Verdict::Healthy), 7)];
    let health = node::Health { verdict, checks };
    let script = move |message| match message {
        Message::Summary(port) => answer(port, Summary::default()),
        Message::Health(port) => answer(port, health.clone()),
        Message::Status(port) => {
            let status = Status {
                id: context.directory.id(),
                name: "box".into(),
                card: Card { version: "1.2".into(), ..Card::default() },
                load: Load::default(),
                uptime_ms: 61_000,
                resident_bytes: 1,
                addresses: vec![],
            };
            answer(port, status);
        }
        Message::Metrics(port) => answer(port, [("tasks_submitted".to_owned(), 3)].into()),
        Message::MetricsText(port) => answer(port, "# EOF\n".to_owned()),
        _ => {}
    };
    stage.play(node::NAME, script).await;
    stage
}

#[tokio::test]
async fn a_node_is_healthy_degraded_or_unhealthy() {
    for (verdict, status, word) in [
        (Verdict::Healthy, 200, "healthy"),
        (Verdict::Degraded, 200, "degraded"),
        (Verdict::Unhealthy, 503, "unhealthy"),
    ] {
        let (got, report) = json(stage(verdict).await.get("/api/health").send().await).await;
        assert_eq!((got, &report["status"], &report["ok"]), (status, &json!(word), &json!(status == 200)));
        assert_eq!((&report["uptime_seconds"], &report["agent"]), (&json!(61), &json!("box")));
        assert_eq!(report["checks"]["disk"]["message"], "disk was looked at");
        assert_eq!(report["checks"]["memory"]["duration_ms"], 7);
    }
}

#[tokio::test]
async fn a_sign_of_life_has_its_documented_fields() {
    let (status, life) =
        json(stage(Verdict::Healthy).await.bare().get("/health").header("host", HOST).send().await).await;
    assert_eq!((status, &life["status"]), (200, &json!("healthy")));
    assert!(life["version"].is_string() && life["timestamp"].is_string(), "{life}");
}

#[tokio::test]
async fn numbers_come_as_a_map_and_as_open_metrics() {
    let stage = stage(Verdict::Healthy).await;
    let (_, map) = json(stage.get("/api/metrics").send().await).await;
    assert_eq!((&map["tasks_submitted"], &map["fabric_tasks_submitted_total"]), (&json!(3), &json!(3)));
    assert_eq!(map["fabric_tasks_failed_total"], 0);
    let text = stage.get("/metrics").send().await;
    text.assert_header("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8");
    text.assert_text("# EOF\n").await;
}
