//! The worker that `peers.py` measures: this project's network, weights and pictures read from a folder, no pipeline around it.
//!
//! `peers FOLDER SIDE BATCH PRECISION` answers each line with a count by a line of JSON: the passes' times, the last one's maps and scores.
//! `peers --precisions` says what there is on this machine.
#![allow(clippy::unwrap_used)]

use std::{io::BufRead, path::Path, time::Instant};

use acdclip_model::{Config, net::AcdClip, precision::Packing};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--precisions", ..] => println!("{}", serde_json::json!(precisions())),
        [folder, side, batch, precision, ..] => {
            let worker = Worker::load(folder.as_ref(), precision);
            let shape = (batch.parse().unwrap(), 3, side.parse().unwrap());
            worker.serve(&pixels(folder.as_ref(), shape));
        }
        // What `cargo bench` calls it with; it measures nothing by itself.
        _ => eprintln!(
            "peers: wanted FOLDER SIDE BATCH PRECISION or --precisions; `make bench-peers` calls it"
        ),
    }
}

fn precisions() -> Vec<String> {
    let names = Packing::available().map(|packing| packing.to_string());
    names.collect()
}

fn pixels(folder: &Path, (batch, channels, side): (usize, usize, usize)) -> Tensor {
    let bytes = std::fs::read(folder.join(format!("{side}-{batch}.f32"))).unwrap();
    let shape = (batch, channels, side, side);
    Tensor::from_raw_buffer(
        &bytes,
        DType::F32,
        &[shape.0, shape.1, shape.2, shape.3],
        &Device::Cpu,
    )
    .unwrap()
}

struct Worker {
    net: AcdClip,
    text: Tensor,
}

impl Worker {
    fn load(folder: &Path, precision: &str) -> Self {
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = Config::from_json(&config).unwrap();
        let weights =
            candle_core::safetensors::load(folder.join("weights.safetensors"), &Device::Cpu);
        let weights = weights.unwrap();
        let text = weights["text_bank.object"].unsqueeze(0).unwrap();
        let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let packing = Packing::available().find(|packing| packing.to_string() == precision);
        let net = AcdClip::new(&config, vb.clone(), vb)
            .unwrap()
            .fold()
            .unwrap();
        Self {
            net: net.pack(packing.unwrap()).unwrap(),
            text,
        }
    }

    /// Maps and scores, as plain numbers, so that nothing is left to compute.
    fn score(&self, pixels: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
        let tokens = self.net.forward(pixels)?;
        let scores = self.net.class_probability(&tokens, &self.text)?.to_vec1()?;
        let maps = self.net.patch_map(&tokens, &self.text, None)?;
        Ok((maps.flatten_all()?.to_vec1()?, scores))
    }

    fn serve(&self, pixels: &Tensor) {
        for line in std::io::stdin().lock().lines() {
            let count: usize = line.unwrap().trim().parse().unwrap();
            let mut found = Default::default();
            let times: Vec<f64> = (0..count)
                .map(|_| {
                    let start = Instant::now();
                    found = self.score(pixels).unwrap();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            println!(
                "{}",
                serde_json::json!({ "ms": times, "map": found.0, "score": found.1 })
            );
        }
    }
}
