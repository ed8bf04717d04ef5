//! The compact model: the bundle and the adapters in the repository, and the network against numbers that another code computed for the
//! first weights of this shape.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use acdclip_model::{
    Config, Frame,
    bundle::Bundle,
    import::Import,
    map::AnomalyMap,
    net::{AcdClip, Answer},
    preprocess::{Placement, Preprocessor, Scratch, View},
};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    if shared
        .join("weights/compact_seed_check.safetensors")
        .is_file()
    {
        return Some(shared);
    }
    println!(
        "skipped: no seed of the compact model under {}",
        shared.display()
    );
    None
}

fn bundle_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/compact.safetensors")
}

/// How far a network is from the seed's numbers: logit differences, class logits, map.
struct Gaps {
    logits: f32,
    class: f32,
    map: f32,
}

fn gaps(config: &Config, vb: VarBuilder<'_>, bank: &Tensor, shared: &Path) -> Gaps {
    let check: HashMap<String, Tensor> = candle_core::safetensors::load(
        shared.join("weights/compact_seed_check.safetensors"),
        &Device::Cpu,
    )
    .unwrap();
    let net = AcdClip::new(config, vb.clone(), vb)
        .unwrap()
        .fold()
        .unwrap();
    let text = bank.unsqueeze(0).unwrap();
    let tokens = net.forward(&check["input"]).unwrap();
    let logits = net
        .patch_map(&tokens, &text, config.blur)
        .unwrap()
        .squeeze(0)
        .unwrap();
    let class = net.class_logits(&tokens, &text).unwrap();
    let (rows, columns) = tokens.grid;
    let side = config.input_size;
    let whole = Placement {
        x: 0.0,
        y: 0.0,
        width: side as f32,
        height: side as f32,
    };
    let values = logits.flatten_all().unwrap().to_vec1().unwrap();
    let map = AnomalyMap::new(
        (columns, rows),
        values,
        net.map_values(),
        (side, side),
        whole,
    )
    .unwrap();
    let map = Tensor::from_vec(map.upsample(), (side, side), &Device::Cpu).unwrap();
    let gap = |a: &Tensor, b: &Tensor| -> f32 {
        let gap = (a - b).unwrap().abs().unwrap();
        gap.max_all().unwrap().to_scalar().unwrap()
    };
    Gaps {
        logits: gap(&logits, &check["logit_difference"]),
        class: gap(&class, &check["cls_logits"]),
        map: gap(&map, &check["map"]),
    }
}

#[test]
fn the_built_in_bundle_is_small_and_whole() {
    let bundle = Bundle::open(&bundle_path()).unwrap();
    bundle.verify().unwrap();
    assert!(bundle.size() < 26_000_000, "{} bytes", bundle.size());
    assert_eq!(bundle.classes(), ["object"]);
    assert!(
        bundle.provenance().licence.is_some(),
        "the bundle must say under which terms its weights may be used"
    );
    assert!(
        bundle.provenance().data.is_some(),
        "the bundle must say what it was trained on"
    );
}

#[test]
fn the_zero_shot_adapters_fit_the_built_in_tower() {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let config = std::fs::read_to_string(weights.join("compact-zero-shot.json")).unwrap();
    let config = Config::from_json(&config).unwrap();
    let adapters = weights.join("compact-zero-shot.safetensors");
    let import = Import::open(&bundle_path(), Some(&adapters), config).unwrap();
    assert_eq!(
        import.text_bank().get("object").unwrap().dims(),
        [2, 128, 2]
    );
}

#[test]
fn the_f32_form_reproduces_the_seed() {
    let Some(shared) = shared() else { return };
    let Some(tower) = std::env::var_os("ACDCLIP_COMPACT_TOWER") else {
        println!(
            "skipped: ACDCLIP_COMPACT_TOWER does not name the f32 tower; `make compact-check` makes it and runs this test"
        );
        return;
    };
    let config = std::fs::read_to_string(shared.join("weights/compact_seed.json")).unwrap();
    let config = Config::from_json(&config).unwrap();
    let seed = shared.join("weights/compact_seed.safetensors");
    let import = Import::open(Path::new(&tower), Some(&seed), config.clone()).unwrap();
    let vb = import.var_builder(DType::F32, &Device::Cpu);
    let found = gaps(
        &config,
        vb,
        import.text_bank().get("object").unwrap(),
        &shared,
    );
    println!(
        "f32: logits {} class {} map {}",
        found.logits, found.class, found.map
    );
    for gap in [found.logits, found.class, found.map] {
        assert!(
            gap <= 1e-3,
            "logits {} class {} map {}",
            found.logits,
            found.class,
            found.map
        );
    }
}

/// A grey sheet of 96 x 80 pixels with grain and, where `flawed`, a bright spot.
fn sheet(flawed: bool) -> Vec<u8> {
    let pixel = |(x, y): (i32, i32)| {
        let spot = flawed && (x - 60).pow(2) + (y - 30).pow(2) < 60;
        let grain = (x * 31 + y * 17 + x * y * 7) % 23;
        [if spot { 240 } else { 110 + grain as u8 }; 3]
    };
    let rows = (0..80).flat_map(|y| (0..96).map(move |x| (x, y)));
    rows.flat_map(pixel).collect()
}

/// What the compact model, computed by candle's operations with a tower of type `tower`, says of a whole sheet and a flawed one.
fn answers(bundle: &Bundle, tower: DType) -> Vec<Answer> {
    let config = bundle.config();
    let tower = bundle.var_builder(tower, &Device::Cpu);
    let adapters = bundle.var_builder(DType::F32, &Device::Cpu);
    let net = AcdClip::new(config, tower, adapters)
        .unwrap()
        .fold()
        .unwrap();
    let side = config.input_size;
    let preprocessor = Preprocessor::new(side, side, config.image_mean, config.image_std).unwrap();
    let mut pixels = vec![0.0; 2 * preprocessor.len()];
    let inputs = pixels.chunks_exact_mut(preprocessor.len());
    for (input, flawed) in inputs.zip([false, true]) {
        let sheet = sheet(flawed);
        let frame = Frame::rgb(&sheet, 3 * 96, 96, 80).unwrap();
        let mut scratch = Scratch::default();
        preprocessor
            .run(&frame, View::default(), &mut scratch, input)
            .unwrap();
    }
    let pixels = Tensor::from_vec(pixels, (2, 3, side, side), &Device::Cpu).unwrap();
    let text = bundle.text_bank().unwrap();
    let text = text.get("object").unwrap().unsqueeze(0).unwrap();
    let tokens = net.forward(&pixels).unwrap();
    net.answers(&tokens, &text, &[config.blur; 2]).unwrap()
}

/// The steps that a GPU takes with precision=bf16, taken on the CPU.
#[test]
fn a_tower_in_bf16_gives_the_map_of_one_in_f32() {
    let bundle = Bundle::open(&bundle_path()).unwrap();
    let exact = answers(&bundle, DType::F32);
    let rounded = answers(&bundle, DType::BF16);
    assert_ne!(exact, rounded, "nothing was rounded");
    let probability = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    for (a, b) in exact.iter().zip(&rounded) {
        let gaps = a.values.iter().zip(&b.values);
        let map = gaps
            .map(|(a, b)| (probability(*a) - probability(*b)).abs())
            .fold(0.0, f32::max);
        let class = (a.class_score - b.class_score).abs();
        println!("map off by {map:.1e}, class probability by {class:.1e}");
        assert!(map < 1e-2 && class < 1e-2, "map {map}, class {class}");
    }
}
