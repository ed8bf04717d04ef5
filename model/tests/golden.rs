//! The network against numbers that the authors' own code computed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::HashMap, path::PathBuf};

use acdclip_model::{
    Config,
    config::Domain,
    map::AnomalyMap,
    net::{AcdClip, TextEncoder, Tokens},
    preprocess::Placement,
};
use candle_core::{DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;

const CASES: [&str; 4] = ["n2_gelu", "n3_gelu", "n4_quick_gelu", "n6_gelu"];

/// Largest absolute difference allowed in f32.
const TOLERANCE: f32 = 1e-4;

/// The folder of golden files, or `None` after saying that there is none.
fn golden() -> Option<PathBuf> {
    let shared = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let golden = shared.join("golden");
    if golden.is_dir() {
        return Some(golden);
    }
    println!("skipped: no golden files at {}", golden.display());
    None
}

fn gap(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let gap = (a - b).unwrap().abs().unwrap();
    gap.flatten_all()
        .unwrap()
        .max(0)
        .unwrap()
        .to_scalar()
        .unwrap()
}

#[track_caller]
fn assert_close(what: &str, ours: &Tensor, golden: &Tensor) {
    let gap = gap(ours, golden);
    assert!(gap <= TOLERANCE, "{what}: differs by {gap}");
}

struct Case {
    name: &'static str,
    config: Config,
    expected: HashMap<String, Tensor>,
    plain: AcdClip,
    folded: AcdClip,
    text: TextEncoder,
    class: String,
}

impl Case {
    fn load(golden: &std::path::Path, name: &'static str) -> Self {
        let dir = golden.join(name);
        let json = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let config = Config::from_json(&json).unwrap();
        let raw: serde_json::Value = serde_json::from_str(&json).unwrap();
        let base = golden.join(format!("{}_hf.safetensors", raw["base"].as_str().unwrap()));
        let import = acdclip_model::import::Import::open(
            &base,
            Some(&dir.join("adapter_1.pth")),
            config.clone(),
        )
        .unwrap();
        let vb: VarBuilder<'_> = import.var_builder(DType::F32, &Device::Cpu);
        let text = config.text.as_ref().unwrap();
        Self {
            name,
            expected: candle_core::safetensors::load(
                dir.join("expected.safetensors"),
                &Device::Cpu,
            )
            .unwrap(),
            plain: AcdClip::new(&config, vb.clone(), vb.clone()).unwrap(),
            folded: AcdClip::new(&config, vb.clone(), vb.clone())
                .unwrap()
                .fold()
                .unwrap(),
            text: TextEncoder::new(&config, text, vb.clone(), vb).unwrap(),
            class: config.classes[0].clone(),
            config,
        }
    }

    fn golden(&self, key: &str) -> &Tensor {
        &self.expected[key]
    }

    fn text_features(&self) -> Tensor {
        self.text
            .class_features(&self.config.prompts, &self.class)
            .unwrap()
    }

    fn check_tokens(&self, tokens: &Tokens) {
        let segmentation = Tensor::stack(&tokens.segmentation, 0).unwrap();
        assert_close(
            "segmentation tokens",
            &segmentation,
            self.golden("seg_tokens"),
        );
        let detection = Tensor::stack(&tokens.detection, 0).unwrap();
        assert_close("detection tokens", &detection, self.golden("det_tokens"));
    }
}

fn map_at(patch_map: &Tensor, net: &AcdClip, image: usize, side: usize) -> AnomalyMap {
    let values = patch_map.i(image).unwrap();
    let (rows, columns) = values.dims2().unwrap();
    let whole = Placement {
        x: 0.0,
        y: 0.0,
        width: side as f32,
        height: side as f32,
    };
    let values = values.flatten_all().unwrap().to_vec1().unwrap();
    AnomalyMap::new(
        (columns, rows),
        values,
        net.map_values(),
        (side, side),
        whole,
    )
    .unwrap()
}

#[test]
fn every_case_computes_what_the_official_code_computes() {
    let Some(golden) = golden() else { return };
    for name in CASES {
        let case = Case::load(&golden, name);
        println!("{}", case.name);
        let text = case.text_features();
        assert_close("text features", &text, case.golden("text_features"));
        let text = text.unsqueeze(0).unwrap();
        let input = case.golden("input");
        for net in [&case.plain, &case.folded] {
            let tokens = net.forward(input).unwrap();
            case.check_tokens(&tokens);
            assert_close(
                "class logits",
                &net.class_logits(&tokens, &text).unwrap(),
                case.golden("cls_logits"),
            );
            let class = net
                .class_probability(&tokens, &text)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            for (domain, suffix) in [
                (Domain::Industrial, "industrial"),
                (Domain::Medical, "medical"),
            ] {
                check_domain(&case, net, &tokens, &text, &class, domain, suffix);
            }
        }
    }
}

fn check_domain(
    case: &Case,
    net: &AcdClip,
    tokens: &Tokens,
    text: &Tensor,
    class: &[f32],
    domain: Domain,
    suffix: &str,
) {
    let side = case.config.input_size;
    let golden_map = case.golden(&format!("map_{suffix}"));
    let golden_score = case
        .golden(&format!("score_{suffix}"))
        .to_vec1::<f32>()
        .unwrap();
    let plain = net
        .probability_map(tokens, text, Some(domain.blur()), (side, side))
        .unwrap();
    assert_close(
        "plain map",
        &plain.i((.., 1)).unwrap().contiguous().unwrap(),
        golden_map,
    );
    let patch_map = net.patch_map(tokens, text, Some(domain.blur())).unwrap();
    for image in 0..2 {
        let map = map_at(&patch_map, net, image, side);
        let upsampled = Tensor::from_vec(map.upsample(), (side, side), &Device::Cpu).unwrap();
        assert_close("short map", &upsampled, &golden_map.i(image).unwrap());
        let weights = domain.image_score();
        let score = weights.cls * class[image] + weights.map_max * map.max();
        assert!(
            (score - golden_score[image]).abs() <= TOLERANCE,
            "score {score} {}",
            golden_score[image]
        );
    }
}

#[test]
fn the_training_map_is_the_official_one() {
    let Some(golden) = golden() else { return };
    for name in ["n2_gelu", "n4_quick_gelu"] {
        let case = Case::load(&golden, name);
        let text = case.text_features().unsqueeze(0).unwrap();
        let tokens = case.plain.forward(case.golden("input")).unwrap();
        let side = case.config.input_size;
        let map = case
            .plain
            .probability_map(&tokens, &text, None, (side, side))
            .unwrap();
        assert_close("training map", &map, case.golden("train_map"));
    }
}

#[test]
fn position_tables_are_resized_as_the_official_code_does() {
    let Some(golden) = golden() else { return };
    let tables =
        candle_core::safetensors::load(golden.join("pos_embed.safetensors"), &Device::Cpu).unwrap();
    for (from, to) in [(16, 16), (24, 37), (37, 18), (5, 7)] {
        let table = &tables[&format!("in_{from}_to_{to}")];
        let resized = acdclip_model::clip::vision::resize_positions(table, from, (to, to)).unwrap();
        let gap = gap(&resized, &tables[&format!("out_{from}_to_{to}")]);
        assert!(gap <= TOLERANCE, "{from} to {to}: {gap}");
    }
}
