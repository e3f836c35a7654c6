//! What this machine is: memory, cores, disk, system, and what kind of box, each read once.
//!
//! Not here: graphics processors, whose drivers are asked in a process of their own (`probe`).

use super::messages::Card;
use crate::task::Level;
use std::path::Path;
use sysinfo::{CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, RefreshKind, System};

/// Reads the hardware under a node whose files lie in `home`. Blocks for some milliseconds.
pub(super) fn read(home: &Path) -> Card {
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()).with_cpu(CpuRefreshKind::nothing()),
    );
    let system = system.as_ref().ok();
    let cpus = system.map_or(&[][..], System::cpus);
    let (disk_bytes, disk_free_bytes) = disk(home);
    Card {
        version: env!("CARGO_PKG_VERSION").into(),
        os: std::env::consts::OS.into(),
        os_version: os_version(),
        arch: std::env::consts::ARCH.into(),
        device_type: device_type(&Clues::gather()).into(),
        cpus: u16::try_from(cpus.len()).unwrap_or(u16::MAX),
        cpu_name: cpus.first().map(|cpu| cpu.brand().trim().to_string()).unwrap_or_default(),
        memory_bytes: system.map_or(0, System::total_memory),
        memory_free_bytes: system.map_or(0, System::available_memory),
        disk_bytes,
        disk_free_bytes,
        ..Card::default()
    }
}

/// Bytes of memory. 0 if the system doesn't tell. Blocks for a moment.
pub(crate) fn memory_bytes() -> u64 {
    let only = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(only).as_ref().map_or(0, System::total_memory)
}

/// The machine of every simulated node.
pub(super) fn simulated() -> Card {
    Card {
        version: env!("CARGO_PKG_VERSION").into(),
        os: "linux".into(),
        os_version: "simulated".into(),
        arch: "x86_64".into(),
        device_type: "server".into(),
        cpus: 4,
        cpu_name: "simulated".into(),
        memory_bytes: 8 << 30,
        memory_free_bytes: 6 << 30,
        disk_bytes: 100 << 30,
        disk_free_bytes: 50 << 30,
        sandbox: Level::Landlock,
        ..Card::default()
    }
}

/// Size and free bytes of the disk that holds `home`: the mount point with the longest matching path. Zeros if the
/// system doesn't tell.
pub(super) fn disk(home: &Path) -> (u64, u64) {
    let home = home.canonicalize().unwrap_or_else(|_| home.into());
    let Ok(disks) = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage()) else {
        return (0, 0);
    };
    let holds = disks.iter().filter(|disk| home.starts_with(disk.mount_point()));
    let nearest = holds.max_by_key(|disk| disk.mount_point().as_os_str().len());
    nearest.map_or((0, 0), |disk| (disk.total_space(), disk.available_space()))
}

/// What tells kinds of machines apart.
#[derive(Default)]
struct Clues {
    /// The board's own name, where the firmware gives one.
    model: String,
    /// SMBIOS chassis type (DSP0134, 7.4.1).
    chassis: Option<u8>,
    battery: bool,
}

impl Clues {
    fn gather() -> Clues {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let supplies = std::fs::read_dir("/sys/class/power_supply").into_iter().flatten().flatten();
        Clues {
            model: read("/proc/device-tree/model"),
            chassis: read("/sys/class/dmi/id/chassis_type").trim().parse().ok(),
            battery: supplies.into_iter().any(|s| s.file_name().to_string_lossy().starts_with("BAT")),
        }
    }
}

fn device_type(clues: &Clues) -> &'static str {
    match clues.chassis {
        _ if clues.model.contains("Raspberry Pi") => "pi",
        _ if clues.battery => "laptop",
        Some(8..=11 | 14 | 30..=32) => "laptop",
        Some(3..=7 | 13 | 15 | 16 | 24 | 35 | 36) => "desktop",
        Some(17 | 23 | 25 | 28 | 29) => "server",
        _ => "unknown",
    }
}

fn os_version() -> String {
    System::long_os_version().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_machines_are_told_apart() {
        let kind = |model: &str, chassis, battery| device_type(&Clues { model: model.into(), chassis, battery });
        assert_eq!(kind("Raspberry Pi 5 Model B Rev 1.0\0", None, false), "pi");
        assert_eq!(kind("", Some(10), false), "laptop");
        assert_eq!(kind("", Some(3), true), "laptop");
        assert_eq!(kind("", Some(3), false), "desktop");
        assert_eq!(kind("", Some(23), false), "server");
        assert_eq!(kind("", Some(1), false), "unknown");
    }

    #[test]
    fn this_machine_has_cores_memory_and_a_disk() {
        let card = read(&std::env::temp_dir());
        assert!(card.cpus > 0 && card.memory_bytes > 0 && card.memory_free_bytes <= card.memory_bytes);
        assert!(card.disk_free_bytes <= card.disk_bytes);
    }
}
