//! The bundle: what is written is what is read, in every storage type, and a file is either whole or not there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod weights;

use std::collections::HashMap;
use std::path::Path;

use acdclip_model::bundle::{Bundle, BundleWriter, Provenance, SourceFile, StoragePolicy};
use acdclip_model::calibration::{Anchors, Calibration, ClassCalibration};
use acdclip_model::import::Import;
use acdclip_model::preprocess::Resize;
use acdclip_model::tensors::{Dtype, TensorFile};
use acdclip_model::text_bank::TextBank;
use acdclip_model::{Config, Error, schema};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use serde_json::json;
use weights::{golden_config, numbers, save, shared, tensors, tiny_config};

fn bank() -> TextBank {
    let mut bank = TextBank::default();
    for class in ["tie plate", "rail", "a.b/ü"] {
        let features = Tensor::from_vec(numbers(class, 16), (2, 4, 2), &Device::Cpu).unwrap();
        bank.insert(class, features);
    }
    bank
}

fn writer<'a>(
    tensors: &'a HashMap<String, Tensor>,
    bank: &'a TextBank,
    policy: StoragePolicy,
) -> BundleWriter<'a> {
    let provenance = Provenance {
        made_by: "a test".into(),
        sources: vec![SourceFile {
            file: "a".into(),
            sha256: "b".into(),
        }],
        data: Some("nothing".into()),
        licence: Some("CC0".into()),
        metrics: json!({"pixel_auroc": 0.5}),
        notes: vec!["one".into()],
    };
    let mut writer = BundleWriter::new(tiny_config(), provenance, policy);
    for (name, tensor) in tensors {
        writer = writer.tensor(name.clone(), tensor.dims(), move || {
            Ok(tensor.flatten_all()?.to_vec1()?)
        });
    }
    writer.text_bank(bank)
}

fn write(path: &Path, policy: StoragePolicy) -> (HashMap<String, Tensor>, String) {
    let tensors = tensors(&schema::schema(&tiny_config()));
    let bank = bank();
    let writer = writer(&tensors, &bank, policy).calibration(json!({"a": [1, 2.5]}));
    let hash = writer.write(path).unwrap();
    (tensors, hash)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_round_trip_keeps_every_tensor_within_its_types_precision() {
    let folder = tempfile::tempdir().unwrap();
    for name in StoragePolicy::NAMES {
        let policy: StoragePolicy = name.parse().unwrap();
        let path = folder.path().join(name);
        let (tensors, _) = write(&path, policy);
        let bundle = Bundle::open(&path).unwrap();
        let vb = bundle.var_builder(DType::F32, &Device::Cpu);
        for (name, tensor) in &tensors {
            let found = values(&vb.get(tensor.dims(), name).unwrap());
            let wanted = values(tensor);
            let row = wanted.len() / tensor.dims()[0];
            for (i, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
                let bound = match policy.dtype(name, tensor.dims()) {
                    Dtype::F32 => 0.0,
                    Dtype::F16 => wanted.abs() / 2048.0 + 1e-7,
                    Dtype::BF16 => wanted.abs() / 256.0,
                    _ => {
                        let row = &values(tensor)[i / row * row..][..row];
                        row.iter().fold(0f32, |max, v| max.max(v.abs())) / 127.0 / 2.0 * 1.0001
                    }
                };
                assert!(
                    (wanted - found).abs() <= bound,
                    "{policy:?} {name}[{i}]: {wanted} {found}"
                );
            }
        }
        let wanted = bank();
        let found = bundle.text_bank().unwrap();
        assert_eq!(
            found.names().collect::<Vec<_>>(),
            ["tie plate", "rail", "a.b/ü"]
        );
        for (class, features) in &wanted.classes {
            assert_eq!(values(found.get(class).unwrap()), values(features));
        }
    }
}

#[test]
fn each_policy_stores_the_types_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q8");
    write(&path, StoragePolicy::Q8);
    let file = TensorFile::open(&path).unwrap();
    let dtype = |name: &str| file.info(name).unwrap().0;
    let layer = "vision_model.encoder.layers.0";
    assert_eq!(
        dtype(&format!("{layer}.self_attn.q_proj.weight")),
        Dtype::I8
    );
    assert_eq!(
        dtype("text_model.encoder.layers.1.mlp.fc2.weight"),
        Dtype::I8
    );
    let (scale, shape) = file
        .info("text_model.encoder.layers.1.mlp.fc2.weight.scale")
        .unwrap();
    assert_eq!((scale, shape), (Dtype::F32, &[4][..]));
    assert_eq!(
        dtype("vision_model.embeddings.position_embedding.weight"),
        Dtype::F16
    );
    assert_eq!(
        dtype("vision_model.embeddings.patch_embedding.weight"),
        Dtype::F16
    );
    assert_eq!(dtype("image_adapter.seg_proj.0.fc.0.weight"), Dtype::F16);
    assert_eq!(dtype("image_adapter.seg_proj.0.fc.0.bias"), Dtype::F32);
    assert_eq!(dtype(&format!("{layer}.layer_norm1.weight")), Dtype::F32);
    assert_eq!(dtype("text_bank.rail"), Dtype::F32);
    assert!("q4".parse::<StoragePolicy>().is_err());
}

