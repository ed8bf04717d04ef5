//! Import and scoring, through the command line, give what the authors' code computed.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{grey16, run, shared};
use safetensors::SafeTensors;

/// CLIP's mean and standard deviation, which the golden inputs are normalised with.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_5, 0.261_302_6, 0.275_777_1];
const SIDE: usize = 70;

/// A way to say the same weights, and how near to the expected numbers they come.
struct Base {
    file: &'static str,
    within: f32,
}

const GELU: [Base; 3] = [
    Base {
        file: "clip_a_gelu_hf.safetensors",
        within: 1e-4,
    },
    Base {
        file: "clip_a_gelu_openai.safetensors",
        within: 1e-4,
    },
    Base {
        file: "clip_a_gelu_openai_jit_fp16.pt",
        within: 2e-3,
    },
];
const QUICK_GELU: [Base; 1] = [Base {
    file: "clip_b_quick_gelu_hf.safetensors",
    within: 1e-4,
}];

/// The expected numbers of a case, of its first picture.
struct Expected(Vec<u8>);

impl Expected {
    fn read(golden: &Path, case: &str) -> Self {
        Self(std::fs::read(golden.join(case).join("expected.safetensors")).unwrap())
    }

    fn first(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let pictures = tensor.shape()[0];
        let floats = tensor
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let floats: Vec<f32> = floats.collect();
        floats[..floats.len() / pictures].to_vec()
    }

    /// The first input as the picture that it was: 8 bits a sample.
    fn write_picture(&self, path: &Path) {
        let input = self.first("input");
        let sample = |x: usize, y: usize, c: usize| {
            let value = (input[(c * SIDE + y) * SIDE + x] * STD[c] + MEAN[c]) * 255.0;
            assert!(
                (value - value.round()).abs() < 1e-3,
                "no 8-bit picture: {value}"
            );
            value.round() as u8
        };
        let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| sample(x as usize, y as usize, c)));
        image::RgbImage::from_fn(SIDE as u32, SIDE as u32, pixel)
            .save(path)
            .unwrap();
    }
}

fn adapters(golden: &Path, case: &str) -> Vec<PathBuf> {
    let names = ["adapter_1.pth", "adapter.safetensors"];
    names
        .iter()
        .map(|name| golden.join(case).join(name))
        .filter(|path| path.exists())
        .collect()
}

fn import(golden: &Path, case: &str, base: &str, adapter: &Path, dtype: &str, out: &Path) {
    let config = golden.join(case).join("config.json");
    let base = golden.join(base);
    let arguments: [&std::ffi::OsStr; 11] = [
        "import".as_ref(),
        "--base".as_ref(),
        base.as_ref(),
        "--config".as_ref(),
        config.as_ref(),
        "--adapter".as_ref(),
        adapter.as_ref(),
        "--dtype".as_ref(),
        dtype.as_ref(),
        "--output".as_ref(),
        out.as_ref(),
    ];
    let ran = run(arguments);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("rail surface"), "{ran:?}");
}

