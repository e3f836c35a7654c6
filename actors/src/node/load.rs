//! How busy this machine is: two cheap readings a second, and whether others should hear of it.

use skep_runtime::Load;
use sysinfo::System;

/// A change of processor time that is told, in thousandths.
const CPU_STEP_PERMILLE: u16 = 50;
/// A change of memory that is told, in thousandths.
const MEMORY_STEP_PERMILLE: u16 = 20;

/// Reads processor and memory; nothing else is kept or refreshed.
pub(super) struct Sampler {
    /// `None` on a system that can't be read.
    system: Option<System>,
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sample {
    pub cpu_permille: u16,
    pub memory_permille: u16,
    pub memory_free_bytes: u64,
}

impl Sampler {
    pub(super) fn new() -> Sampler {
        Sampler { system: System::new().ok() }
    }

    /// What is in use now; of the processor, since the last reading: zeros if the system doesn't tell. Takes some hundred microseconds.
    pub(super) fn read(&mut self) -> Sample {
        let Some(system) = &mut self.system else { return Sample::default() };
        system.refresh_cpu_usage();
        system.refresh_memory();
        let total = system.total_memory().max(1);
        let free = system.available_memory().min(total);
        Sample {
            cpu_permille: (system.global_cpu_usage() * 10.0).clamp(0.0, 1000.0) as u16,
            memory_permille: (u128::from(total - free) * 1000 / u128::from(total)) as u16,
            memory_free_bytes: free,
        }
    }
}

/// Whether the load changed enough to be told.
pub(super) fn differs(told: &Load, now: &Load) -> bool {
    told.cpu_permille.abs_diff(now.cpu_permille) >= CPU_STEP_PERMILLE
        || told.memory_permille.abs_diff(now.memory_permille) >= MEMORY_STEP_PERMILLE
        || (told.running, told.queued, told.draining) != (now.running, now.queued, now.draining)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_within_its_bounds() {
        let mut sampler = Sampler::new();
        sampler.read();
        let sample = sampler.read();
        assert!(sample.cpu_permille <= 1000 && sample.memory_permille <= 1000 && sample.memory_free_bytes > 0);
    }

    #[test]
    fn noise_is_not_told_and_drain_is() {
        let told = Load { cpu_permille: 100, ..Load::default() };
        assert!(!differs(&told, &Load { cpu_permille: 140, ..told }));
        assert!(differs(&told, &Load { cpu_permille: 150, ..told }));
        assert!(differs(&told, &Load { draining: true, ..told }));
    }
}
