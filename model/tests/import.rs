//! Other people's files: each of the published forms gives the same model, and what does not fit is refused by name and shape.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod weights;

use std::collections::HashMap;
use std::path::Path;

use acdclip_model::bundle::{Bundle, Provenance, StoragePolicy};
use acdclip_model::config::{AdapterKind, Config, Fusion};
use acdclip_model::import::Import;
use acdclip_model::schema;
use acdclip_model::tensors::{Dtype, TensorFile};
use acdclip_model::text_bank::TextBank;
use candle_core::{DType, Device, Tensor};
use weights::{golden_config, save, shared, tensors, tiny_config};

fn error(base: &Path, adapter: Option<&Path>, config: Config) -> String {
    Import::open(base, adapter, config)
        .err()
        .expect("wanted an error")
        .to_string()
}

fn largest_difference(a: &Import, b: &Import) -> f32 {
    let names: Vec<_> = a.tensors().names().collect();
    assert_eq!(names, b.tensors().names().collect::<Vec<_>>());
    let mut largest = 0f32;
    for name in names {
        let (x, y) = (
            a.tensors().read(name).unwrap(),
            b.tensors().read(name).unwrap(),
        );
        assert_eq!(x.len(), y.len(), "{name}");
        largest = x
            .iter()
            .zip(&y)
            .fold(largest, |max, (x, y)| max.max((x - y).abs()));
    }
    largest
}

/// The golden base under Hugging Face's names, with the official adapters.
fn golden(base: &str, adapter: &str) -> Option<Import> {
    let base = shared(&format!("golden/{base}"))?;
    let adapter = shared(&format!("golden/n2_gelu/{adapter}"))?;
    Some(Import::open(&base, Some(&adapter), golden_config("n2_gelu")?).unwrap())
}

#[test]
fn every_form_of_the_same_weights_gives_the_same_tensors() {
    let Some(plain) = golden("clip_a_gelu_hf.safetensors", "adapter.safetensors") else {
        return;
    };
    assert!(plain.has_text_tower() && plain.has_adapters());
    assert_eq!(
        plain.tensors().names().count(),
        schema::schema(plain.config()).len()
    );
    for (base, adapter, tolerance) in [
        ("clip_a_gelu_hf.safetensors", "adapter_1.pth", 0.0),
        ("clip_a_gelu_openai.safetensors", "adapter_1.pth", 0.0),
        // Half precision keeps 11 bits; the largest weight is below 4.
        (
            "clip_a_gelu_openai_jit_fp16.pt",
            "adapter.safetensors",
            4.0 / 2048.0,
        ),
    ] {
        let other = golden(base, adapter).unwrap();
        let difference = largest_difference(&plain, &other);
        assert!(difference <= tolerance, "{base}: {difference}");
    }
}

#[test]
fn the_half_precision_archive_holds_the_halves_of_the_plain_file() {
    let (Some(plain), Some(half)) = (
        golden("clip_a_gelu_openai.safetensors", "adapter.safetensors"),
        golden("clip_a_gelu_openai_jit_fp16.pt", "adapter.safetensors"),
    ) else {
        return;
    };
    for name in plain.tensors().names() {
        let (wanted, found) = (
            plain.tensors().read(name).unwrap(),
            half.tensors().read(name).unwrap(),
        );
        for (wanted, found) in wanted.iter().zip(&found) {
            assert!(
                (wanted - found).abs() <= wanted.abs() / 2048.0 + 1e-7,
                "{name}: {wanted} {found}"
            );
        }
    }
}

#[test]
fn every_golden_checkpoint_fits_its_config() {
    for case in ["n2_gelu", "n3_gelu", "n4_quick_gelu", "n6_gelu"] {
        let Some(config) = golden_config(case) else {
            return;
        };
        let base = if case == "n4_quick_gelu" {
            "clip_b_quick_gelu"
        } else {
            "clip_a_gelu"
        };
        let base = shared(&format!("golden/{base}_hf.safetensors")).unwrap();
        let adapter = shared(&format!("golden/{case}/adapter_1.pth")).unwrap();
        Import::open(&base, Some(&adapter), config).unwrap();
        assert_eq!(
            TensorFile::open(&adapter).unwrap().integer("epoch"),
            Some(1),
            "{case}"
        );
    }
}

