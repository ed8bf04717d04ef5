//! A training step's time and memory, ours beside the authors' own PyTorch code: one network, one batch, one machine, one run.
//!
//! The network is the paper's (ViT-L/14, 4 groups) with weights made up here, for what is measured does not depend on them. Where `OFFICIAL`
//! names a checkout of the authors' code, and `PYTHON` an interpreter that has what it needs, `official_step.py` trains the same weights on
//! the same pictures; the losses of both are printed too, to show that both did the same. Else only ours are measured.
//!
//! `BENCH_BATCH` pictures of `BENCH_SIDE` pixels a step, `BENCH_STEPS` steps, of which the first is not counted.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use acdclip_model::{Config, config::Form, schema};
use candle_core::{Device, Tensor};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

#[path = "../tests/common/mod.rs"]
mod common;

const PRESET: &str = "clip-vit-l-14-336";

/// Between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(20);

/// What one side did.
#[derive(serde::Deserialize)]
struct Measured {
    /// Of each step.
    seconds: Vec<f64>,
    /// Of each step, before it was taken.
    losses: Vec<f64>,
    /// Largest resident memory until the last step was done.
    peak_kib: u64,
}

struct Bench {
    folder: tempfile::TempDir,
    batch: usize,
    side: u32,
    steps: usize,
}

fn number(name: &str, default: usize) -> usize {
    let text = std::env::var(name).unwrap_or_default();
    match text.parse() {
        _ if text.is_empty() => default,
        Ok(number) if number > 0 => number,
        _ => panic!("{name}: wanted a number above 0, found {text:?}"),
    }
}

fn main() {
    let bench = Bench {
        folder: tempfile::tempdir().unwrap(),
        batch: number("BENCH_BATCH", 2),
        side: u32::try_from(number("BENCH_SIDE", 224)).unwrap(),
        steps: number("BENCH_STEPS", 4).max(2),
    };
    bench.write_weights();
    bench.write_pictures();
    bench.write_recipe();
    let ours = bench.ours();
    let official = bench.official();
    println!(
        "a step of {} pictures of {} px, {PRESET}, f32, CPU:",
        bench.batch, bench.side
    );
    println!(
        "{:10} {:>10} {:>10}   loss of each step",
        "", "s a step", "peak MiB"
    );
    row("acdclip", &ours);
    let Some(official) = official else {
        println!(
            "official   not measured: set OFFICIAL to a checkout of the authors' code and PYTHON to a python with its requirements"
        );
        return;
    };
    row("official", &official);
    println!(
        "{:10} {:>10.2} {:>10.2}",
        "ratio",
        official.step() / ours.step(),
        official.peak_kib as f64 / ours.peak_kib as f64
    );
}

fn row(name: &str, measured: &Measured) {
    let losses: Vec<_> = measured.losses.iter().map(|l| format!("{l:.5}")).collect();
    println!(
        "{name:10} {:>10.2} {:>10}   {}",
        measured.step(),
        measured.peak_kib / 1024,
        losses.join(" ")
    );
}

