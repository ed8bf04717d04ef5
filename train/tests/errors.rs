//! What goes wrong is said in one line, with exit code 1; wrong usage is 2; nothing panics and nothing half-written is left.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "builtin-model")]

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use common::{acdclip, grey16, run, shared};

/// A small picture of grey noise that is the same every time.
fn picture(path: &Path) -> String {
    let pixel = |x: u32, y: u32| image::Rgb([x, y, x ^ y].map(|v| (v * 37 % 251) as u8));
    image::RgbImage::from_fn(40, 30, pixel).save(path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn wrong_usage_is_2() {
    let usages: [&[&str]; 7] = [
        &[],
        &["score"],
        &["score", "a.png", "--nonsense"],
        &["score", "a.png", "--threshold", "1.5"],
        &["score", "a.png", "--device", "abacus"],
        &["score", "a.png", "--domain", "culinary"],
        &["import", "--base", "x"],
    ];
    for usage in usages {
        let ran = run(usage);
        assert_eq!(ran.code, Some(2), "{usage:?}: {ran:?}");
        assert!(
            ran.out.is_empty() && !ran.err.is_empty(),
            "{usage:?}: {ran:?}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    assert!(
        run(["score", "nowhere.png"])
            .complaint()
            .contains("nowhere.png")
    );
    assert!(
        run(["info", "nowhere.safetensors"])
            .complaint()
            .contains("nowhere.safetensors")
    );
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.png"));
    let ran = run(["score", &image, "--model", "nowhere.safetensors"]);
    assert!(ran.complaint().contains("nowhere.safetensors"));
}

#[test]
fn what_is_no_picture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = picture(&folder.path().join("whole.png"));
    let bytes = std::fs::read(&whole).unwrap();
    let mut damaged = bytes.clone();
    damaged[60] ^= 0xff;
    let cases: [(&str, &[u8]); 4] = [
        ("empty.png", b""),
        ("text.png", b"what is this?"),
        ("truncated.png", &bytes[..bytes.len() / 2]),
        ("damaged.png", &damaged),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let ran = run(["score".as_ref(), path.as_os_str()]);
        assert!(ran.complaint().contains(name), "{ran:?}");
        assert!(!ran.out.contains(name), "{ran:?}");
    }
}

#[test]
fn one_bad_picture_does_not_cost_the_others_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let [first, last] = ["first.png", "last.png"].map(|name| picture(&folder.path().join(name)));
    let ran = run(["score", "--json", &first, "nowhere.png", &last]);
    assert_eq!(ran.code, Some(1));
    let images: Vec<_> = ran
        .json()
        .iter()
        .map(|line| line["image"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(images, [first, last]);
    let complaints: Vec<_> = ran.err.lines().collect();
    assert_eq!(complaints.len(), 2, "{ran:?}");
    assert!(
        complaints[0].contains("nowhere.png") && complaints[1].contains("1 of 3"),
        "{ran:?}"
    );
}

#[test]
fn a_class_that_the_model_does_not_know_lists_those_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.png"));
    let ran = run(["score", &image, "--class", "teapot"]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains("teapot") && complaint.contains("object"),
        "{complaint}"
    );
}

#[test]
fn what_is_no_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    let mut huge_header = u64::MAX.to_le_bytes().to_vec();
    huge_header.extend(b"{}");
    let mut no_metadata = 2_u64.to_le_bytes().to_vec();
    no_metadata.extend(b"{}");
    for bytes in [&b""[..], b"\x80\x02pickle", &huge_header, &no_metadata] {
        std::fs::write(&model, bytes).unwrap();
        let ran = run(["info".as_ref(), model.as_os_str()]);
        assert!(ran.complaint().contains("model.safetensors"), "{ran:?}");
    }
}

#[test]
fn two_pictures_of_one_name_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("other")).unwrap();
    let first = picture(&folder.path().join("a.png"));
    let second = picture(&folder.path().join("other/a.bmp"));
    let maps = folder.path().join("maps");
    let ran = run(["score", &first, &second, "--maps", maps.to_str().unwrap()]);
    let complaint = ran.complaint();
    assert!(
        complaint.contains(&first) && complaint.contains(&second),
        "{complaint}"
    );
    assert!(ran.out.is_empty() && !maps.exists());
}

#[test]
fn a_map_does_not_take_its_pictures_place() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.png"));
    let before = std::fs::read(&image).unwrap();
    let ran = run(["score", &image, "--maps", folder.path().to_str().unwrap()]);
    assert!(ran.complaint().contains("overwrite"));
    assert_eq!(std::fs::read(&image).unwrap(), before);
}

