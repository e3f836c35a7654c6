//! `/api/health`: the checks of this node.

use crate::{Reply, caller::Caller, limits::HEALTH_TIMEOUT, tag::Tag, when::rfc3339};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    node::{self, Message},
    runtime::{defaults::ASK_TIMEOUT, swarm::Finding},
};
use std::collections::BTreeMap;

/// Endpoints of the health.
#[derive(Clone)]
pub struct Health(pub Context);

#[OpenApi(prefix_path = "/api/health", tag = "Tag::Health")]
impl Health {
    /// Check this node
    #[oai(path = "/", method = "get", operation_id = "health_get")]
    async fn get(&self, _caller: Caller) -> Reply<Checked> {
        let node = self.0.directory.here::<Message>(node::NAME);
        let health = node.ask(HEALTH_TIMEOUT, Message::Health).await?;
        let status = node.ask(ASK_TIMEOUT, Message::Status).await?;
        Ok(Checked::new(Report::new(health, status, self.0.env.now_ms())))
    }
}

/// What the checks found.
#[derive(ApiResponse)]
pub enum Checked {
    /// It works, maybe not as well as it could
    #[oai(status = 200)]
    Well(Json<Report>),
    /// It does not work
    #[oai(status = 503)]
    Unwell(Json<Report>),
}

impl Checked {
    fn new(report: Report) -> Checked {
        if report.status == Verdict::Unhealthy { Checked::Unwell(Json(report)) } else { Checked::Well(Json(report)) }
    }
}

/// How well a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "HealthStatus", rename_all = "lowercase")]
pub enum Verdict {
    /// All checks passed.
    Healthy,
    /// It works, but something wants looking after.
    Degraded,
    /// It can't do its work.
    Unhealthy,
}

/// The checks of a node.
#[derive(Debug, Object)]
#[oai(rename = "HealthReport")]
pub struct Report {
    /// How well it is.
    pub status: Verdict,
    /// It works.
    pub ok: bool,
    /// Skep's version.
    pub version: String,
    /// The node's name.
    pub agent: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// When it was checked.
    pub timestamp: String,
    /// Names of the models whose weights lie here.
    pub models: Vec<String>,
    /// Each check by its name.
    pub checks: BTreeMap<String, Check>,
}

/// One check.
#[derive(Debug, Object)]
#[oai(rename = "HealthCheck", skip_serializing_if_is_none)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How well it is.
    pub status: Verdict,
    /// What was found.
    pub message: String,
    /// Milliseconds that it took.
    pub duration_ms: u64,
    /// The same, if it is not well.
    pub error: Option<String>,
    /// When it was looked at.
    pub last_check: String,
}

impl Report {
    fn new(health: node::Health, node: node::Status, now_ms: u64) -> Report {
        let now = rfc3339(now_ms);
        let status = Verdict::from(health.verdict);
        let checks = health.checks.into_iter();
        Report {
            status,
            ok: status != Verdict::Unhealthy,
            version: node.card.version,
            agent: node.name,
            uptime_seconds: node.uptime_ms / 1000,
            models: node.card.models.into_iter().map(|m| m.name).collect(),
            checks: checks.map(|(f, took_ms)| (f.check.clone(), Check::new(f, took_ms, &now))).collect(),
            timestamp: now,
        }
    }
}

impl From<node::Verdict> for Verdict {
    fn from(verdict: node::Verdict) -> Verdict {
        match verdict {
            node::Verdict::Healthy => Verdict::Healthy,
            node::Verdict::Degraded => Verdict::Degraded,
            node::Verdict::Unhealthy => Verdict::Unhealthy,
        }
    }
}

impl Check {
    fn new(finding: Finding, duration_ms: u64, now: &str) -> Check {
        Check {
            name: finding.check,
            status: if finding.ok { Verdict::Healthy } else { Verdict::Unhealthy },
            message: finding.detail.clone(),
            duration_ms,
            error: (!finding.ok).then_some(finding.detail),
            last_check: now.into(),
        }
    }
}
