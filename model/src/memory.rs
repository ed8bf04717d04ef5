//! How much of a device's memory is in use.

use candle_core::Device;

/// Memory of a device, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use: of a GPU by all programs on it, of the CPU's by this process alone.
    pub used: u64,
    /// What there is.
    pub total: u64,
}

/// The memory of `device`; none where it cannot be told.
pub(crate) fn of(device: &Device) -> Option<Memory> {
    match device {
        Device::Cpu => of_process(),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => of_cuda(device),
        _ => None,
    }
}

#[cfg(feature = "cuda")]
fn of_cuda(device: &candle_core::CudaDevice) -> Option<Memory> {
    let stream = device.cuda_stream();
    let (free, total) = stream.context().mem_get_info().ok()?;
    Some(Memory {
        used: total.saturating_sub(free) as u64,
        total: total as u64,
    })
}

/// What this process holds resident, and the machine has, as proc(5) tells; none where there is no such thing.
pub fn of_process() -> Option<Memory> {
    let line = |file: &str, key: &str| kilobytes(&std::fs::read_to_string(file).ok()?, key);
    Some(Memory {
        used: line("/proc/self/status", "VmRSS:")? << 10,
        total: line("/proc/meminfo", "MemTotal:")? << 10,
    })
}

/// The number in the line `key   number kB`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_taken_is_seen() {
        let before = of(&Device::Cpu).unwrap();
        let taken = vec![1u8; 64 << 20];
        let after = of(&Device::Cpu).unwrap();
        assert!(
            after.used > before.used + (32 << 20),
            "{before:?} {after:?}"
        );
        assert!(after.used < after.total);
        assert_eq!(taken[taken.len() - 1], 1);
    }

    #[test]
    fn a_line_of_another_shape_is_not_a_number() {
        let text = "VmPeak:\t    10 kB\nVmRSS:\t   7344 kB\n";
        assert_eq!(kilobytes(text, "VmRSS:"), Some(7344));
        assert_eq!(kilobytes(text, "VmSwap:"), None);
        assert_eq!(kilobytes("VmRSS: many kB", "VmRSS:"), None);
    }
}
