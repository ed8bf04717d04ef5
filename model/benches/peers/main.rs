//! The worker that `peers.py` measures: this project's network, weights and pictures read from a folder, no pipeline around it.
//!
//! `peers FOLDER SIDE BATCH PRECISION DEVICE` answers each line with a count by a line of JSON: the passes' times, the last one's maps and
//! scores. Pictures lie on the device, and a pass ends when maps and scores have come from it.
//! `peers --precisions DEVICE` says what there is on this machine, `peers --peak DEVICE` how fast candle multiplies large matrices on it.
#![allow(clippy::unwrap_used)]

use std::{io::BufRead, path::Path, time::Instant};

use acdclip_model::{
    Config, DeviceSpec,
    net::{AcdClip, Answer},
    precision::Packing,
};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--precisions", device, ..] => {
            println!("{}", serde_json::json!(precisions(&open(device))))
        }
        ["--peak", device, ..] => println!("{}", peaks(&open(device)).unwrap()),
        [folder, side, batch, precision, device, ..] => {
            let device = open(device);
            let worker = Worker::load(folder.as_ref(), precision, &device);
            let shape = (batch.parse().unwrap(), 3, side.parse().unwrap());
            worker.serve(&pixels(folder.as_ref(), shape).to_device(&device).unwrap());
        }
        // What `cargo bench` calls it with; it measures nothing by itself.
        _ => eprintln!(
            "peers: wanted FOLDER SIDE BATCH PRECISION DEVICE, --precisions DEVICE or --peak DEVICE; `make bench-peers` calls it"
        ),
    }
}

fn open(device: &str) -> Device {
    let opened = device.parse().and_then(DeviceSpec::open);
    opened.unwrap_or_else(|e| {
        eprintln!("error: {e}");
        std::process::exit(1)
    })
}

/// What the tower's numbers may be on a GPU.
const ON_GPU: [(&str, DType); 2] = [("f32", DType::F32), ("bf16", DType::BF16)];

fn precisions(device: &Device) -> Vec<String> {
    match device.is_cpu() {
        true => Packing::available().map(|p| p.to_string()).collect(),
        false => ON_GPU.map(|(name, _)| name.to_owned()).to_vec(),
    }
}

/// Rate of a large product, the best of three runs, GFLOP/s by type. On the CPU candle multiplies no bf16.
fn peaks(device: &Device) -> Result<serde_json::Value> {
    let (side, count, types) = match device.is_cpu() {
        true => (1024, 2, &ON_GPU[..1]),
        false => (8192, 20, &ON_GPU[..]),
    };
    let mut peaks = serde_json::Map::new();
    for (name, dtype) in types {
        let a = Tensor::randn(0f32, 1.0, (side, side), device)?.to_dtype(*dtype)?;
        let mut best = f64::INFINITY;
        a.matmul(&a)?;
        for _ in 0..3 {
            device.synchronize()?;
            let start = Instant::now();
            for _ in 0..count {
                a.matmul(&a)?;
            }
            device.synchronize()?;
            best = best.min(start.elapsed().as_secs_f64() / f64::from(count));
        }
        let flop = 2.0 * (side as f64).powi(3);
        peaks.insert((*name).into(), (flop / best / 1e9).into());
    }
    Ok(peaks.into())
}

fn pixels(folder: &Path, (batch, channels, side): (usize, usize, usize)) -> Tensor {
    let bytes = std::fs::read(folder.join(format!("{side}-{batch}.f32"))).unwrap();
    let shape = [batch, channels, side, side];
    Tensor::from_raw_buffer(&bytes, DType::F32, &shape, &Device::Cpu).unwrap()
}

struct Worker {
    net: AcdClip,
    text: Tensor,
}

impl Worker {
    fn load(folder: &Path, precision: &str, device: &Device) -> Self {
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = Config::from_json(&config).unwrap();
        let weights =
            candle_core::safetensors::load(folder.join("weights.safetensors"), &Device::Cpu);
        let weights = weights.unwrap();
        let text = weights["text_bank.object"].unsqueeze(0).unwrap();
        let on_gpu = ON_GPU.iter().find(|(name, _)| *name == precision);
        let tower = match device.is_cpu() {
            true => DType::F32,
            false => on_gpu.unwrap().1,
        };
        let vb = |dtype| VarBuilder::from_tensors(weights.clone(), dtype, device);
        let net = AcdClip::new(&config, vb(tower), vb(DType::F32))
            .unwrap()
            .fold()
            .unwrap();
        let packing = Packing::available().find(|packing| packing.to_string() == precision);
        Self {
            net: match device.is_cpu() {
                true => net.pack(packing.unwrap()).unwrap(),
                false => net,
            },
            text: text.to_device(device).unwrap(),
        }
    }

    /// Maps and scores, as plain numbers, so that nothing is left to compute.
    fn score(&self, pixels: &Tensor) -> Result<Vec<Answer>> {
        let tokens = self.net.forward(pixels)?;
        self.net
            .answers(&tokens, &self.text, &vec![None; pixels.dim(0)?])
    }

    fn serve(&self, pixels: &Tensor) {
        for line in std::io::stdin().lock().lines() {
            let count: usize = line.unwrap().trim().parse().unwrap();
            let mut found = Vec::new();
            let times: Vec<f64> = (0..count)
                .map(|_| {
                    let start = Instant::now();
                    found = self.score(pixels).unwrap();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            let scores: Vec<_> = found.iter().map(|answer| answer.class_score).collect();
            let map: Vec<_> = found.into_iter().flat_map(|answer| answer.values).collect();
            println!(
                "{}",
                serde_json::json!({ "ms": times, "map": map, "score": scores })
            );
        }
    }
}