#[test]
fn maps_have_the_models_size_and_agree_with_the_score() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.b.png"));
    let maps = folder.path().join("deep/maps");
    let ran = run(["score", &image, "--json", "--maps", maps.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (width, map) = grey16(&maps.join("a.b.png"));
    let side = run(["info", "--json"]).json()[0]["config"]["input_size"]
        .as_u64()
        .unwrap();
    assert_eq!((u64::from(width), map.len() as u64), (side, side * side));
    let line = &ran.json()[0];
    let max = f64::from(*map.iter().max().unwrap()) / 65_535.0;
    assert!(
        (max - line["map_max"].as_f64().unwrap()).abs() <= 1.0 / 65_535.0,
        "{max}, {line}"
    );
    assert_eq!(std::fs::read_dir(&maps).unwrap().count(), 1);
}

#[test]
fn a_line_has_exactly_the_fields_that_are_promised() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.png"));
    let ran = run([
        "score",
        &image,
        "--json",
        "--threshold",
        "0",
        "--map-threshold",
        "0",
    ]);
    let line = ran.json().remove(0);
    let fields: Vec<_> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut wanted = [
        "image",
        "class_name",
        "score",
        "raw_score",
        "class_score",
        "map_max",
        "threshold",
        "anomalous",
        "calibrated",
        "regions",
        "model",
    ];
    wanted.sort_unstable();
    let mut found = fields.clone();
    found.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(line["anomalous"], true);
    // At a threshold of 0 the one region is the whole picture.
    let region = &line["regions"][0];
    assert_eq!(
        [&region["x"], &region["y"], &region["w"], &region["h"]].map(|v| v.as_u64().unwrap()),
        [0, 0, 40, 30]
    );
}

#[test]
fn without_json_a_row_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.png"));
    let ran = run(["score", &image, "--threshold", "0"]);
    let rows: Vec<_> = ran.out.lines().collect();
    assert_eq!(rows.len(), 2, "{ran:?}");
    assert!(
        rows[1].contains(&image) && rows[1].ends_with("ANOMALOUS"),
        "{ran:?}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let image = picture(&folder.path().join("a.png"));
    let mut child = acdclip()
        .args(["score", "--json"])
        .args(vec![&image; 8])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let ran = common::Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn a_wrong_config_says_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let import = || {
        let config = config.to_str().unwrap();
        run([
            "import",
            "--base",
            "b.safetensors",
            "--config",
            config,
            "-o",
            "o.safetensors",
        ])
    };
    assert!(
        import().complaint().contains("clip-vit-l-14-336"),
        "presets are listed"
    );
    for (text, wanted) in [
        ("{", "config.json"),
        ("{}", "vision"),
        (
            r#"{"groups": 5, "text_width": 8, "vision": {"width": 8, "layers": 10, "heads": 2, "patch_size": 2, "image_size": 8}}"#,
            "groups",
        ),
    ] {
        std::fs::write(&config, text).unwrap();
        let ran = import();
        assert!(ran.complaint().contains(wanted), "{ran:?}");
    }
}

#[test]
fn import_names_the_tensor_and_both_shapes() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut config: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden.join("n2_gelu/config.json")).unwrap())
            .unwrap();
    config["vision"]["width"] = 128.into();
    let (path, out) = (
        folder.path().join("config.json"),
        folder.path().join("out.safetensors"),
    );
    std::fs::write(&path, config.to_string()).unwrap();
    let [base, adapter] =
        ["clip_a_gelu_hf.safetensors", "n2_gelu/adapter_1.pth"].map(|name| golden.join(name));
    let [base, adapter, path, out_name] =
        [&base, &adapter, &path, &out].map(|p| p.to_str().unwrap());
    let ran = run([
        "import",
        "--base",
        base,
        "--adapter",
        adapter,
        "--config",
        path,
        "-o",
        out_name,
    ]);
    let complaint = ran.complaint();
    for part in ["clip_a_gelu_hf.safetensors", "vision_model.", "128", "64"] {
        assert!(complaint.contains(part), "{part:?} in {complaint}");
    }
    assert!(!out.exists());
}

#[test]
fn a_truncated_base_or_adapter_is_refused_and_leaves_no_bundle() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let config = golden.join("n2_gelu/config.json");
    let whole = [
        "clip_a_gelu_hf.safetensors",
        "clip_a_gelu_openai_jit_fp16.pt",
        "n2_gelu/adapter_1.pth",
    ]
    .map(|name| golden.join(name));
    for victim in &whole {
        let cut = folder
            .path()
            .join("cut")
            .with_extension(victim.extension().unwrap());
        let bytes = std::fs::read(victim).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
        let is_adapter = victim.ends_with("adapter_1.pth");
        let (base, adapter) = if is_adapter {
            (&whole[0], &cut)
        } else {
            (&cut, &whole[2])
        };
        let [base, adapter, config, out_name] =
            [base, adapter, &config, &out].map(|p| p.to_str().unwrap());
        let ran = run([
            "import",
            "--base",
            base,
            "--adapter",
            adapter,
            "--config",
            config,
            "-o",
            out_name,
        ]);
        assert!(ran.complaint().contains("cut."), "{ran:?}");
        assert!(!out.exists());
    }
}

#[test]
fn the_built_in_model_describes_itself() {
    let ran = run(["info"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in ["object", "licence", "trained on", "sha256"] {
        assert!(ran.out.contains(part), "{part:?} in {ran:?}");
    }
}
