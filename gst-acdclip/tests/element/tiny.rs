//! A model so small that it costs nothing, for tests of what goes on around it.

#![allow(clippy::unwrap_used)]

use acdclip_model::{
    Config,
    bundle::{BundleWriter, Provenance, StoragePolicy},
    schema,
    text_bank::TextBank,
};
use candle_core::{Device, Tensor};

/// A model of a few hundred numbers with a text tower, and its classes: `rail`, which can be scored, and `broken`, which overflows.
pub(crate) struct Tiny(tempfile::TempDir);

impl Tiny {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::from_json(
            r#"{"groups": 2, "vision": {"width": 8, "layers": 2, "heads": 2, "patch_size": 2, "image_size": 6},
                "text": {"width": 4, "layers": 2, "heads": 1, "context_length": 77, "vocab_size": 49408},
                "mlp_hidden": 6, "gate_hidden": 6, "lora_rank": 2, "conv_lora_rank": 3, "class_name": "rail"}"#,
        )
        .unwrap();
        let numbers = |seed: usize, n: usize| -> Vec<f32> {
            (0..n).map(|i| ((i + seed) as f32 * 1.7).sin()).collect()
        };
        let mut bank = TextBank::default();
        // Finite, but no sum of them is.
        let overflow = vec![f32::MAX; 16];
        for (class, features) in [("rail", numbers(5, 16)), ("broken", overflow)] {
            let features = Tensor::from_vec(features, (2, 4, 2), &Device::Cpu).unwrap();
            bank.insert(class, features);
        }
        let mut writer =
            BundleWriter::new(config.clone(), Provenance::default(), StoragePolicy::F32);
        for (seed, (name, shape)) in schema::schema(&config).into_iter().enumerate() {
            let len = shape.iter().product();
            writer = writer.tensor(name, shape, move || Ok(numbers(seed, len)));
        }
        let tiny = Self(folder);
        writer.text_bank(&bank).write(tiny.path().as_ref()).unwrap();
        tiny
    }

    pub(crate) fn path(&self) -> String {
        let path = self.0.path().join("tiny.safetensors");
        path.to_str().unwrap().to_owned()
    }
}
