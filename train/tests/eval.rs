//! `acdclip eval`: the numbers it writes are those of the maps and scores that `acdclip score` writes, ranked by definition.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "builtin-model")]

mod common;

use std::path::Path;

use common::{Ran, grey16, run};
use serde_json::Value;

/// A set of two classes: `spot` has normal and anomalous pictures, `plain` normal ones only. Masks are smaller than the pictures.
fn set() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for i in 0..2_u32 {
        noise(&root.path().join(format!("spot/good/{i}.png")), i, None);
        noise(
            &root.path().join(format!("plain/good/{i}.png")),
            i + 9,
            None,
        );
        let spot = 20 + 40 * i;
        noise(
            &root.path().join(format!("spot/defect/{i}.png")),
            i + 4,
            Some(spot),
        );
        let mask = image::GrayImage::from_fn(63, 63, |x, y| {
            let hit = inside(x * 2, y * 2, spot);
            image::Luma([if hit { 255 } else { 0 }])
        });
        let path = root.path().join(format!("spot/masks/{i}.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        mask.save(path).unwrap();
    }
    let ran = run(["dataset", "index", "folder", root.path().to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    root
}

fn inside(x: u32, y: u32, spot: u32) -> bool {
    (spot..spot + 24).contains(&x) && (spot..spot + 24).contains(&y)
}

fn noise(path: &Path, seed: u32, spot: Option<u32>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixel = |x: u32, y: u32| {
        let grain = (x * 31 + y * 17 + seed * 101) * 2_654_435_761_u32.wrapping_shr(24) % 23;
        let base = if spot.is_some_and(|s| inside(x, y, s)) {
            20
        } else {
            150
        };
        image::Luma([(base + grain) as u8])
    };
    image::GrayImage::from_fn(126, 126, pixel)
        .save(path)
        .unwrap();
}

fn eval(root: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["eval", "--device", "cpu", "--data", root.to_str().unwrap()];
    arguments.extend(more);
    run(arguments)
}

fn results(root: &Path, more: &[&str]) -> Value {
    let path = root.join("results.json");
    let mut arguments = vec!["--json", path.to_str().unwrap()];
    arguments.extend(more);
    let ran = eval(root, &arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The part of pairs in the right order, ties counting half.
fn auroc(scored: &mut [(f64, bool)]) -> f64 {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut normal, mut twice_right) = (0_u64, 0_u64);
    for group in scored.chunk_by(|a, b| a.0 == b.0) {
        let anomalous = group.iter().filter(|s| s.1).count() as u64;
        let ties = group.len() as u64 - anomalous;
        twice_right += anomalous * (2 * normal + ties);
        normal += ties;
    }
    let anomalous = scored.len() as u64 - normal;
    twice_right as f64 / (2 * anomalous * normal) as f64
}

#[test]
fn the_numbers_are_those_of_the_maps_and_scores() {
    let root = set();
    let found = results(root.path(), &["--batch-size", "3"]);
    let maps = root.path().join("maps");
    let (mut pixels, mut images) = (Vec::new(), Vec::new());
    for (folder, anomalous) in [("good", false), ("defect", true)] {
        let files = ["0.png", "1.png"].map(|name| root.path().join("spot").join(folder).join(name));
        let mut arguments = vec!["score", "--device", "cpu", "--json", "--maps"];
        arguments.push(maps.to_str().unwrap());
        arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
        let ran = run(arguments);
        for line in ran.json() {
            images.push((line["score"].as_f64().unwrap(), anomalous));
        }
        for i in 0..2_u32 {
            let (side, map) = grey16(&maps.join(format!("{i}.png")));
            for (at, value) in map.iter().enumerate() {
                let (x, y) = (at as u32 % side, at as u32 / side);
                // The mask has a fourth of the side's pixels, and its own have the even ones of the picture.
                let (mx, my) = (x * 63 / side * 2, y * 63 / side * 2);
                pixels.push((f64::from(*value), anomalous && inside(mx, my, 20 + 40 * i)));
            }
        }
    }
    let spot = &found["classes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|class| class["class_name"] == "spot")
        .unwrap();
    assert_eq!(spot["images"], 4);
    let near = |value: &Value, expected: f64, within: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < within, "{value} {expected}");
    };
    near(&spot["image"]["auroc"], auroc(&mut images), 1e-12);
    // The maps on disk are rounded to 16 bits, which makes a few ties.
    near(&spot["pixel"]["auroc"], auroc(&mut pixels), 1e-4);
}

#[test]
fn one_label_is_null_and_left_out_of_the_mean() {
    let root = set();
    let found = results(root.path(), &[]);
    assert_eq!(found.as_object().unwrap().len(), 2);
    let classes = found["classes"].as_array().unwrap();
    let class = |name| {
        classes
            .iter()
            .find(|class| class["class_name"] == name)
            .unwrap()
    };
    let (plain, spot) = (class("plain"), class("spot"));
    for part in ["pixel", "image"] {
        for (metric, value) in plain[part].as_object().unwrap() {
            assert!(value.is_null(), "{metric}");
            assert!(spot[part][metric].as_f64().unwrap() > 0.0, "{metric}");
        }
        assert_eq!(found["mean"][part], spot[part]);
    }
    assert_eq!(spot["pixel"].as_object().unwrap().len(), 4);
    assert_eq!(spot["image"].as_object().unwrap().len(), 3);
}

#[test]
fn the_batch_size_changes_nothing_that_can_be_seen() {
    let root = set();
    let (one, all) = (
        results(root.path(), &["--batch-size", "1"]),
        results(root.path(), &["--batch-size", "64"]),
    );
    for metric in ["auroc", "ap", "aupro", "f1_max"] {
        let of = |found: &Value| found["mean"]["pixel"][metric].as_f64().unwrap();
        assert!((of(&one) - of(&all)).abs() < 1e-4, "{metric}");
    }
}

#[test]
fn a_class_that_the_model_does_not_know_is_scored_as_its_first_and_said() {
    let root = set();
    let ran = eval(root.path(), &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("plain, spot; scored as \"object\""),
        "{ran:?}"
    );
    assert!(
        ran.out.lines().last().unwrap().starts_with("mean"),
        "{ran:?}"
    );
    let ran = eval(root.path(), &["--class", "object"]);
    assert_eq!((ran.code, &ran.err[..]), (Some(0), ""));
    let ran = eval(root.path(), &["--class", "teapot"]);
    assert!(ran.complaint().contains("teapot"), "{ran:?}");
}

#[test]
fn the_report_is_one_file_that_needs_no_network() {
    let root = set();
    let directory = root.path().join("report");
    let ran = eval(root.path(), &["--report", directory.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let page = std::fs::read_to_string(directory.join("index.html")).unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    for wanted in [
        "Pixel ROC",
        "Pixel precision-recall",
        "Image ROC",
        "Image scores",
        "Best maps",
        "Worst maps",
        "Most wrong",
        "spot/defect/0.png",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!page.contains("http") && !page.contains("<script"));
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let root = set();
    let ran = eval(Path::new("nowhere.jsonl"), &[]);
    assert!(ran.complaint().contains("nowhere.jsonl"));
    let ran = eval(root.path(), &["--json", "nowhere/a.json"]);
    assert!(ran.complaint().contains("nowhere/a.json"));
    std::fs::write(root.path().join("spot/masks/1.png"), b"no picture").unwrap();
    let ran = eval(root.path(), &[]);
    assert!(ran.err.contains("spot/masks/1.png"), "{ran:?}");
    assert_eq!(ran.code, Some(1));
    std::fs::write(root.path().join("meta.jsonl"), "").unwrap();
    assert!(eval(root.path(), &[]).complaint().contains("empty index"));
}

#[test]
fn runs_are_compared_in_the_order_of_table_2() {
    let root = set();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/weights/compact.safetensors");
    let list = root.path().join("runs.toml");
    let text = format!(
        "[[run]]\nname = \"full\"\nmodel = {:?}\n",
        bundle.to_str().unwrap()
    );
    std::fs::write(&list, text).unwrap();
    let found = results(root.path(), &["--ablation", list.to_str().unwrap()]);
    let alone = results(root.path(), &[]);
    let run = &found["runs"][0];
    assert_eq!(
        (&run["name"], &run["conv_lora"], &run["gateway"]),
        (&"full".into(), &true.into(), &true.into())
    );
    assert_eq!(run["mean"], alone["mean"]);
    let ran = eval(root.path(), &["--ablation", list.to_str().unwrap()]);
    assert_eq!(
        ran.err.matches("table 2 has a row that no run is").count(),
        3,
        "{ran:?}"
    );
    assert!(
        ran.out.contains("Conv-LoRA  DFG") && ran.out.contains("yes        yes"),
        "{ran:?}"
    );
    std::fs::write(&list, "[[run]]\nmodle = \"x\"\n").unwrap();
    let ran = eval(root.path(), &["--ablation", list.to_str().unwrap()]);
    assert!(ran.complaint().contains("runs.toml"), "{ran:?}");
}
