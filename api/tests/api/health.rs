//! Health and numbers over HTTP.

use crate::stage::{Stage, answer, json};
use serde_json::json;
use skep_actors::{
    Context,
    node::{self, Card, Message, Status},
    runtime::{Load, swarm::Finding},
};

async fn stage(well: [bool; 2]) -> Stage {
    let stage = Stage::new().await;
    let context: Context = stage.context().clone();
    let finding = |check: &str, ok| Finding { check: check.into(), ok, detail: format!("{check} was looked at") };
    let findings = vec![finding("disk", well[0]), finding("memory", well[1])];
    let script = move |message| match message {
        Message::Health(port) => answer(port, findings.clone()),
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
    for (well, status, word) in
        [([true, true], 200, "healthy"), ([true, false], 200, "degraded"), ([false, false], 503, "unhealthy")]
    {
        let (got, report) = json(stage(well).await.get("/api/health").send().await).await;
        assert_eq!((got, &report["status"], &report["ok"]), (status, &json!(word), &json!(status == 200)));
        assert_eq!((&report["uptime_seconds"], &report["agent"]), (&json!(61), &json!("box")));
        assert_eq!(report["checks"]["disk"]["message"], "disk was looked at");
    }
}

#[tokio::test]
async fn numbers_come_as_a_map_and_as_open_metrics() {
    let stage = stage([true, true]).await;
    let (_, map) = json(stage.get("/api/metrics").send().await).await;
    assert_eq!(map, json!({"tasks_submitted": 3}));
    let text = stage.get("/metrics").send().await;
    text.assert_header("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8");
    text.assert_text("# EOF\n").await;
}
