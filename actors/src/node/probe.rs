//! Which graphics processors this machine has: asked of the drivers in a short-lived child process.
//!
//! Drivers are large, and some crash or hang; the node itself never loads one. The child is this same program with a
//! hidden subcommand; its answer is bounded and parsed, never trusted. No NVML, no Vulkan and no answer at all are
//! normal. A software renderer is no graphics processor.

use super::messages::Gpu;
use futures::FutureExt;
use nvml_wrapper::Nvml;
use std::{io::Write, path::Path, process::Stdio, time::Duration};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// The subcommand: `skep probe-gpus`. Nobody types it.
pub const SUBCOMMAND: &str = "probe-gpus";
/// How long the child may take: loading a driver takes seconds on a cold disk.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Set for the child: a program that doesn't know the subcommand and starts a node instead must not start another one.
const PROBE: &str = "SKEP_PROBE";
/// Bytes of the child's answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Processors of one machine.
const GPUS_MAX: usize = 64;
/// Characters of a text that a driver gives.
const TEXT_CHARS_MAX: usize = 128;
/// PCI vendor id of NVIDIA.
const NVIDIA: u32 = 0x10de;

/// Why it isn't known which graphics processors there are. To be shown, not to be fatal.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The child could not be started.
    #[error("the probe could not be started: {0}")]
    Start(std::io::Error),
    /// A driver hung.
    #[error("the drivers gave no answer within {} s: is one of them broken?", .0.as_secs())]
    Timeout(Duration),
    /// A driver crashed.
    #[error("a driver crashed while it was asked ({0}): update or remove it")]
    Crashed(String),
    /// The answer is too long or no answer.
    #[error("the probe's answer is not readable: {0}")]
    Unreadable(String),
}

/// Asks the drivers and writes the answer to standard output, as JSON. The child's side: call it before anything else
/// is set up, then exit.
///
/// # Errors
/// Standard output is closed.
pub fn print() -> std::io::Result<()> {
    let mut gpus = nvidia();
    let by_nvml = !gpus.is_empty();
    gpus.extend(adapters().into_iter().filter(|(vendor, _)| !(by_nvml && *vendor == NVIDIA)).map(|(_, gpu)| gpu));
    gpus.truncate(GPUS_MAX);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &gpus)?;
    out.flush()
}