impl Measured {
    /// The median step's time, without the first.
    fn step(&self) -> f64 {
        let mut seconds = self.seconds[1..].to_vec();
        seconds.sort_unstable_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Towers and adapters with numbers of the size that those of trained networks have.
    fn write_weights(&self) {
        let config = Config::preset(PRESET, Form::Official).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let tensors: HashMap<String, Tensor> = schema::schema(&config)
            .into_iter()
            .map(|(name, shape)| {
                let values = first_values(&name, &shape, &mut random);
                (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
            })
            .collect();
        candle_core::safetensors::save(&tensors, self.path("base.safetensors")).unwrap();
    }

    /// Textures, every other one with a bright square, its mask, and the list of both.
    fn write_pictures(&self) {
        let mut lines = String::new();
        for i in 0..self.batch as u32 {
            let inside = |x: u32, y: u32| {
                i % 2 == 1 && (x * 4 / self.side, y * 4 / self.side) == (1 + i / 2 % 3, 2)
            };
            let picture = image::RgbImage::from_fn(self.side, self.side, |x, y| {
                let texture = ((x * 5 + y * 3 + i * 11) % 90) as u8;
                let light = if inside(x, y) { 140 } else { 40 };
                image::Rgb([light + texture, light + texture / 2, light])
            });
            picture.save(self.path(&format!("{i}.png"))).unwrap();
            let mask = image::GrayImage::from_fn(self.side, self.side, |x, y| {
                image::Luma([255 * u8::from(inside(x, y))])
            });
            mask.save(self.path(&format!("{i}_mask.png"))).unwrap();
            lines += &format!(
                "{{\"image_path\": \"{i}.png\", \"label\": {}, \"class_name\": \"object\", \"mask_path\": \"{i}_mask.png\"}}\n",
                i % 2
            );
        }
        fs::write(self.path("meta.jsonl"), lines).unwrap();
    }

    /// A step an epoch, so that each has every picture once, as the other side has.
    fn write_recipe(&self) {
        let changes = [
            "noise",
            "brightness",
            "contrast",
            "saturation",
            "rotation",
            "translation",
        ];
        let still: String = changes
            .iter()
            .map(|name| format!("{name} = {{ probability = 0.0, strength = 0.0 }}\n"))
            .collect();
        let text = format!(
            "[model]\nbase = \"base.safetensors\"\nconfig = \"{PRESET}\"\nadapters = \"base\"\n\
             [model.network]\ninput_size = {}\n[text]\nobject_agnostic = true\n\
             [schedule]\nepochs = {}\nbatch_size = {}\n[optimizer]\ndecay = 1.0\n\
             [augment]\n{still}flip_horizontal = 0.0\nflip_vertical = 0.0\n[[data]]\npath = \".\"\n",
            self.side, self.steps, self.batch
        );
        fs::write(self.path("recipe.toml"), text).unwrap();
    }

    fn ours(&self) -> Measured {
        let mut child = common::acdclip()
            .args(["train", "--device", "cpu", "--config"])
            .arg(self.path("recipe.toml"))
            .arg("-o")
            .arg(self.path("run"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = self.path("run/log.csv");
        let mut peak_kib = 0;
        let ended = loop {
            if rows(&log).len() < self.steps {
                peak_kib = common::peak_kib(child.id()).unwrap_or(peak_kib);
            }
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        assert!(ended.success(), "acdclip train: {ended}");
        let rows = rows(&log);
        let column = |name: &str| rows.iter().map(|row| row[name]).collect();
        Measured {
            seconds: column("seconds"),
            losses: column("loss"),
            peak_kib,
        }
    }

    /// None where it is not asked for.
    fn official(&self) -> Option<Measured> {
        let checkout = std::env::var_os("OFFICIAL").filter(|path| !path.is_empty())?;
        let python = std::env::var_os("PYTHON").filter(|path| !path.is_empty());
        let ran = Command::new(python.unwrap_or("python3".into()))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/official_step.py"
            ))
            .arg(checkout)
            .arg(self.folder.path())
            .args([self.batch, self.steps].map(|n| n.to_string()))
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(ran.status.success(), "official_step.py: {}", ran.status);
        let text = String::from_utf8(ran.stdout).unwrap();
        Some(serde_json::from_str(text.lines().last().unwrap()).unwrap())
    }
}

fn first_values(name: &str, shape: &[usize], random: &mut ChaCha8Rng) -> Vec<f32> {
    let count = shape.iter().product();
    if name.ends_with("i_w") {
        return vec![0.2; count];
    }
    if name.contains("norm") {
        return vec![f32::from(u8::from(name.ends_with("weight"))); count];
    }
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = (fan_in.max(1) as f32).powf(-0.5).min(0.1);
    (0..count)
        .map(|_| random.random_range(-bound..bound))
        .collect()
}

/// Rows of a table of numbers; none while there is no table.
fn rows(path: &Path) -> Vec<HashMap<String, f64>> {
    let Ok(mut table) = csv::Reader::from_path(path) else {
        return Vec::new();
    };
    table.deserialize().filter_map(Result::ok).collect()
}