/// Scores the case's picture with `model` and holds score and map against the expected ones.
fn compare(folder: &Path, expected: &Expected, model: &Path, domain: &str, within: f32) {
    let (picture, maps) = (folder.join("input.png"), folder.join("maps"));
    expected.write_picture(&picture);
    let [picture, model, maps_name] = [&picture, model, &maps].map(|path| path.to_str().unwrap());
    let ran = run([
        "score", picture, "--model", model, "--domain", domain, "--json", "--maps", maps_name,
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let score = ran.json()[0]["score"].as_f64().unwrap() as f32;
    let wanted = expected.first(&format!("score_{domain}"))[0];
    assert!(
        (score - wanted).abs() <= within,
        "{model} {domain}: score {score}, wanted {wanted}"
    );
    let (width, map) = grey16(&maps.join("input.png"));
    assert_eq!(width as usize, SIDE);
    for (found, wanted) in map.iter().zip(expected.first(&format!("map_{domain}"))) {
        let found = f32::from(*found) / 65_535.0;
        // Half a step of 16 bits on top.
        assert!(
            (found - wanted).abs() <= within + 1e-5,
            "{model} {domain}: {found}, wanted {wanted}"
        );
    }
}

fn check(case: &str, bases: &[Base]) {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let expected = Expected::read(&golden, case);
    for base in bases {
        for adapter in adapters(&golden, case) {
            let model = folder.path().join("model.safetensors");
            import(&golden, case, base.file, &adapter, "f32", &model);
            for domain in ["industrial", "medical"] {
                compare(folder.path(), &expected, &model, domain, base.within);
            }
        }
    }
}

#[test]
fn two_groups() {
    check("n2_gelu", &GELU);
}

#[test]
fn three_groups() {
    check("n3_gelu", &GELU);
}

#[test]
fn four_groups_quick_gelu() {
    check("n4_quick_gelu", &QUICK_GELU);
}

#[test]
fn six_groups() {
    check("n6_gelu", &GELU);
}

#[test]
fn half_precision_storage_stays_near() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (case, model) = ("n2_gelu", folder.path().join("model.safetensors"));
    let expected = Expected::read(&golden, case);
    let [adapter, ..] = &adapters(&golden, case)[..] else {
        panic!("no adapters")
    };
    let mut sizes = Vec::new();
    for (dtype, within) in [("f32", 1e-4), ("f16", 2e-3), ("bf16", 2e-2), ("q8", 2e-2)] {
        import(&golden, case, GELU[0].file, adapter, dtype, &model);
        compare(folder.path(), &expected, &model, "industrial", within);
        sizes.push(std::fs::metadata(&model).unwrap().len());
    }
    let [full, f16, bf16, q8] = sizes[..] else {
        unreachable!()
    };
    assert!(
        full > 3 * f16 / 2 && f16.abs_diff(bf16) < 1024 && f16 > q8,
        "{sizes:?}"
    );
}

#[test]
fn a_prompt_may_differ_from_the_name() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    let path = |name: &str| golden.join(name).to_str().unwrap().to_owned();
    let base = path("clip_a_gelu_hf.safetensors");
    let (config, adapter) = (path("n2_gelu/config.json"), path("n2_gelu/adapter_1.pth"));
    let model = model.to_str().unwrap();
    let classes = ["--class", "rail surface", "--class", "track=rail surface"];
    let ran = run([
        "import",
        "--base",
        &base,
        "--config",
        &config,
        "--adapter",
        &adapter,
        "-o",
        model,
    ]
    .iter()
    .chain(&classes));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let picture = path("image.png");
    let score = |class: &[&str]| {
        let ran = run(["score", &picture, "--json", "--model", model]
            .iter()
            .chain(class));
        let line = ran.json().remove(0);
        (
            line["class_name"].as_str().unwrap().to_owned(),
            line["score"].as_f64().unwrap(),
        )
    };
    let (named, first) = score(&[]);
    let (other, second) = score(&["--class", "track"]);
    assert_eq!((named.as_str(), other.as_str()), ("rail surface", "track"));
    assert_eq!(first, second);
    // A class that is not baked: the text tower, which the bundle has kept, makes its features.
    assert_ne!(score(&["--class", "leather"]).1, first);
}

#[test]
fn info_says_what_went_in() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    import(
        &golden,
        "n2_gelu",
        GELU[0].file,
        &golden.join("n2_gelu/adapter_1.pth"),
        "f32",
        &model,
    );
    let model = model.to_str().unwrap();
    let ran = run(["info", model, "--verify"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for part in [
        "rail surface",
        "clip_a_gelu_hf.safetensors",
        "adapter_1.pth",
        "sha256",
        "Conv-LoRA",
        "70 x 70 px",
    ] {
        assert!(ran.out.contains(part), "{part:?} in {ran:?}");
    }
    let json = &run(["info", model, "--json"]).json()[0];
    assert_eq!(json["config"]["groups"], 2);
    assert_eq!(json["classes"][0], "rail surface");
    let score = &run([
        "score",
        golden.join("image.png").to_str().unwrap(),
        "--json",
        "--model",
        model,
    ])
    .json()[0];
    assert!(
        json["hash"]
            .as_str()
            .unwrap()
            .starts_with(score["model"].as_str().unwrap())
    );
}

#[test]
fn a_toml_config_is_read_like_json() {
    let Some(golden) = shared("golden") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden.join("n2_gelu/config.json")).unwrap())
            .unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, toml::to_string(&json).unwrap()).unwrap();
    let hash = |config: &Path| {
        let out = folder.path().join("model.safetensors");
        let base = golden.join(GELU[0].file);
        let adapter = golden.join("n2_gelu/adapter_1.pth");
        let [base, config, adapter, out] =
            [&base, config, &adapter, &out].map(|p| p.to_str().unwrap());
        let ran = run([
            "import",
            "--base",
            base,
            "--config",
            config,
            "--adapter",
            adapter,
            "-o",
            out,
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out
    };
    assert_eq!(hash(&config), hash(&golden.join("n2_gelu/config.json")));
}
