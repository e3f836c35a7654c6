//! `/api/audit`: the audit logs of the swarm, and whether they are whole.

use super::entry::AuditEntry;
use crate::{
    Reply,
    caller::Caller,
    limits::{GATHER_TIMEOUT, ROWS, ROWS_MAX, VERIFY_TIMEOUT},
    tag::Tag,
};
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};
use skep_actors::{
    Context,
    audit::{self, Message, Verified},
    runtime::{Handle, Wire},
};

/// Endpoints of the logs.
#[derive(Clone)]
pub struct Log(pub Context);

#[OpenApi(prefix_path = "/api/audit", tag = "Tag::Approvals")]
impl Log {
    /// List what was done
    ///
    /// The newest entries of all machines that answer, the newest first.
    #[oai(path = "/", method = "get", operation_id = "audit_list")]
    async fn list(
        &self,
        _caller: Caller,
        /// How many entries, at most 1000
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> Reply<Json<AuditList>> {
        let rows = limit.0.unwrap_or(ROWS).min(ROWS_MAX);
        let entries = self.audit().ask(GATHER_TIMEOUT, |port| Message::List(Wire(rows), port)).await?;
        Ok(Json(AuditList { entries: entries.into_iter().map(AuditEntry::from).collect() }))
    }

    /// Check whether the logs are whole
    ///
    /// Each machine checks its own, and is compared with what this one has seen of it. One that is away is listed, and not
    /// looked at.
    #[oai(path = "/verify", method = "post", operation_id = "audit_verify")]
    async fn verify(&self, _caller: Caller) -> Reply<Json<AuditCheck>> {
        let logs = self.audit().ask(VERIFY_TIMEOUT, Message::VerifyAll).await?;
        let logs: Vec<CheckedLog> = logs.into_iter().map(CheckedLog::from).collect();
        Ok(Json(AuditCheck { whole: logs.iter().all(|log| log.whole == Some(true)), logs }))
    }

    fn audit(&self) -> Handle<Message> {
        self.0.directory.here(audit::NAME)
    }
}

/// Entries of the audit logs.
#[derive(Debug, Object)]
pub struct AuditList {
    /// Each of them.
    pub entries: Vec<AuditEntry>,
}

/// Whether the audit logs are whole.
#[derive(Debug, Object)]
pub struct AuditCheck {
    /// All machines of the swarm were looked at, and all of their logs are.
    pub whole: bool,
    /// Each log.
    pub logs: Vec<CheckedLog>,
}

/// An audit log that was checked.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CheckedLog {
    /// The key of its machine.
    pub node_id: String,
    /// The machine's name.
    pub name: String,
    /// Whether it is whole; absent if it was not looked at.
    pub whole: Option<bool>,
    /// Another machine that answers has seen an entry of it. Without one nobody could tell if all of it was written anew.
    pub anchored: bool,
    /// How many entries were checked.
    pub entries: Option<u64>,
    /// Its last good entry.
    pub seq: Option<u64>,
    /// That one's hash, which covers all entries before it.
    pub hash: Option<String>,
    /// The first thing that is wrong, or why it was not looked at.
    pub fault: Option<String>,
}

impl From<Verified> for CheckedLog {
    fn from(verified: Verified) -> CheckedLog {
        let log = CheckedLog {
            node_id: verified.node.to_string(),
            name: verified.name,
            whole: None,
            anchored: verified.anchored,
            entries: None,
            seq: None,
            hash: None,
            fault: None,
        };
        match verified.report {
            Err(why) => CheckedLog { fault: Some(format!("not looked at: {why}")), ..log },
            Ok(report) => CheckedLog {
                whole: Some(report.fault.is_none()),
                entries: Some(report.entries),
                seq: Some(report.head.seq),
                hash: Some(report.head.hash.to_string()),
                fault: report.fault.map(|fault| fault.to_string()),
                ..log
            },
        }
    }
}
