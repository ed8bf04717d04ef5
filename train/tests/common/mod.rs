//! What the tests of the command line share: the binary, scratch folders, golden files.

#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use acdclip_model::schema::Spec;
use candle_core::{Device, Tensor};

/// A network so small that nothing which is done with it takes time.
pub(crate) const TINY: &str = r#"{"groups": 2, "lora_rank": 4, "conv_lora_rank": 2, "mlp_hidden": 16, "gate_hidden": 8,
    "vision": {"width": 16, "layers": 4, "heads": 2, "patch_size": 7, "image_size": 28},
    "text": {"width": 8, "layers": 2, "heads": 2}}"#;

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its JSON lines.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Its one line of complaint; fails the test if it has succeeded or was wordier.
    pub(crate) fn complaint(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:?}");
        let line = self.err.strip_suffix('\n').unwrap();
        assert!(
            line.starts_with("acdclip: error: ") && !line.contains('\n'),
            "{self:?}"
        );
        line
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The command, not yet run.
pub(crate) fn acdclip() -> Command {
    Command::new(env!("CARGO_BIN_EXE_acdclip"))
}

/// Runs the command.
pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(arguments: I) -> Ran {
    acdclip().args(arguments).output().unwrap().into()
}

/// The most memory that a process has had so far, where the system says.
pub(crate) fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// `path` in the directory of test data, which a checkout alone does not have. Where it is absent, says so.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let path = std::env::var_os("ACDCLIP_SHARED")
        .map_or_else(beside, PathBuf::from)
        .join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there (set ACDCLIP_SHARED)",
        path.display()
    );
    None
}

/// Writes a safetensors file of tensors whose numbers look random, the same for the same name.
pub(crate) fn save_tensors(path: &Path, specs: Vec<Spec>) {
    let tensors: HashMap<String, Tensor> = specs
        .into_iter()
        .map(|(name, shape)| {
            let values = numbers(&name, shape.iter().product());
            let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            (name, tensor)
        })
        .collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn numbers(name: &str, count: usize) -> Vec<f32> {
    let mut state = name
        .bytes()
        .fold(99u64, |h, b| h.wrapping_mul(131).wrapping_add(b.into()));
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| 0.4 * next()).collect()
}

/// A 16-bit grey PNG's width and samples.
pub(crate) fn grey16(path: &Path) -> (u32, Vec<u16>) {
    let read = image::open(path).unwrap();
    let read = read.as_luma16().unwrap();
    (read.width(), read.as_raw().clone())
}