#[test]
fn a_base_without_a_text_tower_needs_a_bank() {
    let Some(seed) = shared("weights/compact_seed.safetensors") else {
        return;
    };
    let text = std::fs::read_to_string(shared("weights/compact_seed.json").unwrap()).unwrap();
    let config = Config::from_json(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("tower.safetensors");
    save(&tensors(&schema::vision_tower(&config)), &base);
    let import = Import::open(&base, Some(&seed), config).unwrap();
    assert!(!import.has_text_tower());
    assert_eq!(
        import.text_bank().get("object").unwrap().dims(),
        [2, 128, 2]
    );

    let config = tiny_config();
    save(&tensors(&schema::vision_tower(&config)), &base);
    let mut adapters = tensors(&schema::image_adapter(&config));
    let adapter = folder.path().join("adapter.safetensors");
    save(&adapters, &adapter);
    let said = error(&base, Some(&adapter), config.clone());
    assert!(
        said.contains("tower.safetensors") && said.contains("text_bank"),
        "{said}"
    );
    adapters.insert(
        "text_bank.rail".into(),
        Tensor::zeros((2, 4, 2), DType::F32, &Device::Cpu).unwrap(),
    );
    save(&adapters, &adapter);
    assert!(
        !Import::open(&base, Some(&adapter), config)
            .unwrap()
            .has_text_tower()
    );
}

/// The tiny model as base and adapter files in a folder of their own.
fn tiny(
    config: &Config,
) -> (
    tempfile::TempDir,
    HashMap<String, Tensor>,
    HashMap<String, Tensor>,
) {
    let base = [schema::vision_tower(config), schema::text_tower(config)].concat();
    let adapter = [schema::image_adapter(config), schema::text_adapter(config)].concat();
    (
        tempfile::tempdir().unwrap(),
        tensors(&base),
        tensors(&adapter),
    )
}

fn open_tiny(
    folder: &Path,
    base: &HashMap<String, Tensor>,
    adapter: &HashMap<String, Tensor>,
    config: Config,
) -> acdclip_model::Result<Import> {
    let (base_file, adapter_file) = (folder.join("base"), folder.join("adapter"));
    save(base, &base_file);
    save(adapter, &adapter_file);
    Import::open(&base_file, Some(&adapter_file), config)
}

#[test]
fn both_ablations_fit() {
    let mut config = tiny_config();
    config.adapter = AdapterKind::Lora;
    config.fusion = Fusion::Static;
    let (folder, base, adapter) = tiny(&config);
    assert!(adapter.contains_key("image_adapter.lora_adapters.1.lora_A"));
    assert!(
        !adapter
            .keys()
            .any(|name| name.contains("gate") || name.contains("conv"))
    );
    open_tiny(folder.path(), &base, &adapter, config).unwrap();
}

#[test]
fn prefixes_are_tolerated() {
    let config = tiny_config();
    let (folder, base, adapter) = tiny(&config);
    let under = |prefix: &str, tensors: &HashMap<String, Tensor>| -> HashMap<_, _> {
        tensors
            .iter()
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()))
            .collect()
    };
    let plain = open_tiny(folder.path(), &base, &adapter, config.clone()).unwrap();
    let base = under("module.", &base);
    let adapter = under("state_dict.", &adapter);
    let other = open_tiny(folder.path(), &base, &adapter, config).unwrap();
    assert_eq!(largest_difference(&plain, &other), 0.0);
}