proptest! {
    #[test]
    fn eight_bits_are_off_by_half_a_step_at_most(
        rows in prop::collection::vec(prop::collection::vec(-1e3f32..1e3, 8), 8),
        zero in 0usize..8,
    ) {
        let mut rows = rows;
        rows[zero] = vec![0.0; 8];
        let name = "vision_model.encoder.layers.0.self_attn.q_proj.weight";
        let mut tensors = tensors(&schema::schema(&tiny_config()));
        tensors.insert(name.into(), Tensor::new(rows.clone(), &Device::Cpu).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        let bank = bank();
        writer(&tensors, &bank, StoragePolicy::Q8).write(&path).unwrap();
        let scales = TensorFile::open(&path).unwrap().read(&format!("{name}.scale")).unwrap();
        let found = Bundle::open(&path).unwrap().tensors().read(name).unwrap();
        prop_assert_eq!(scales[zero], 1.0);
        for (i, (wanted, found)) in rows.iter().flatten().zip(&found).enumerate() {
            prop_assert!((wanted - found).abs() <= scales[i / 8] / 2.0 * 1.0001, "{} {}", wanted, found);
        }
    }
}

#[test]
fn metadata_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let (_, hash) = write(&path, StoragePolicy::F16);
    let bundle = Bundle::open(&path).unwrap();
    let mut config = tiny_config();
    config.classes = ["tie plate", "rail", "a.b/ü"].map(str::to_owned).to_vec();
    assert_eq!(bundle.config(), &config);
    assert_eq!(bundle.classes(), config.classes);
    assert_eq!(bundle.calibration(), Some(&json!({"a": [1, 2.5]})));
    let provenance = bundle.provenance();
    assert_eq!(provenance.metrics, json!({"pixel_auroc": 0.5}));
    assert_eq!(provenance.licence.as_deref(), Some("CC0"));
    assert_eq!(provenance.sources[0].sha256, "b");
    assert!(bundle.has_text_tower());
    assert_eq!(bundle.hash(), hash);
    assert_eq!(bundle.short_hash(), hash[..12]);
    assert_eq!(bundle.short_hash().len(), 12);
    bundle.verify().unwrap();
}

/// The file with its metadata document changed.
fn with_document(path: &Path, change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + size]).unwrap();
    let text = header["__metadata__"]["acdclip"].as_str().unwrap();
    let mut document = serde_json::from_str(text).unwrap();
    change(&mut document);
    header["__metadata__"]["acdclip"] = document.to_string().into();
    let header = header.to_string();
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &bytes[8 + size..],
    ]
    .concat()
}

