//! `/api/status`: the swarm in a few numbers.

use super::node::Gpu;
use crate::{Reply, caller::Caller, tag::Tag};
use poem_openapi::{Object, OpenApi, payload::Json};
use skep_actors::{
    Context,
    node::{self, messages::Listed},
    runtime::defaults::ASK_TIMEOUT,
};

/// Endpoints of the summary.
#[derive(Clone)]
pub struct Summary(pub Context);

#[OpenApi(prefix_path = "/api/status", tag = "Tag::Cluster")]
impl Summary {
    /// Sum up the swarm
    #[oai(path = "/", method = "get", operation_id = "status_get")]
    async fn get(&self, _caller: Caller) -> Reply<Json<ClusterStatus>> {
        let node = self.0.directory.here::<node::Message>(node::NAME);
        let summary = node.ask(ASK_TIMEOUT, node::Message::Summary).await?;
        let listed = node.ask(ASK_TIMEOUT, node::Message::List).await?;
        Ok(Json(ClusterStatus::new(summary, &listed)))
    }
}

/// The swarm in a few numbers; sums are over the machines that answer.
#[derive(Debug, Object)]
pub struct ClusterStatus {
    /// Machines on the roster.
    pub node_count: u32,
    /// Machines that answer.
    pub online_count: u32,
    /// Machines that don't.
    pub offline_count: u32,
    /// Logical cores.
    pub total_cpus: u32,
    /// Bytes of memory.
    pub total_ram: u64,
    /// Bytes of it in use.
    pub used_ram: u64,
    /// Bytes of disk.
    pub total_storage: u64,
    /// Bytes of it in use.
    pub used_storage: u64,
    /// Bytes of graphics memory.
    pub total_vram: u64,
    /// Bytes of it that are free.
    pub free_vram: u64,
    /// Machines with a graphics processor.
    pub gpu_node_count: u32,
}

impl ClusterStatus {
    fn new(summary: node::Summary, listed: &[Listed]) -> ClusterStatus {
        let up = listed.iter().filter(|l| l.member.state == skep_actors::runtime::member::State::Up);
        let gpus: Vec<Gpu> = up.filter_map(|l| l.card.as_ref()).map(Gpu::of).collect();
        ClusterStatus {
            node_count: summary.nodes,
            online_count: summary.online,
            offline_count: summary.nodes.saturating_sub(summary.online),
            total_cpus: summary.cpus,
            total_ram: summary.memory_bytes,
            used_ram: summary.memory_used_bytes,
            total_storage: summary.disk_bytes,
            used_storage: summary.disk_used_bytes,
            total_vram: gpus.iter().map(|g| g.vram).sum(),
            free_vram: gpus.iter().map(|g| g.vram_free).sum(),
            gpu_node_count: gpus.iter().filter(|g| g.available).count() as u32,
        }
    }
}