#[test]
fn open_clips_own_text_tower_is_found() {
    let Some(path) = shared("golden/clip_a_gelu_openai.safetensors") else {
        return;
    };
    let adapter = shared("golden/n2_gelu/adapter.safetensors").unwrap();
    let file = TensorFile::open(&path).unwrap();
    let renamed: HashMap<_, _> = file
        .names()
        .map(|name| {
            let (_, shape) = file.info(name).unwrap();
            let tensor = Tensor::from_vec(file.read(name).unwrap(), shape, &Device::Cpu).unwrap();
            let name = if name.starts_with("visual.") {
                name.into()
            } else {
                format!("text.{name}")
            };
            (name, tensor)
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("open_clip_model.safetensors");
    save(&renamed, &base);
    let config = golden_config("n2_gelu").unwrap();
    let other = Import::open(&base, Some(&adapter), config.clone()).unwrap();
    let plain = Import::open(&path, Some(&adapter), config).unwrap();
    assert_eq!(largest_difference(&plain, &other), 0.0);
}

#[test]
fn a_wrong_width_is_named_with_both_shapes() {
    let Some(base) = shared("golden/clip_a_gelu_hf.safetensors") else {
        return;
    };
    let adapter = shared("golden/n2_gelu/adapter_1.pth").unwrap();
    let mut config = golden_config("n2_gelu").unwrap();
    config.vision.width = 32;
    let said = error(&base, Some(&adapter), config.clone());
    for part in [
        "clip_a_gelu_hf.safetensors",
        "vision_model.embeddings.class_embedding",
        "[32]",
        "[64]",
    ] {
        assert!(said.contains(part), "{said}");
    }
    config.vision.width = 64;
    config.lora_rank = 8;
    let said = error(&base, Some(&adapter), config);
    for part in [
        "adapter_1.pth",
        "image_adapter.lora_adapters.0.conv_lora_blocks.0.lora_A",
        "[64, 8]",
        "[64, 16]",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_position_table_of_another_grid_is_explained() {
    let Some(base) = shared("golden/clip_a_gelu_openai.safetensors") else {
        return;
    };
    let mut config = golden_config("n2_gelu").unwrap();
    config.vision.image_size = 98;
    let said = error(&base, None, config);
    for part in [
        "visual.positional_embedding",
        "[50, 64]",
        "[26, 64]",
        "7 x 7",
        "5 x 5",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_model_that_the_config_cuts_short_is_refused() {
    let config = tiny_config();
    let (folder, base, adapter) = tiny(&config);
    let mut deeper = base.clone();
    for (name, tensor) in &base {
        deeper.insert(name.replace("layers.1.", "layers.2."), tensor.clone());
    }
    let said = open_tiny(folder.path(), &deeper, &adapter, config.clone())
        .err()
        .unwrap()
        .to_string();
    assert!(
        said.contains("2 blocks") && said.contains("layers.2"),
        "{said}"
    );

    let mut without_norm = config.clone();
    without_norm.pre_norm = false;
    let said = open_tiny(folder.path(), &base, &adapter, without_norm)
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("pre_norm"), "{said}");

    let mut more_groups = adapter.clone();
    more_groups.insert(
        "image_adapter.m_i_w.2.i_w".into(),
        adapter["image_adapter.m_i_w.1.i_w"].clone(),
    );
    let said = open_tiny(folder.path(), &base, &more_groups, config)
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("2 groups"), "{said}");
}

#[test]
fn a_missing_tensor_is_named_with_its_nearest() {
    let config = tiny_config();
    let (folder, base, adapter) = tiny(&config);
    let mut lacking = base.clone();
    let tensor = lacking
        .remove("vision_model.encoder.layers.1.mlp.fc2.bias")
        .unwrap();
    lacking.insert("vision_model.encoder.layers.1.mlp.fc2.beta".into(), tensor);
    let said = open_tiny(folder.path(), &lacking, &adapter, config)
        .err()
        .unwrap()
        .to_string();
    for part in [
        "layers.1.mlp.fc2.bias",
        "wanted [8]",
        "not in the file",
        "layers.1.mlp.fc2.beta",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn something_else_is_called_that() {
    let config = tiny_config();
    let (folder, base, adapter) = tiny(&config);
    let said = open_tiny(folder.path(), &adapter, &adapter, config.clone())
        .err()
        .unwrap()
        .to_string();
    assert!(
        said.contains("vision_model") && said.contains("image_adapter"),
        "{said}"
    );
    let said = open_tiny(folder.path(), &base, &base, config)
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("wanted adapters"), "{said}");
}

#[test]
fn a_base_alone_waits_for_adapters() {
    let config = tiny_config();
    let (folder, base, adapter) = tiny(&config);
    let file = folder.path().join("base");
    save(&base, &file);
    let mut import = Import::open(&file, None, config).unwrap();
    assert!(!import.has_adapters() && import.has_text_tower());
    let out = folder.path().join("out");
    let write = |import: &Import| {
        import.write(
            &out,
            StoragePolicy::F32,
            &TextBank::default(),
            Provenance::default(),
        )
    };
    let said = write(&import).err().unwrap().to_string();
    assert!(said.contains("--adapter"), "{said}");
    assert!(!out.exists());
    import.set_adapters(&adapter).unwrap();
    write(&import).unwrap();
    let name = "image_adapter.seg_proj.1.fc.2.weight";
    let kept = Bundle::open(&out).unwrap().tensors().read(name).unwrap();
    assert_eq!(
        kept,
        adapter[name]
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    );
}

#[test]
fn modules_see_our_errors_as_they_are() {
    let config = tiny_config();
    let (folder, base, adapter) = tiny(&config);
    let import = open_tiny(folder.path(), &base, &adapter, config).unwrap();
    let vb = import
        .var_builder(DType::F32, &Device::Cpu)
        .pp("vision_model.embeddings");
    assert_eq!(vb.get(8, "class_embedding").unwrap().dims(), [8]);
    let said = vb.get(9, "class_embedding").unwrap_err().to_string();
    let file = folder.path().join("base");
    let wanted = format!(
        "{}: tensor vision_model.embeddings.class_embedding: wanted [9], found [8]",
        file.display()
    );
    assert_eq!(said, wanted);
    let said = acdclip_model::Error::from(vb.get(8, "class_embeding").unwrap_err()).to_string();
    assert!(
        said.contains("class_embeding: wanted [8]") && said.contains("class_embedding"),
        "{said}"
    );
    assert!(!said.contains('\n'), "{said}");
}

#[test]
fn mixed_types_of_an_archive_are_kept_apart() {
    let Some(path) = shared("golden/clip_a_gelu_openai_jit_fp16.pt") else {
        return;
    };
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(
        file.info("visual.conv1.weight").unwrap(),
        (Dtype::F16, &[64, 3, 14, 14][..])
    );
    assert_eq!(file.info("logit_scale").unwrap(), (Dtype::F32, &[][..]));
    let said = file.read("input_resolution").unwrap_err().to_string();
    assert!(
        said.contains("input_resolution") && said.contains("found I64"),
        "{said}"
    );
}
