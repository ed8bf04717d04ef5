//! One step of training against the numbers of the authors' own code in PyTorch: losses, gradients, parameters afterwards.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use acdclip_model::{
    Config,
    import::Import,
    net::{AcdClip, TextEncoder},
};
use candle_core::{DType, Device, Tensor, Var};

use super::{
    loss::Loss,
    optimizer::{self, Adam, Gradients},
    parameters::Parameters,
    recipe::{LossPart, OptimizerPart},
};

const CASES: [&str; 2] = ["n2_gelu", "n4_quick_gelu"];

/// The folder of golden files, or `None` after saying that there is none.
fn golden() -> Option<PathBuf> {
    let shared = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let golden = shared.join("golden");
    if golden.is_dir() {
        return Some(golden);
    }
    println!(
        "skipped: no golden files at {} (set ACDCLIP_SHARED)",
        golden.display()
    );
    None
}

/// A golden case: what went in, what came out, and our network with its first parameters.
struct Case {
    expected: HashMap<String, Tensor>,
    parameters: Parameters,
    net: AcdClip,
    text: TextEncoder,
    config: Config,
}

impl Case {
    fn load(golden: &Path, name: &str) -> Self {
        Self::load_in(golden, name, DType::F32)
    }

    /// With towers in `dtype`.
    fn load_in(golden: &Path, name: &str, dtype: DType) -> Self {
        let folder = golden.join(name);
        let json = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = Config::from_json(&json).unwrap();
        let raw: serde_json::Value = serde_json::from_str(&json).unwrap();
        let base = golden.join(format!("{}_hf.safetensors", raw["base"].as_str().unwrap()));
        let adapters = folder.join("adapter_1.pth");
        let import = Import::open(&base, Some(&adapters), config.clone()).unwrap();
        let parameters = Parameters::new(0, Some(import.tensors().clone()), None);
        let frozen = import.var_builder(dtype, &Device::Cpu);
        let trained = parameters.var_builder(&Device::Cpu);
        let text = config.text.as_ref().unwrap();
        Self {
            expected: candle_core::safetensors::load(
                folder.join("expected.safetensors"),
                &Device::Cpu,
            )
            .unwrap(),
            net: AcdClip::new(&config, frozen.clone(), trained.clone()).unwrap(),
            text: TextEncoder::new(&config, text, frozen, trained).unwrap(),
            parameters,
            config,
        }
    }

    fn loss(&self) -> Loss {
        let side = self.config.input_size;
        let class = &self.config.classes[0];
        let features = self
            .text
            .class_features(&self.config.prompts, class)
            .unwrap();
        let text = features.unsqueeze(0).unwrap();
        let tokens = self.net.forward(&self.expected["input"]).unwrap();
        let map = self
            .net
            .probability_map(&tokens, &text, None, (side, side))
            .unwrap();
        let logits = self.net.class_logits(&tokens, &text).unwrap();
        let mask = self.expected["mask"].squeeze(1).unwrap();
        let labels = self.expected["label"].to_dtype(DType::U32).unwrap();
        Loss::of(&LossPart::default(), &map, &mask, &logits, &labels).unwrap()
    }

    fn gradients(&self) -> Gradients {
        let store = self.loss().total.backward().unwrap();
        optimizer::gradients(&store, &self.parameters.vars())
    }

