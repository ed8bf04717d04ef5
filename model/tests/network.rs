//! The network by itself: what it reads, what it counts, what can be differentiated, and its short ways against its plain ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use acdclip_model::{
    Config,
    config::{AdapterKind, Domain, Form, Fusion},
    net::{AcdClip, TextEncoder},
};
use candle_core::{DType, Device, IndexOp, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder, VarMap, var_builder::SimpleBackend};

/// Gives zeros that take no memory, and remembers what was asked for.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.0
            .lock()
            .unwrap()
            .insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name}: asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Every tensor that the network of `config` reads.
fn read_by(config: &Config) -> BTreeMap<String, Vec<usize>> {
    let recorder = Recorder::default();
    let vb = VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
    AcdClip::new(config, vb.clone(), vb.clone()).unwrap();
    if let Some(text) = &config.text {
        TextEncoder::new(config, text, vb.clone(), vb).unwrap();
    }
    let read = recorder.0.lock().unwrap();
    read.clone()
}

fn trainable(tensors: &BTreeMap<String, Vec<usize>>) -> usize {
    tensors
        .iter()
        .filter(|(name, _)| name.starts_with("image_adapter.") || name.starts_with("text_adapter."))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

#[test]
fn vit_l_14_has_the_published_number_of_trainable_parameters() {
    // Counted in the official code.
    for (groups, parameters) in [
        (2, 6_639_624),
        (3, 9_960_978),
        (4, 13_283_360),
        (6, 19_931_208),
    ] {
        let mut config = Config::preset("clip-vit-l-14-336", Form::Official).unwrap();
        config.groups = groups;
        assert_eq!(trainable(&read_by(&config)), parameters, "{groups} groups");
    }
}

#[test]
fn the_schema_is_what_the_network_reads() {
    for mut config in [tiny(), Config::preset("compact", Form::Official).unwrap()] {
        for adapter in [AdapterKind::ConvLora, AdapterKind::Lora] {
            for fusion in [Fusion::Gateway, Fusion::Static] {
                (config.adapter, config.fusion) = (adapter, fusion);
                let schema: BTreeMap<_, _> =
                    acdclip_model::schema::schema(&config).into_iter().collect();
                assert_eq!(schema, read_by(&config));
            }
        }
    }
}

fn tiny() -> Config {
    Config::from_json(
        r#"{"groups": 3, "lora_rank": 4, "conv_lora_rank": 2, "mlp_hidden": 16, "gate_hidden": 8,
            "vision": {"width": 16, "layers": 6, "heads": 2, "patch_size": 4, "image_size": 20},
            "text": {"width": 8, "layers": 3, "heads": 2, "context_length": 16, "vocab_size": 49408}}"#,
    )
    .unwrap()
}

/// Random frozen towers, trainable adapters, random pictures and text features.
struct Fixture {
    net: AcdClip,
    folded: AcdClip,
    vars: VarMap,
    pixels: Tensor,
    text: Tensor,
}

impl Fixture {
    fn new(config: &Config) -> Self {
        let device = Device::Cpu;
        let towers = VarMap::new();
        // Built once for its variables, then read back as plain tensors: frozen.
        let vb = VarBuilder::from_varmap(&towers, DType::F32, &device);
        AcdClip::new(config, vb.clone(), vb).unwrap();
        let frozen = towers
            .data()
            .lock()
            .unwrap()
            .iter()
            .map(|(name, var)| {
                let values = Tensor::randn(0f32, 0.2, var.shape(), &device).unwrap();
                (name.clone(), values)
            })
            .collect();
        let base = VarBuilder::from_tensors(frozen, DType::F32, &device);
        let vars = VarMap::new();
        let adapters = VarBuilder::from_varmap(&vars, DType::F32, &device);
        let net = AcdClip::new(config, base.clone(), adapters.clone()).unwrap();
        let folded = AcdClip::new(config, base, adapters)
            .unwrap()
            .fold()
            .unwrap();
        let side = config.input_size;
        let pixels = Tensor::randn(0f32, 1.0, (2, 3, side, side), &device).unwrap();
        let text =
            Tensor::randn(0f32, 1.0, (1, config.groups, config.text_width, 2), &device).unwrap();
        Self {
            net,
            folded,
            vars,
            pixels,
            text,
        }
    }
}

