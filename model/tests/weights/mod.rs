//! What the tests of weights share: where the golden files are, a config small enough to write by hand, and files made of it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use acdclip_model::Config;
use acdclip_model::schema::Spec;
use candle_core::{Device, Tensor};

/// The folder of shared data, or `None` with a printed reason.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there (set ACDCLIP_SHARED)",
        path.display()
    );
    None
}

/// The config of a golden case.
pub(crate) fn golden_config(case: &str) -> Option<Config> {
    let path = shared(&format!("golden/{case}/config.json"))?;
    Some(Config::from_json(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// A model of a few hundred numbers, with every part that a model can have.
pub(crate) fn tiny_config() -> Config {
    Config::from_json(
        r#"{"groups": 2, "vision": {"width": 8, "layers": 2, "heads": 2, "patch_size": 2, "image_size": 6},
            "text": {"width": 4, "layers": 2, "heads": 1, "context_length": 5, "vocab_size": 7},
            "mlp_hidden": 6, "gate_hidden": 6, "lora_rank": 2, "conv_lora_rank": 3, "class_name": "rail"}"#,
    )
    .unwrap()
}

/// Numbers that differ from each other and from tensor to tensor, in [-1, 1].
pub(crate) fn numbers(name: &str, n: usize) -> Vec<f32> {
    let seed = name
        .bytes()
        .fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    (0..n as u64)
        .map(|i| {
            let mixed = (seed + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            mixed as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Tensors of those shapes.
pub(crate) fn tensors(specs: &[Spec]) -> HashMap<String, Tensor> {
    specs
        .iter()
        .map(|(name, shape)| {
            let values = numbers(name, shape.iter().product());
            let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap();
            (name.clone(), tensor)
        })
        .collect()
}

/// Writes tensors as a safetensors file.
pub(crate) fn save(tensors: &HashMap<String, Tensor>, path: &Path) {
    safetensors::serialize_to_file(tensors, None, path).unwrap();
}