    /// The golden tensors whose names begin with `prefix`, without it.
    fn golden(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        self.expected
            .iter()
            .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())))
            .collect()
    }

    /// The parameters after one step of the authors' optimizer with `gradients`.
    fn after(&self, mut gradients: Gradients) -> BTreeMap<String, Var> {
        let parameters = self.parameters.vars();
        let recipe = OptimizerPart::default();
        optimizer::clip_blend(&mut gradients, recipe.clip_blend).unwrap();
        Adam::default()
            .step(&recipe, 1.0, &parameters, &gradients)
            .unwrap();
        parameters
    }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn length(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Norm of the difference over the norm of `theirs`.
fn relative(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    let gap = ours.iter().zip(&theirs).map(|(a, b)| f64::from(a - b));
    length(gap) / length(theirs.iter().map(|x| f64::from(*x)))
}

/// Absolute differences, element by element.
fn gaps(ours: &Tensor, theirs: &Tensor) -> Vec<f32> {
    assert_eq!(ours.dims(), theirs.dims());
    let pairs = numbers(ours).into_iter().zip(numbers(theirs));
    pairs.map(|(a, b)| (a - b).abs()).collect()
}

#[test]
fn golden_losses_are_met() {
    let Some(golden) = golden() else { return };
    for name in CASES {
        let case = Case::load(&golden, name);
        let loss = case.loss();
        for (part, ours) in [
            ("total", &loss.total),
            ("focal", &loss.focal),
            ("dice_normal", &loss.dice_normal),
            ("dice_abnormal", &loss.dice_abnormal),
            ("ce", &loss.class),
        ] {
            let error = relative(ours, &case.expected[&format!("loss_{part}")]);
            println!("{name} {part}: {error:.1e}");
            assert!(error < 1e-5, "{name} {part}: {error}");
        }
    }
}

#[test]
fn golden_gradients_are_met() {
    let Some(golden) = golden() else { return };
    for name in CASES {
        let case = Case::load(&golden, name);
        let (ours, theirs) = (case.gradients(), case.golden("grad."));
        assert_eq!(ours.len(), theirs.len());
        let errors = theirs
            .iter()
            .map(|(parameter, gradient)| (relative(&ours[parameter], gradient), parameter));
        // No golden gradient is near zero (the least norm is 8e-5), so that each can be compared with its own.
        let (worst, parameter) = errors.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        println!("{name}: at most {worst:.1e}, {parameter}");
        assert!(worst < 1e-4, "{name} {parameter}: {worst}");
    }
}

#[test]
fn golden_gradients_are_nearly_met_in_half_precision() {
    let Some(golden) = golden() else { return };
    // Eleven and eight binary digits: one rounding is 5e-4 and 4e-3.
    for (dtype, allowed) in [(DType::F16, 0.01), (DType::BF16, 0.08)] {
        for name in CASES {
            let case = Case::load_in(&golden, name, dtype);
            let loss = relative(&case.loss().total, &case.expected["loss_total"]);
            assert!(loss < allowed, "{name} {dtype:?}: loss off by {loss}");
            let (ours, theirs) = (case.gradients(), case.golden("grad."));
            let (mut gaps, mut lengths) = (0.0, 0.0);
            for (parameter, gradient) in &theirs {
                let ours = &ours[parameter];
                assert_eq!(ours.dtype(), DType::F32);
                let norm = length(numbers(gradient).into_iter().map(f64::from));
                gaps += (relative(ours, gradient) * norm).powi(2);
                lengths += norm.powi(2);
            }
            let gradient = (gaps / lengths).sqrt();
            println!("{name} {dtype:?}: loss off by {loss:.1e}, gradient by {gradient:.1e}");
            assert!(gradient < allowed, "{name} {dtype:?}: {gradient}");
        }
    }
}

#[test]
fn a_step_holds_on_to_no_graph() {
    let Some(golden) = golden() else { return };
    let case = Case::load(&golden, CASES[0]);
    let (parameters, mut adam) = (case.parameters.vars(), Adam::default());
    for _ in 0..2 {
        let recipe = OptimizerPart::default();
        adam.step(&recipe, 1.0, &parameters, &case.gradients())
            .unwrap();
    }
    assert_eq!(adam.tensors().count(), 2 * parameters.len());
    for (name, moments) in adam.tensors() {
        assert!(!moments.track_op(), "{name}");
    }
}

#[test]
fn golden_parameters_follow_from_golden_gradients() {
    let Some(golden) = golden() else { return };
    for name in CASES {
        let case = Case::load(&golden, name);
        let after = case.after(case.golden("grad."));
        let theirs = case.golden("after.");
        assert_eq!(after.len(), theirs.len());
        let mut worst = 0.0_f32;
        for (parameter, theirs) in &theirs {
            let gap = gaps(&after[parameter], theirs)
                .into_iter()
                .fold(0.0, f32::max);
            assert!(gap < 1e-6, "{name} {parameter}: {gap}");
            worst = worst.max(gap);
        }
        println!("{name}: at most {worst:.1e}");
    }
}

#[test]
fn golden_parameters_follow_from_our_gradients() {
    let Some(golden) = golden() else { return };
    for name in CASES {
        let case = Case::load(&golden, name);
        let after = case.after(case.gradients());
        let gaps: Vec<f32> = case
            .golden("after.")
            .iter()
            .flat_map(|(parameter, theirs)| gaps(&after[parameter], theirs))
            .collect();
        let near = gaps.iter().filter(|gap| **gap < 1e-6).count() as f64 / gaps.len() as f64;
        println!("{name}: {:.3} % within 1e-6", near * 100.0);
        // Adam's first step is the gradient's sign times the rate: a gradient of nothing but rounding may point the other way.
        assert!(near >= 0.99, "{name}: {near}");
    }
}