/// Asks in a child process of `exe`, for at most `deadline`.
///
/// # Errors
/// No answer, or none that can be read. Then it isn't known what there is.
pub async fn run(exe: &Path, deadline: Duration) -> Result<Vec<Gpu>, ProbeError> {
    if std::env::var_os(PROBE).is_some() {
        return Err(ProbeError::Unreadable(format!(
            "this program does not know the subcommand {SUBCOMMAND}: leave `Context::exe` out"
        )));
    }
    let mut child = Command::new(exe)
        .arg(SUBCOMMAND)
        .env(PROBE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(ProbeError::Start)?;
    let output = child.stdout.take().expect("it was asked for just now");
    let exchange = async {
        let mut answer = Vec::new();
        output
            .take(ANSWER_BYTES_MAX + 1)
            .read_to_end(&mut answer)
            .await
            .map_err(|e| ProbeError::Unreadable(e.to_string()))?;
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(ProbeError::Unreadable(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
        let status = child.wait().await.map_err(ProbeError::Start)?;
        if !status.success() {
            return Err(ProbeError::Crashed(status.to_string()));
        }
        parse(&answer)
    };
    timeout(deadline, exchange).await.unwrap_or(Err(ProbeError::Timeout(deadline)))
}

fn parse(answer: &[u8]) -> Result<Vec<Gpu>, ProbeError> {
    let mut gpus: Vec<Gpu> = serde_json::from_slice(answer).map_err(|e| ProbeError::Unreadable(e.to_string()))?;
    gpus.truncate(GPUS_MAX);
    for gpu in &mut gpus {
        for text in [&mut gpu.name, &mut gpu.vendor, &mut gpu.backend, &mut gpu.driver] {
            *text = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
        }
    }
    Ok(gpus)
}

fn nvidia() -> Vec<Gpu> {
    let Ok(nvml) = Nvml::init() else { return Vec::new() };
    let driver = nvml.sys_driver_version().unwrap_or_default();
    let devices = (0..nvml.device_count().unwrap_or(0)).filter_map(|i| nvml.device_by_index(i).ok());
    let gpu = |device: nvml_wrapper::Device<'_>| {
        let memory = device.memory_info().ok();
        Gpu {
            name: device.name().unwrap_or_else(|_| "NVIDIA".into()),
            vendor: "nvidia".into(),
            backend: "cuda".into(),
            memory_bytes: memory.as_ref().map_or(0, |m| m.total),
            used_bytes: memory.as_ref().map_or(0, |m| m.used),
            driver: driver.clone(),
        }
    };
    devices.map(gpu).collect()
}

fn adapters() -> Vec<(u32, Gpu)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    // Native back ends answer at once; one that doesn't has nothing for us.
    let adapters = instance.enumerate_adapters(wgpu::Backends::all()).now_or_never().unwrap_or_default();
    let infos = adapters.iter().map(wgpu::Adapter::get_info).filter(|info| info.device_type != wgpu::DeviceType::Cpu);
    infos.map(|info| (info.vendor, gpu(&info))).collect()
}

fn gpu(info: &wgpu::AdapterInfo) -> Gpu {
    let (memory_bytes, used_bytes) = memory(&info.device_pci_bus_id);
    Gpu {
        name: info.name.clone(),
        vendor: vendor(info.vendor),
        backend: format!("{:?}", info.backend).to_lowercase(),
        memory_bytes,
        used_bytes,
        driver: format!("{} {}", info.driver, info.driver_info).trim().into(),
    }
}

/// What the kernel tells of a card's memory (amdgpu); zeros from other drivers.
fn memory(pci: &str) -> (u64, u64) {
    let read = |file| {
        let path = format!("/sys/bus/pci/devices/{pci}/{file}");
        std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    if pci.is_empty() { (0, 0) } else { (read("mem_info_vram_total"), read("mem_info_vram_used")) }
}

fn vendor(id: u32) -> String {
    match id {
        NVIDIA => "nvidia".into(),
        0x1002 => "amd".into(),
        0x8086 => "intel".into(),
        0x106b => "apple".into(),
        other => format!("{other:#06x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that answers as told.
    fn child(script: &str) -> tempfile::TempPath {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "#!/bin/sh\n{script}\n").unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
        file.into_temp_path()
    }

    #[tokio::test]
    async fn an_answer_is_parsed_and_cut() {
        let exe = child(
            r#"printf '[{"name":"A\\u001b[31mB","vendor":"amd","backend":"vulkan","memory_bytes":7,"used_bytes":0,"driver":""}]'"#,
        );
        let gpus = run(&exe, TIMEOUT).await.unwrap();
        assert_eq!((gpus.len(), gpus[0].name.as_str(), gpus[0].memory_bytes), (1, "A[31mB", 7));
    }

    #[tokio::test]
    async fn a_driver_that_hangs_crashes_or_babbles_is_an_error_and_no_more() {
        let short = Duration::from_millis(300);
        assert!(matches!(run(&child("exec sleep 60"), short).await, Err(ProbeError::Timeout(_))));
        assert!(matches!(run(&child("kill -SEGV $$"), TIMEOUT).await, Err(ProbeError::Crashed(_))));
        assert!(matches!(run(&child("yes"), TIMEOUT).await, Err(ProbeError::Unreadable(_))));
        assert!(matches!(run(&child("echo hello"), TIMEOUT).await, Err(ProbeError::Unreadable(_))));
        assert!(matches!(run(Path::new("/nowhere"), TIMEOUT).await, Err(ProbeError::Start(_))));
    }

    proptest! {
        #[test]
        fn whatever_a_child_says_is_read_or_refused(answer: Vec<u8>) {
            let _ = parse(&answer);
        }
    }
}