#[test]
fn the_hash_is_of_the_content_and_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let (_, hash) = write(&path, StoragePolicy::Q8);
    let (_, again) = write(&folder.path().join("again"), StoragePolicy::Q8);
    assert_eq!(hash, again);
    assert_eq!(
        std::fs::read(&path).unwrap(),
        std::fs::read(folder.path().join("again")).unwrap()
    );

    let forget = |document: &mut serde_json::Value| {
        document.as_object_mut().unwrap().remove("content_sha256");
    };
    let computed = Bundle::from_bytes(with_document(&path, forget)).unwrap();
    assert_eq!(computed.hash(), hash);
    let relabelled = with_document(&path, |document| {
        forget(document);
        document["provenance"]["notes"] = json!(["two"]);
        document["calibration"] = json!(null);
    });
    assert_eq!(Bundle::from_bytes(relabelled).unwrap().hash(), hash);
    let other = with_document(&path, |document| {
        forget(document);
        document["config"]["input_size"] = json!(12);
    });
    assert_ne!(Bundle::from_bytes(other).unwrap().hash(), hash);

    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let said = Bundle::from_bytes(bytes)
        .unwrap()
        .verify()
        .unwrap_err()
        .to_string();
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn a_bundle_with_another_calibration_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["bundle", "other"].map(|name| folder.path().join(name));
    let (_, hash) = write(&path, StoragePolicy::Q8);
    let before = std::fs::read(&path).unwrap();
    let anchors = Anchors {
        normal: 0.3,
        threshold: 0.7,
        ..Anchors::default()
    };
    let entry = ClassCalibration {
        score: anchors.clone(),
        map: anchors,
    };
    let mut calibration = Calibration::new(&hash, Resize::Squash, None);
    calibration.classes.insert("rail".into(), entry);
    let bundle = Bundle::open(&path).unwrap();
    for to in [&other, &path] {
        bundle.write_calibrated(to, &calibration).unwrap();
        let written = Bundle::open(to).unwrap();
        written.verify().unwrap();
        assert_eq!(written.hash(), hash);
        assert_eq!(
            Calibration::choose(None, &written).unwrap().as_ref(),
            Some(&calibration)
        );
        assert_eq!(written.provenance(), bundle.provenance());
        assert_eq!(written.config(), bundle.config());
    }
    let tensors = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(tensors(&before), tensors(&std::fs::read(&other).unwrap()));
    calibration.model = "0".repeat(64);
    let third = folder.path().join("third");
    let said = bundle.write_calibrated(&third, &calibration).unwrap_err();
    assert!(said.to_string().contains(&hash), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_map_and_a_buffer_read_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    write(&path, StoragePolicy::Q8);
    let bytes = std::fs::read(&path).unwrap();
    let mapped = Bundle::open(&path).unwrap();
    let shared = Bundle::from_bytes(bytes.clone()).unwrap();
    let compiled_in = Bundle::from_static(Box::leak(bytes.into_boxed_slice())).unwrap();
    assert_eq!(compiled_in.label(), "<memory>");
    for other in [&shared, &compiled_in] {
        assert_eq!(mapped.hash(), other.hash());
        for name in mapped.tensors().names() {
            assert_eq!(
                mapped.tensors().read(name).unwrap(),
                other.tensors().read(name).unwrap()
            );
        }
    }
}

#[test]
fn candle_reads_a_bundle_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let (tensors, _) = write(&path, StoragePolicy::F32);
    let bytes = std::fs::read(&path).unwrap();
    let found = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
    for (name, tensor) in &tensors {
        assert_eq!(values(&found[name]), values(tensor), "{name}");
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    write(&path, StoragePolicy::F32);
    for version in [json!(2), json!("1"), json!(null), json!({})] {
        let bytes = with_document(&path, |document| {
            document["format_version"] = version.clone()
        });
        let said = Bundle::from_bytes(bytes).err().unwrap().to_string();
        assert!(
            said.contains("format version 1") && said.contains(&version.to_string()),
            "{said}"
        );
    }
    let bytes = with_document(&path, |document| document["added_later"] = json!([1]));
    Bundle::from_bytes(bytes).unwrap();
    let bytes = with_document(&path, |document| document["config"]["groups"] = json!(5));
    let said = Bundle::from_bytes(bytes).err().unwrap().to_string();
    assert!(said.contains("groups"), "{said}");
}

#[test]
fn a_plain_safetensors_file_is_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.safetensors");
    save(&tensors(&schema::schema(&tiny_config())), &path);
    let said = Bundle::open(&path).err().unwrap().to_string();
    assert!(
        said.contains("plain.safetensors") && said.contains("acdclip import"),
        "{said}"
    );
}

