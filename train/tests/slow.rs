//! What takes minutes: the accuracy that the model card claims, on real pictures, and the memory of an evaluation of many pictures.
//!
//! `make test-all` runs it; `cargo test` alone names it as ignored.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "builtin-model")]

mod common;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use acdclip_model::{Config, schema};
use common::{acdclip, run, save_tensors, shared};
use serde_json::Value;

/// A network whose maps are as large as the paper's and cost little.
const LARGE_MAPS: &str = r#"{"groups": 2, "lora_rank": 4, "conv_lora_rank": 2, "mlp_hidden": 16, "gate_hidden": 8,
    "vision": {"width": 16, "layers": 2, "heads": 2, "patch_size": 37, "image_size": 518},
    "text": {"width": 8, "layers": 2, "heads": 2}}"#;

/// Pixel AUROC and AP, image AUROC and AP, in hundredths.
#[derive(Debug, PartialEq)]
struct Figures([Option<f64>; 4]);

/// Evaluates `model`, the built-in one where there is none, on the lines of a set that `keeps` keeps.
fn figures(model: Option<&Path>, set: &str, keeps: impl Fn(&Value) -> bool) -> Option<Figures> {
    let folder = shared(&format!("data/{set}"))?;
    let scratch = tempfile::tempdir().unwrap();
    let (index, json) = (
        scratch.path().join("meta.jsonl"),
        scratch.path().join("out.json"),
    );
    let absolute = |line: &mut Value, key: &str| {
        if let Some(path) = line[key].as_str().filter(|path| !path.is_empty()) {
            line[key] = folder.join(path).to_str().unwrap().into();
        }
    };
    let mut kept = String::new();
    for line in std::fs::read_to_string(folder.join("meta.jsonl"))
        .unwrap()
        .lines()
    {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if keeps(&line) {
            absolute(&mut line, "image_path");
            absolute(&mut line, "mask_path");
            writeln!(kept, "{line}").unwrap();
        }
    }
    std::fs::write(&index, kept).unwrap();
    let mut command = acdclip();
    command.args(["eval", "--device", "cpu", "--class", "object", "--data"]);
    command.arg(&index).arg("--json").arg(&json);
    if let Some(model) = model {
        command.arg("--model").arg(model);
    }
    let ran = common::Ran::from(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let found: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let mean = &found["mean"];
    let number = |part: &str, name: &str| mean[part][name].as_f64().map(|x| x * 100.0);
    let figures = Figures([
        number("pixel", "auroc"),
        number("pixel", "ap"),
        number("image", "auroc"),
        number("image", "ap"),
    ]);
    println!("{set}: {:.2?}", figures.0);
    Some(figures)
}

impl Figures {
    /// Fails the test if one of them is absent that is wanted, or more than a rounding and another machine's arithmetic below.
    fn reach(&self, card: [Option<f64>; 4]) {
        let reaches = |(found, card): (&Option<f64>, Option<f64>)| match (found, card) {
            (Some(found), Some(card)) => *found >= card - 0.3,
            (found, card) => found.is_none() == card.is_none(),
        };
        let all = self.0.iter().zip(card).all(reaches);
        assert!(all, "{self:?}: the card says {card:?}");
    }
}

fn path_has(line: &Value, part: &str) -> bool {
    line["image_path"].as_str().unwrap().contains(part)
}

fn is_of(line: &Value, sequences: &[u64]) -> bool {
    sequences.contains(&line["sequence"].as_u64().unwrap())
}

#[test]
#[ignore = "minutes: make test-all"]
fn the_built_in_model_is_as_good_as_its_card_says() {
    let rail = figures(None, "rail400_tiles", |line| path_has(line, "145647010"));
    let Some(rail) = rail else { return };
    rail.reach([91.45, 53.95, 95.09, 96.20].map(Some));
    let of = |set, keeps: &dyn Fn(&Value) -> bool| figures(None, set, keeps).unwrap();
    let frames = of("cvc_clinicdb", &|line| is_of(line, &[2, 7]));
    frames.reach([Some(99.74), Some(98.04), None, None]);
    let tiles = of("cvc_clinicdb_tiles", &|line| is_of(line, &[2, 7]));
    tiles.reach([97.44, 91.95, 100.0, 100.0].map(Some));
    let kvasir = of("kvasir_seg256", &|line| {
        path_has(line, "/cju4") || path_has(line, "/cju7")
    });
    kvasir.reach([Some(95.60), Some(86.59), None, None]);
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "minutes: make test-all"]
fn evaluating_many_pictures_takes_no_more_memory_than_evaluating_few() {
    let place = Place::new();
    let few = place.peak_mib(150);
    let many = place.peak_mib(1500);
    println!("150 pictures of 518 px: {few} MiB, 1500: {many} MiB");
    // The scores of the others, as f32, are 1382 MiB.
    assert!(many < few + 256, "{few} MiB, then {many} MiB");
}

/// A bundle and a few pictures with masks.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        std::fs::write(place.path("config.json"), LARGE_MAPS).unwrap();
        let config = Config::from_json(LARGE_MAPS).unwrap();
        save_tensors(&place.path("weights.safetensors"), schema::schema(&config));
        let [base, config, out] = ["weights.safetensors", "config.json", "model.safetensors"]
            .map(|name| place.path(name).display().to_string());
        let ran = run([
            "import", "--base", &base, "--config", &config, "--class", "a", "-o", &out,
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for i in 0..8_u32 {
            let picture = image::GrayImage::from_fn(518, 518, |x, y| {
                image::Luma([((x * (7 + i) + y * 3) % 251) as u8])
            });
            picture.save(place.path(&format!("{i}.png"))).unwrap();
        }
        let mask =
            image::GrayImage::from_fn(518, 518, |x, y| image::Luma([255 * u8::from(x + y < 300)]));
        mask.save(place.path("mask.png")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The most memory of an evaluation of `count` pictures.
    fn peak_mib(&self, count: u32) -> u64 {
        let mut lines = String::new();
        for i in 0..count {
            let mask = if i % 2 == 0 { "mask.png" } else { "" };
            writeln!(
                lines,
                r#"{{"image_path": "{}.png", "label": {}, "class_name": "a", "mask_path": "{mask}"}}"#,
                i % 8,
                u8::from(i % 2 == 0)
            )
            .unwrap();
        }
        std::fs::write(self.path("meta.jsonl"), lines).unwrap();
        let mut child = acdclip()
            .args(["eval", "--device", "cpu", "--model"])
            .arg(self.path("model.safetensors"))
            .arg("--data")
            .arg(self.folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut peak = 0;
        let ended = loop {
            peak = common::peak_kib(child.id()).unwrap_or(peak);
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert!(ended.success(), "{ended}");
        peak / 1024
    }
}
