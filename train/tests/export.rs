//! `acdclip export`: what it writes scores as the bundle did that it was made from, of the classes asked for and without the text tower.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use acdclip_model::{
    Bundle, Config,
    bundle::{BundleWriter, StoragePolicy},
    schema,
};
use common::{Ran, TINY, run, save_tensors};
use serde_json::{Value, json};

/// A folder with weights, a picture, and the bundles that are made of them.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::write(place.path("config.json"), TINY).unwrap();
        let config = Config::from_json(TINY).unwrap();
        save_tensors(&place.path("weights.safetensors"), schema::schema(&config));
        let pixel = |x: u32, y: u32| image::Rgb([x, y, x ^ y].map(|v| (v * 37 % 251) as u8));
        let picture = image::RgbImage::from_fn(40, 30, pixel);
        picture.save(place.path("a.png")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A bundle with a text tower and the classes `rail` and `tie plate`.
    fn import(&self, output: &str, dtype: &str) {
        let [base, config, out] =
            ["weights.safetensors", "config.json", output].map(|name| self.name(name));
        let ran = run([
            "import",
            "--base",
            &base,
            "--config",
            &config,
            "--class",
            "rail",
            "--class",
            "tie plate",
            "--dtype",
            dtype,
            "-o",
            &out,
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    fn export(&self, model: &str, output: &str, more: &[&str]) -> Ran {
        let [model, out] = [model, output].map(|name| self.name(name));
        let arguments = ["export", "--model", &model, "-o", &out];
        run(arguments.iter().chain(more))
    }

    fn exported(&self, model: &str, output: &str, more: &[&str]) -> Ran {
        let ran = self.export(model, output, more);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran
    }

    /// All that a model says of the picture but its own and the class's name.
    fn score(&self, model: &str, class: &str) -> Value {
        let [model, picture] = [model, "a.png"].map(|name| self.name(name));
        let ran = run([
            "score",
            "--json",
            "--device",
            "cpu",
            "--model",
            &model,
            "--class",
            class,
            "--map-threshold",
            "0.3",
            &picture,
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let mut line = ran.json().remove(0);
        for name in ["model", "class_name"] {
            line.as_object_mut().unwrap().remove(name).unwrap();
        }
        line
    }

    fn info(&self, model: &str) -> Value {
        let ran = run(["info", "--json", "--verify", &self.name(model)]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json().remove(0)
    }
}

#[test]
fn it_scores_as_the_bundle_that_it_is_made_from() {
    let place = Place::new();
    for dtype in StoragePolicy::NAMES {
        place.import("full", dtype);
        place.exported("full", "deploy", &["--classes", "bolt=steel bolt", "rail"]);
        let (full, deploy) = (place.info("full"), place.info("deploy"));
        assert_eq!(deploy["classes"], json!(["bolt", "rail"]));
        assert_eq!(
            [&full, &deploy].map(|info| info["text_tower"].as_bool().unwrap()),
            [true, false]
        );
        assert_eq!(place.score("deploy", "rail"), place.score("full", "rail"));
        assert_eq!(
            place.score("deploy", "bolt"),
            place.score("full", "steel bolt")
        );
        assert_ne!(place.score("deploy", "bolt"), place.score("deploy", "rail"));
    }
}

#[test]
fn its_size_before_and_after_and_where_it_comes_from_are_told() {
    let place = Place::new();
    place.import("full", "f32");
    let ran = place.exported("full", "deploy", &["--classes", "rail"]);
    let (full, deploy) = (place.info("full"), place.info("deploy"));
    let [before, after] = [&full, &deploy].map(|info| info["bytes"].as_u64().unwrap());
    assert!(after < before / 2, "{after}, {before}");
    let sizes = [after, before].map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6));
    assert!(
        ran.out.contains(&format!("{}, was {}", sizes[0], sizes[1])),
        "{ran:?}"
    );
    let sources = deploy["provenance"]["sources"].as_array().unwrap();
    let names: Vec<_> = sources.iter().map(|source| &source["file"]).collect();
    assert_eq!(names, ["weights.safetensors", "full"]);
    use sha2::{Digest, Sha256};
    let bytes = std::fs::read(place.path("full")).unwrap();
    let hash: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(sources[1]["sha256"], hash.as_str());
}

#[test]
fn without_classes_all_are_kept() {
    let place = Place::new();
    place.import("full", "f16");
    place.exported("full", "deploy", &[]);
    assert_eq!(
        place.info("deploy")["classes"],
        json!(["rail", "tie plate"])
    );
}

#[test]
fn in_another_type_it_is_what_an_import_in_that_type_would_be() {
    let place = Place::new();
    place.import("full", "f32");
    for dtype in StoragePolicy::NAMES {
        place.exported("full", "deploy", &["--dtype", dtype]);
        place.import("imported", dtype);
        assert_eq!(
            place.score("deploy", "rail"),
            place.score("imported", "rail")
        );
        assert_eq!(
            place.info("deploy")["stored_bytes"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            place.info("imported")["stored_bytes"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn without_a_text_tower_there_are_no_new_classes() {
    let place = Place::new();
    place.import("full", "f32");
    place.exported("full", "deploy", &[]);
    for (class, wanted) in [
        ("teapot", ["teapot", "rail, tie plate"]),
        ("teapot=tea pot", ["teapot", "rail, tie plate"]),
        ("rail=steel rail", ["steel rail", "text tower"]),
    ] {
        let ran = place.export("deploy", "again", &["--classes", class]);
        let complaint = ran.complaint();
        assert!(
            wanted.iter().all(|part| complaint.contains(part)),
            "{complaint}"
        );
        assert!(!place.path("again").exists());
    }
}

#[test]
fn a_bundle_is_not_overwritten_by_what_is_made_of_it() {
    let place = Place::new();
    place.import("full", "f32");
    let before = std::fs::read(place.path("full")).unwrap();
    let ran = place.export("full", "full", &[]);
    assert!(ran.complaint().contains("overwrite"), "{ran:?}");
    assert_eq!(std::fs::read(place.path("full")).unwrap(), before);
}

#[test]
fn a_calibration_stays_as_long_as_it_holds() {
    let place = Place::new();
    place.import("full", "f32");
    let bundle = Bundle::open(&place.path("full")).unwrap();
    let bank = bundle.text_bank().unwrap();
    let anchors = json!({"normal": 0.3, "threshold": 0.6});
    let classes = json!({"rail": {"score": anchors, "map": anchors}});
    BundleWriter::new(
        bundle.config().clone(),
        bundle.provenance().clone(),
        StoragePolicy::F32,
    )
    .tensors(bundle.tensors())
    .text_bank(&bank)
    .calibration(json!({"version": 1, "model": bundle.hash(), "classes": classes}))
    .write(&place.path("calibrated"))
    .unwrap();

    let ran = place.exported("calibrated", "kept", &["--classes", "rail", "bolt"]);
    let kept = place.info("kept");
    assert_eq!(ran.err, "");
    assert_eq!(kept["calibration"]["classes"], classes);
    assert_eq!(kept["calibration"]["model"], kept["hash"]);
    assert_ne!(kept["hash"], place.info("calibrated")["hash"]);
    for changes in [["--dtype", "f16"], ["--classes", "rail=steel rail"]] {
        let ran = place.exported("calibrated", "left", &changes);
        assert!(ran.err.contains("calibration is left out"), "{ran:?}");
        assert_eq!(place.info("left")["calibration"], Value::Null);
    }
}

#[cfg(feature = "builtin-model")]
#[test]
fn the_built_in_model_can_be_had_as_a_file() {
    let place = Place::new();
    let (out, picture) = (place.name("deploy"), place.name("a.png"));
    let ran = run(["export", "--classes", "object", "-o", &out]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = |more: &[&str]| {
        let arguments = [
            "score", "--json", "--device", "cpu", "--class", "object", &picture,
        ];
        let mut line = run(arguments.iter().chain(more)).json().remove(0);
        line.as_object_mut().unwrap().remove("model").unwrap();
        line
    };
    assert_eq!(line(&["--model", &out]), line(&[]));
}
