//! `acdclip average`: the mean of what runs that began alike have learnt.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use common::run;

/// Adapters with one matrix and the text features of one class, [1, 2, 2].
fn adapters(path: &Path, matrix: [f32; 4], features: [f32; 4]) {
    let matrix = Tensor::new(&matrix, &Device::Cpu).unwrap();
    let features = Tensor::new(&features, &Device::Cpu).unwrap();
    let tensors: HashMap<_, _> = [
        (
            "image_adapter.m",
            matrix.reshape((2, 2)).unwrap().to_dtype(DType::F16),
        ),
        ("text_bank.rail", features.reshape((1, 2, 2))),
    ]
    .into_iter()
    .map(|(name, tensor)| (name.to_owned(), tensor.unwrap()))
    .collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[test]
fn parameters_are_averaged_and_text_features_stay_unit_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Columns of the features are the states: (1, 0) and (0, 1), then (0, 1) and (0, 1).
    adapters(&path("a"), [1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 1.0]);
    adapters(&path("b"), [3.0, 2.0, -3.0, 0.5], [0.0, 0.0, 1.0, 1.0]);
    let files = ["a", "b", "mean"].map(|name| path(name).display().to_string());
    let ran = run(["average", &files[0], &files[1], "-o", &files[2]]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mean = candle_core::safetensors::load(path("mean"), &Device::Cpu).unwrap();
    let matrix = &mean["image_adapter.m"];
    assert_eq!(matrix.dtype(), DType::F16);
    let matrix = matrix.to_dtype(DType::F32).unwrap();
    let matrix = matrix.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(matrix, [2.0, 2.0, 0.0, 2.25]);
    let features = mean["text_bank.rail"].flatten_all().unwrap();
    let half = 0.5_f32.sqrt();
    let wanted = [half, 0.0, half, 1.0];
    for (found, wanted) in features.to_vec1::<f32>().unwrap().iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-6, "{features}");
    }
}

#[test]
fn what_does_not_belong_together_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    adapters(Path::new(&path("a")), [0.0; 4], [1.0; 4]);
    let other = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let tensors: HashMap<_, _> = [
        ("image_adapter.m".to_owned(), other),
        (
            "text_bank.rail".to_owned(),
            Tensor::zeros((1, 2, 2), DType::F32, &Device::Cpu).unwrap(),
        ),
    ]
    .into();
    candle_core::safetensors::save(&tensors, path("b")).unwrap();
    std::fs::write(path("c"), b"no tensors").unwrap();
    for (other, wanted) in [("b", "image_adapter.m"), ("c", "wanted"), ("d", "d")] {
        let ran = run(["average", &path("a"), &path(other), "-o", &path("mean")]);
        assert!(ran.complaint().contains(wanted), "{ran:?}");
        assert!(!Path::new(&path("mean")).exists());
    }
    let alone = run(["average", &path("a"), "-o", &path("mean")]);
    assert_eq!(alone.code, Some(2), "{alone:?}");
}