fn largest_gap(a: &Tensor, b: &Tensor) -> f32 {
    let gap = (a - b).unwrap().abs().unwrap();
    gap.max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn short_ways_give_the_plain_map_in_every_form() {
    for form in [Form::Official, Form::Paper] {
        for adapter in [AdapterKind::ConvLora, AdapterKind::Lora] {
            for fusion in [Fusion::Gateway, Fusion::Static] {
                let mut config = tiny();
                (config.form, config.adapter, config.fusion) = (form, adapter, fusion);
                let f = Fixture::new(&config);
                let blur = (form == Form::Official).then(|| Domain::Medical.blur());
                let tokens = f.net.forward(&f.pixels).unwrap();
                let plain = f
                    .net
                    .probability_map(&tokens, &f.text, blur, tokens.grid)
                    .unwrap();
                let folded = f.folded.forward(&f.pixels).unwrap();
                let short = f.folded.patch_map(&folded, &f.text, blur).unwrap();
                let short = match form {
                    Form::Official => candle_nn::ops::sigmoid(&short).unwrap(),
                    Form::Paper => short,
                };
                let gap = largest_gap(&plain.i((.., 1)).unwrap(), &short);
                assert!(gap < 1e-4, "{form:?} {adapter:?} {fusion:?}: {gap}");
            }
        }
    }
}

#[test]
fn every_adapter_parameter_gets_a_gradient() {
    for form in [Form::Official, Form::Paper] {
        for adapter in [AdapterKind::ConvLora, AdapterKind::Lora] {
            let mut config = tiny();
            (config.form, config.adapter) = (form, adapter);
            let f = Fixture::new(&config);
            let tokens = f.net.forward(&f.pixels).unwrap();
            let map = f
                .net
                .probability_map(&tokens, &f.text, None, (20, 20))
                .unwrap();
            let class = f.net.class_logits(&tokens, &f.text).unwrap();
            let loss = (map.sqr().unwrap().sum_all().unwrap()
                + class.sqr().unwrap().sum_all().unwrap())
            .unwrap();
            let gradients = loss.backward().unwrap();
            for (name, var) in f.vars.data().lock().unwrap().iter() {
                // In the paper form only the last group's detection head takes part.
                if form == Form::Paper
                    && name.contains("det_")
                    && !name.contains("det_proj.2")
                    && !name.contains("det_layer_norms.2")
                {
                    continue;
                }
                let gradient = gradients
                    .get(var)
                    .unwrap_or_else(|| panic!("{form:?}: no gradient for {name}"));
                let norm = gradient
                    .sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap();
                assert!(norm.is_finite(), "{name}: {norm}");
            }
        }
    }
}

#[test]
fn nothing_before_the_first_tap_is_in_the_graph() {
    let config = tiny();
    let f = Fixture::new(&config);
    // Were the frozen blocks in the graph, the graph would reach the pixels.
    let pixels = Var::from_tensor(&f.pixels).unwrap();
    let through = f.net.forward(pixels.as_tensor()).unwrap().segmentation[0]
        .sum_all()
        .unwrap();
    assert!(
        through.backward().unwrap().get(&pixels).is_some(),
        "pixels that are a variable are reached"
    );
    let vision = acdclip_model::clip::vision::VisionTower::new(
        &config,
        VarBuilder::zeros(DType::F32, &Device::Cpu),
    )
    .unwrap();
    let tokens = vision.embed(&f.pixels).unwrap();
    let tokens = vision.run(&tokens, 0..config.vision_group()).unwrap();
    assert!(!tokens.track_op());
}

#[test]
fn a_picture_scores_the_same_alone_and_in_a_batch() {
    let f = Fixture::new(&tiny());
    let together = f.folded.forward(&f.pixels).unwrap();
    let together = f.folded.patch_map(&together, &f.text, None).unwrap();
    for i in 0..2 {
        let alone = f
            .folded
            .forward(&f.pixels.narrow(0, i, 1).unwrap())
            .unwrap();
        let alone = f.folded.patch_map(&alone, &f.text, None).unwrap();
        assert!(largest_gap(&alone, &together.narrow(0, i, 1).unwrap()) < 1e-5);
    }
}

#[test]
fn an_answer_is_a_pictures_class_and_its_map_blurred_as_it_asks() {
    let f = Fixture::new(&tiny());
    let tokens = f.folded.forward(&f.pixels).unwrap();
    let classes = f.folded.class_probability(&tokens, &f.text).unwrap();
    let classes = classes.to_vec1::<f32>().unwrap();
    let medical = Some(Domain::Medical.blur());
    for blurs in [[medical; 2], [None, medical], [medical, None]] {
        let answers = f.folded.answers(&tokens, &f.text, &blurs).unwrap();
        assert_eq!(answers.len(), 2);
        for (i, answer) in answers.into_iter().enumerate() {
            let maps = f.folded.patch_map(&tokens, &f.text, blurs[i]).unwrap();
            let wanted = maps.i(i).unwrap();
            let found = Tensor::from_vec(answer.values, wanted.shape(), &Device::Cpu).unwrap();
            assert!(largest_gap(&found, &wanted) < 1e-6, "picture {i}");
            assert_eq!(answer.class_score, classes[i]);
        }
    }
}

#[test]
fn inputs_need_not_be_square() {
    let f = Fixture::new(&tiny());
    let wide = Tensor::randn(0f32, 1.0, (1, 3, 12, 36), &Device::Cpu).unwrap();
    let tokens = f.net.forward(&wide).unwrap();
    assert_eq!(tokens.grid, (3, 9));
    assert_eq!(
        f.net.patch_map(&tokens, &f.text, None).unwrap().dims(),
        [1, 3, 9]
    );
    let odd = Tensor::zeros((1, 3, 12, 35), DType::F32, &Device::Cpu).unwrap();
    let error = f.net.forward(&odd).unwrap_err().to_string();
    assert!(error.contains("35x12"), "{error}");
}
