//! A machine, as the API shows it: what membership knows of it and what its card tells.

use crate::when::rfc3339;
use poem_openapi::{Enum, Object};
use skep_actors::{
    node::{self, Card, messages::Listed},
    runtime::member::State,
};
use std::collections::BTreeMap;

/// Whether a machine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "NodeStatus", rename_all = "lowercase")]
pub enum Status {
    /// It answers.
    Online,
    /// It does not, or it said goodbye.
    Offline,
}

/// One machine of the swarm.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Node {
    /// Its key: 52 characters.
    pub id: String,
    /// The name that its owner gave it; names may repeat.
    pub name: String,
    /// Whether it answers.
    pub status: Status,
    /// It said goodbye, and comes back by starting again.
    pub left: bool,
    /// It takes no new work.
    pub draining: bool,
    /// `laptop`, `desktop` (a server too: the documented words are these), `pi` or `unknown`.
    pub device_type: String,
    /// `linux`, `macos` or `windows`; empty until its card came.
    pub os: String,
    /// The system's own words about itself.
    pub os_version: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// Skep's version there.
    pub version: String,
    /// Logical cores.
    pub cpus: u16,
    /// The processor's name.
    pub cpu_name: String,
    /// Processor time in use, in hundredths of all cores.
    pub cpu_percent: f64,
    /// Bytes of memory in use.
    pub ram_used: u64,
    /// Bytes of memory.
    pub ram_total: u64,
    /// Bytes in use of the disk that holds the node's folder.
    pub storage_used: u64,
    /// Bytes of that disk.
    pub storage_total: u64,
    /// Where it was last reached, as `address:port`.
    pub addresses: Vec<String>,
    /// When it was last known to be up; absent if never since this node started.
    pub last_seen: Option<String>,
    /// When it was admitted.
    pub joined_at: String,
    /// Seconds since it started, as of its last sign of life.
    pub uptime_seconds: u64,
    /// Commands, agents and shards at work there.
    pub running: u16,
    /// Work that waits there.
    pub queued: u16,
    /// Its graphics processors together.
    pub gpu: Gpu,
    /// Names of the models whose weights lie there.
    pub models: Vec<String>,
    /// Names of the models that are served from there.
    pub serving: Vec<String>,
    /// The strongest fence that it can put around a command: `bubblewrap`, `landlock` or `none`; empty until its card came.
    pub sandbox: String,
    /// Labels for placement.
    pub labels: BTreeMap<String, String>,
}

/// A machine's graphics processors together; the first one names them.
#[derive(Debug, Default, Object)]
pub struct Gpu {
    /// There is one.
    pub available: bool,
    /// The vendor's name for the first.
    pub name: String,
    /// Bytes of their memory.
    pub vram: u64,
    /// Bytes of it that are free.
    pub vram_free: u64,
    /// The first one's driver version.
    pub driver: String,
    /// How the first is driven: `cuda`, `rocm` or `metal`; `cpu` when by none of these. Each device tells more.
    pub backend: String,
    /// `none`: no node makes pictures.
    pub generator: String,
    /// Each of them.
    pub devices: Vec<Device>,
}

/// One graphics processor.
#[derive(Debug, Object)]
pub struct Device {
    /// The vendor's name for it.
    pub name: String,
    /// `nvidia`, `amd`, `intel`, `apple`, or the PCI vendor id.
    pub vendor: String,
    /// How it can be driven.
    pub backend: String,
    /// Bytes of its memory, 0 if the driver doesn't tell.
    pub vram: u64,
    /// Bytes of it in use, 0 if the driver doesn't tell.
    pub vram_used: u64,
    /// Its driver's version.
    pub driver: String,
}

impl From<Listed> for Node {
    fn from(listed: Listed) -> Node {
        let Listed { member, card } = listed;
        let sandbox = card.as_ref().map_or_else(String::new, |card| card.sandbox.to_string());
        let card = card.unwrap_or_default();
        let ram_used = card.memory_bytes / 1000 * u64::from(member.load.memory_permille);
        let started = if card.started_ms == 0 { member.seen_ms } else { card.started_ms };
        Node {
            id: member.id.to_string(),
            name: member.name,
            status: if member.state == State::Up { Status::Online } else { Status::Offline },
            left: member.state == State::Left,
            draining: member.load.draining,
            device_type: match card.device_type.as_str() {
                "server" => "desktop".into(),
                known @ ("laptop" | "desktop" | "phone" | "pi") => known.into(),
                _ => "unknown".into(),
            },
            cpu_percent: f64::from(member.load.cpu_permille) / 10.0,
            ram_used,
            ram_total: card.memory_bytes,
            storage_used: card.disk_bytes.saturating_sub(card.disk_free_bytes),
            storage_total: card.disk_bytes,
            addresses: member.addresses.iter().map(ToString::to_string).collect(),
            last_seen: (member.seen_ms > 0).then(|| rfc3339(member.seen_ms)),
            joined_at: rfc3339(member.joined_ms),
            uptime_seconds: member.seen_ms.saturating_sub(started) / 1000,
            running: member.load.running,
            queued: member.load.queued,
            gpu: Gpu::of(&card),
            models: card.models.into_iter().map(|m| m.name).collect(),
            serving: card.pipelines.into_iter().map(|p| p.model).collect(),
            sandbox,
            labels: card.labels,
            os: card.os,
            os_version: card.os_version,
            arch: card.arch,
            version: card.version,
            cpus: card.cpus,
            cpu_name: card.cpu_name,
        }
    }
}

impl Gpu {
    /// The graphics processors of a card.
    pub fn of(card: &Card) -> Gpu {
        let Some(first) = card.gpus.first() else {
            return Gpu { backend: "cpu".into(), generator: "none".into(), ..Gpu::default() };
        };
        Gpu {
            available: true,
            name: first.name.clone(),
            vram: card.gpus.iter().map(|g| g.memory_bytes).sum(),
            vram_free: card.gpus.iter().map(|g| g.memory_bytes.saturating_sub(g.used_bytes)).sum(),
            driver: first.driver.clone(),
            backend: match first.backend.as_str() {
                known @ ("cuda" | "rocm" | "metal") => known.into(),
                _ => "cpu".into(),
            },
            generator: "none".into(),
            devices: card.gpus.iter().cloned().map(Device::from).collect(),
        }
    }
}

impl From<node::Gpu> for Device {
    fn from(gpu: node::Gpu) -> Device {
        Device {
            name: gpu.name,
            vendor: gpu.vendor,
            backend: gpu.backend,
            vram: gpu.memory_bytes,
            vram_used: gpu.used_bytes,
            driver: gpu.driver,
        }
    }
}