#[test]
fn a_failed_write_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    let (tensors, hash) = write(&path, StoragePolicy::F32);
    let bank = bank();
    let name = "vision_model.embeddings.position_embedding.weight";
    let with = |tensor: Tensor| {
        let mut tensors = tensors.clone();
        tensors.insert(name.into(), tensor);
        tensors
    };
    let big = with((tensors[name].clone() * 1e6).unwrap());
    let said = writer(&big, &bank, StoragePolicy::F16)
        .write(&path)
        .unwrap_err()
        .to_string();
    assert!(said.contains(name) && said.contains("F16"), "{said}");
    let nan = with((tensors[name].clone() / 0.0).unwrap());
    let said = writer(&nan, &bank, StoragePolicy::F32)
        .write(&path)
        .unwrap_err()
        .to_string();
    assert!(said.contains(name) && said.contains("finite"), "{said}");
    let narrow = with(tensors[name].narrow(1, 0, 4).unwrap());
    let said = writer(&narrow, &bank, StoragePolicy::F32)
        .write(&path)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("[10, 8]") && said.contains("[10, 4]"),
        "{said}"
    );
    let mut lacking = tensors.clone();
    lacking.remove(name);
    let said = writer(&lacking, &bank, StoragePolicy::F32)
        .write(&path)
        .unwrap_err()
        .to_string();
    assert!(said.contains(name), "{said}");
    let failing = writer(&lacking, &bank, StoragePolicy::F32)
        .tensor(name, [10, 8], || Err(Error::Config("gone".into())));
    assert!(
        failing
            .write(&path)
            .unwrap_err()
            .to_string()
            .contains("gone")
    );

    assert_eq!(Bundle::open(&path).unwrap().hash(), hash);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert_eq!(left, ["bundle"]);
}

#[test]
fn a_model_that_could_score_nothing_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_config();
    let vision = [
        schema::vision_tower(&config),
        schema::image_adapter(&config),
    ]
    .concat();
    let (tensors, bank) = (tensors(&vision), TextBank::default());
    let said = writer(&tensors, &bank, StoragePolicy::F32)
        .write(&folder.path().join("b"))
        .unwrap_err()
        .to_string();
    assert!(said.contains("text tower"), "{said}");
}

#[test]
fn an_import_without_its_text_tower_scores_its_bank_only() {
    let Some(base) = shared("golden/clip_a_gelu_openai_jit_fp16.pt") else {
        return;
    };
    let adapter = shared("golden/n2_gelu/adapter_1.pth").unwrap();
    let config: Config = golden_config("n2_gelu").unwrap();
    let mut import = Import::open(&base, Some(&adapter), config).unwrap();
    import.keep_text_tower = false;
    let mut bank = TextBank::default();
    bank.insert(
        "rail surface",
        Tensor::zeros((2, 48, 2), DType::F32, &Device::Cpu).unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    import
        .write(&path, StoragePolicy::Q8, &bank, Provenance::default())
        .unwrap();
    let bundle = Bundle::open(&path).unwrap();
    assert!(!bundle.has_text_tower());
    assert!(
        !bundle
            .tensors()
            .names()
            .any(|name| name.starts_with("text_model.") || name.starts_with("text_adapter."))
    );
    let said = bundle
        .text_bank()
        .unwrap()
        .get("bolt")
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("bolt") && said.contains("rail surface"),
        "{said}"
    );
    let provenance = bundle.provenance();
    assert!(provenance.made_by.starts_with("acdclip-model "));
    assert_eq!(provenance.notes, ["adapters of epoch 1"]);
    let files: Vec<_> = provenance
        .sources
        .iter()
        .map(|source| source.file.as_str())
        .collect();
    assert_eq!(files, ["clip_a_gelu_openai_jit_fp16.pt", "adapter_1.pth"]);
    assert!(
        provenance
            .sources
            .iter()
            .all(|source| source.sha256.len() == 64)
    );

    // A bundle is a base too: its 8-bit matrices come out as they went in.
    let again = Import::open(&path, None, bundle.config().clone()).unwrap();
    for name in bundle.tensors().names() {
        assert_eq!(
            bundle.tensors().read(name).unwrap(),
            again.tensors().read(name).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_bundle_written_again_as_stored_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let [first, again] = ["first", "again"].map(|name| folder.path().join(name));
    for policy in StoragePolicy::NAMES.map(|name| name.parse().unwrap()) {
        let (_, hash) = write(&first, policy);
        let bundle = Bundle::open(&first).unwrap();
        let bank = bundle.text_bank().unwrap();
        let config = bundle.config().clone();
        let found = BundleWriter::new(config, Provenance::default(), StoragePolicy::F32)
            .tensors_as_stored(bundle.tensors())
            .text_bank(&bank)
            .write(&again)
            .unwrap();
        // The hash is of every tensor's type and bytes.
        assert_eq!(found, hash, "{policy:?}");
        Bundle::open(&again).unwrap().verify().unwrap();
    }
}
